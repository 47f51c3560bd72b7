package attach

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"

	"golang.org/x/sys/unix"

	"cube/api"
)

// Person is a person's side of a command.
type Person struct {
	// Stdin is sent until its end. A Read that waits when the command ends is left behind: it ends with its source.
	Stdin          io.Reader // nil: nothing
	Stdout, Stderr io.Writer
	Resize         <-chan api.WindowSize // may be nil
	Signals        <-chan syscall.Signal // may be nil
}

// Run passes on what goes to and comes from the command at the other end of conn until it has ended, closes conn, and
// returns the command's exit code. An error says that there is none, or, with the codes 126 and 127, that the command could
// not be started. When ctx ends so does the command, though nobody waits for that.
func (p *Person) Run(ctx context.Context, conn io.ReadWriteCloser) (code int, err error) {
	l := newLink(ctx, conn)
	stop := context.AfterFunc(l.life, func() { conn.Close() })
	defer stop()
	room, over := newAllowance(), make(chan struct{})
	l.start(func(error) {}) // what comes tells more: the last word, or that it broke
	l.all.Go(func() { l.watch(over) })
	l.all.Go(func() { p.control(l, over) })
	if p.Stdin != nil {
		go func() { _ = p.input(l, room) }() // see Stdin; what it cannot send is of no use to anybody
	}

	end := ending{Code: -1}
	err = l.read(func(k kind, payload []byte) error { return p.take(k, payload, room, &end) })
	if errors.Is(err, errOver) {
		err = nil
	} else if why := context.Cause(l.life); why != nil {
		err = why
	}
	close(over)
	l.end(errOver)
	conn.Close()
	close(l.quit)
	l.all.Wait()
	if err == nil && end.Error != nil {
		err = end.Error
	}
	return end.Code, err
}

// errOver ends the reading after the last frame.
var errOver = errors.New("the command has ended")

// take takes a frame from the node.
func (p *Person) take(k kind, payload []byte, room *allowance, end *ending) error {
	switch k {
	case kindOutput:
		return write(p.Stdout, payload)
	case kindErrors:
		return write(p.Stderr, payload)
	case kindRoom:
		if len(payload) != 4 {
			return fmt.Errorf("%w: room in %d bytes", errForeign, len(payload))
		}
		room.grow(int(binary.BigEndian.Uint32(payload)))
	case kindExit:
		if err := json.Unmarshal(payload, end); err != nil {
			return fmt.Errorf("%w: %w", errForeign, err)
		}
		return errOver
	case kindAlive:
	default:
		return fmt.Errorf("%w: a frame of kind %d", errForeign, k)
	}
	return nil
}

func write(w io.Writer, p []byte) error {
	if _, err := w.Write(p); err != nil {
		return fmt.Errorf("write the command's output: %w", err)
	}
	return nil
}

// input sends what is read from Stdin, as far as there is room for it.
func (p *Person) input(l *link, room *allowance) error {
	for buffer := make([]byte, maxPayload); ; {
		n, err := room.wait(l.life, len(buffer))
		if err != nil {
			return err
		}
		n, err = p.Stdin.Read(buffer[:n])
		if n > 0 {
			room.spend(n)
			if err := l.send(kindInput, buffer[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return l.send(kindEnd, nil) // whatever ended it: nothing more comes
		}
	}
}

// control passes on sizes and signals.
func (p *Person) control(l *link, over <-chan struct{}) {
	sizes, signals := p.Resize, p.Signals
	for {
		var err error
		select {
		case size, ok := <-sizes:
			if !ok {
				sizes = nil
				continue
			}
			err = l.send(kindSize, binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, size.Rows), size.Columns))
		case n, ok := <-signals:
			if !ok {
				signals = nil
				continue
			}
			err = l.send(kindSignal, []byte(unix.SignalName(n)))
		case <-over:
			return
		case <-l.life.Done():
			return
		}
		if err != nil {
			return
		}
	}
}
