package rawexec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cube/api"
	"cube/client/driver"
)

const (
	// drainQuiet is how long nothing must come before the output of an ended command counts as read: what it has left
	// behind in the background may hold its pipes for ever.
	drainQuiet = 500 * time.Millisecond
	// drainBytes bounds what is read then. A pipe holds no more of what the command itself has written.
	drainBytes = 1 << 20
	// endOfInput is what a person types at a terminal to end the input.
	endOfInput = 0x04
)

// streams are our ends of what a command reads and writes.
type streams struct {
	r      *driver.ExecRequest
	stdin  *os.File
	stdout *os.File // with a terminal it is stdin, too
	stderr *os.File

	all   sync.WaitGroup
	input sync.WaitGroup
	ended atomic.Bool
}

// childEnds are the command's.
type childEnds struct{ stdin, stdout, stderr *os.File }

func (c *childEnds) close() { closeAll(c.stdin, c.stdout, c.stderr) }

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close() // again, where one file is several
		}
	}
}

func openStreams(r *driver.ExecRequest) (*streams, *childEnds, error) {
	s, c := &streams{r: r}, &childEnds{}
	var err error
	if r.TTY {
		if s.stdin, c.stdin, err = openTerminal(r.Size); err == nil {
			s.stdout, c.stdout, c.stderr = s.stdin, c.stdin, c.stdin
		}
	} else {
		if s.stdout, c.stdout, err = os.Pipe(); err == nil {
			s.stderr, c.stderr, err = os.Pipe()
		}
		if err == nil && r.Stdin != nil {
			c.stdin, s.stdin, err = os.Pipe()
		}
	}
	if err != nil {
		s.close()
		c.close()
		return nil, nil, fmt.Errorf("make the command's input and output: %w", err)
	}
	return s, c, nil
}

// openTerminal makes a pseudo-terminal: our end and the command's.
func openTerminal(size api.WindowSize) (ours, theirs *os.File, err error) {
	ours, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	number := 0
	err = control(ours, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
		number = n
		return err
	})
	if err == nil {
		theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err == nil && size != (api.WindowSize{}) {
		err = setSize(ours, size)
	}
	if err != nil {
		closeAll(ours, theirs)
		return nil, nil, fmt.Errorf("open a terminal: %w", err)
	}
	return ours, theirs, nil
}

// control asks something of a file's descriptor, and leaves the file with the runtime's poller.
func control(f *os.File, ask func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var asked error
	if err := conn.Control(func(fd uintptr) { asked = ask(int(fd)) }); err != nil {
		return err
	}
	return asked
}

func setSize(f *os.File, size api.WindowSize) error {
	return control(f, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Columns})
	})
}

func (s *streams) resize(size api.WindowSize) {
	if s.r.TTY {
		_ = setSize(s.stdin, size) // it fails only once the terminal is gone
	}
}

func (s *streams) close() { closeAll(s.stdin, s.stdout, s.stderr) }

// begin begins to pass on what comes. failed hears when somebody cannot be given the output any more.
func (s *streams) begin(failed context.CancelCauseFunc) {
	pass := func(from *os.File, to io.Writer) {
		if from == nil {
			return
		}
		if to == nil {
			to = io.Discard
		}
		s.all.Go(func() {
			if err := s.pass(from, to); err != nil {
				failed(fmt.Errorf("pass on the command's output: %w", err))
			}
		})
	}
	pass(s.stdout, s.r.Stdout)
	pass(s.stderr, s.r.Stderr)
	if s.r.Stdin == nil {
		return
	}
	s.input.Go(func() {
		_, _ = io.Copy(s.stdin, s.r.Stdin) // a command need not read all of it
		if s.r.TTY {
			_, _ = s.stdin.Write([]byte{endOfInput})
			return
		}
		s.stdin.Close()
	})
}

// pass copies output until its end. Once the command has ended that is also when nothing more comes.
func (s *streams) pass(from *os.File, to io.Writer) error {
	left := drainBytes
	for buffer := make([]byte, 32<<10); left > 0; {
		if s.ended.Load() {
			_ = from.SetReadDeadline(time.Now().Add(drainQuiet))
		}
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return err
			}
		}
		if s.ended.Load() {
			left -= n
		}
		if err != nil && (!errors.Is(err, os.ErrDeadlineExceeded) || s.ended.Load()) {
			return nil // a terminal's end is an error, too: EIO
		}
	}
	return nil
}

// finish ends what goes in, and has what comes out be read to its end.
func (s *streams) finish() {
	s.ended.Store(true)
	for _, f := range []*os.File{s.stdout, s.stderr} {
		if f != nil {
			_ = f.SetReadDeadline(time.Now().Add(drainQuiet)) // for a read that is waiting now
		}
	}
	if s.r.Stdin != nil {
		s.r.Stdin.Close()
		_ = s.stdin.SetWriteDeadline(time.Unix(1, 0))
		s.input.Wait()
	}
}
