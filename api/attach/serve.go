package attach

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cube/api"
)

// Command is a command's side of what a person types and sees.
type Command struct {
	Stdin          io.ReadCloser // may be read by one goroutine
	Stdout, Stderr io.Writer
	Resize         <-chan api.WindowSize // the latest; what nobody took in time is replaced
	Signals        <-chan syscall.Signal
}

// maxSignals is how many signals wait for a command to take them. More than that are dropped: somebody leans on a key.
const maxSignals = 16

// Serve has run run a command for the person at the other end of conn, tells them how it ended, and closes conn. The
// context of run ends with ctx and when the person is gone, and so does all reading and writing of its streams.
func Serve(ctx context.Context, conn io.ReadWriteCloser, run func(ctx context.Context, c *Command) (code int, err error)) {
	l := newLink(ctx, conn)
	defer l.end(nil)
	in := newInput(l.life, func(n int) error { return l.send(kindRoom, binary.BigEndian.AppendUint32(nil, uint32(n))) })
	sizes, signals := make(chan api.WindowSize, 1), make(chan syscall.Signal, maxSignals)
	l.start(func(err error) { l.end(err) })
	closed, over := make(chan struct{}), make(chan struct{})
	l.all.Go(func() {
		defer close(closed)
		l.end(l.read(func(k kind, payload []byte) error { return take(k, payload, in, sizes, signals) }))
		conn.Close()
	})
	l.all.Go(func() { l.watch(over) })
	code, err := run(l.life, &Command{Stdin: in, Stdout: stream{l, kindOutput}, Stderr: stream{l, kindErrors}, Resize: sizes, Signals: signals})
	in.Close()
	close(over)

	// The last word is sent also when ctx has ended. Whoever gets it closes the connection; who does not is not waited for.
	late := time.AfterFunc(linger, func() { conn.Close() })
	defer late.Stop()
	l.out <- lastWord(code, err)
	close(l.quit)
	<-closed
	l.all.Wait()
}

// lastWord says how a command ended.
func lastWord(code int, err error) []byte {
	e := ending{Code: code}
	var known *api.Error
	switch {
	case err == nil:
	case errors.As(err, &known):
		e.Error = &api.Error{Code: known.Code, Message: err.Error()}
	case errors.Is(err, context.Canceled):
		e.Error = api.Errorf(api.CodeUnavailable, "the command was ended: its agent is shutting down")
	default:
		e.Error = api.Errorf(api.CodeInternal, "%s", err.Error())
	}
	text, err := json.Marshal(&e)
	if err != nil || len(text) > maxPayload {
		text = fmt.Appendf(nil, `{"Code":%d}`, code)
	}
	return frame(kindExit, text)
}

// take takes a frame from a person. It never waits.
func take(k kind, payload []byte, in *input, sizes chan api.WindowSize, signals chan<- syscall.Signal) error {
	switch k {
	case kindInput:
		return in.add(payload)
	case kindEnd:
		in.end()
	case kindSize:
		if len(payload) != 4 {
			return fmt.Errorf("%w: a size of %d bytes", errForeign, len(payload))
		}
		size := api.WindowSize{Rows: binary.BigEndian.Uint16(payload), Columns: binary.BigEndian.Uint16(payload[2:])}
		select {
		case <-sizes: // one that nobody has taken yet
		default:
		}
		sizes <- size // there is room: nobody else puts anything in
	case kindSignal:
		n := unix.SignalNum(string(payload))
		if n == 0 {
			return fmt.Errorf("%w: no signal has the name %.20q", errForeign, payload)
		}
		select {
		case signals <- n:
		default:
		}
	case kindAlive:
	default:
		return fmt.Errorf("%w: a frame of kind %d", errForeign, k)
	}
	return nil
}
