package attach

import (
	"context"
	"fmt"
	"io"
	"sync"
)

// input is what has come for a command to read. The connection's reader never waits for the command: what may be on its
// way is bounded, and there is room for it.
type input struct {
	life context.Context
	more func(n int) error // tells the other side that there is room for so many more bytes

	mu      sync.Mutex // guards what follows
	held    []byte
	ended   bool // nothing comes after held
	closed  bool
	read    int           // since more was last called
	changed chan struct{} // holds one: there is something new
}

func newInput(life context.Context, more func(int) error) *input {
	return &input{life: life, more: more, changed: make(chan struct{}, 1)}
}

func (i *input) wake() {
	select {
	case i.changed <- struct{}{}:
	default:
	}
}

// add takes what came. It never waits.
func (i *input) add(p []byte) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.closed:
		return nil
	case i.ended || len(i.held)+len(p) > window:
		return fmt.Errorf("%w: more input than there is room for", errForeign)
	}
	i.held = append(i.held, p...)
	i.wake()
	return nil
}

// end says that nothing more comes.
func (i *input) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
	i.wake()
}

// Read is the command's. Only one goroutine may read.
func (i *input) Read(p []byte) (int, error) {
	for {
		i.mu.Lock()
		if i.closed {
			i.mu.Unlock()
			return 0, io.ErrClosedPipe
		}
		if len(i.held) > 0 {
			n := copy(p, i.held)
			i.held = i.held[n:]
			i.read += n
			room := 0
			if i.read >= window/2 || len(i.held) == 0 {
				room, i.read = i.read, 0
			}
			i.mu.Unlock()
			if room > 0 {
				if err := i.more(room); err != nil {
					return n, err
				}
			}
			return n, nil
		}
		ended := i.ended
		i.mu.Unlock()
		if ended {
			return 0, io.EOF
		}
		select {
		case <-i.changed:
		case <-i.life.Done():
			return 0, context.Cause(i.life)
		}
	}
}

// Close drops what is held; a Read that waits ends.
func (i *input) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed, i.held = true, nil
	i.wake()
	return nil
}

// allowance is how much input may still be sent.
type allowance struct {
	mu   sync.Mutex
	left int
	more chan struct{} // holds one: it has grown
}

func newAllowance() *allowance { return &allowance{left: window, more: make(chan struct{}, 1)} }

// grow is how the node says that it has read.
func (a *allowance) grow(n int) {
	a.mu.Lock()
	a.left += n
	a.mu.Unlock()
	select {
	case a.more <- struct{}{}:
	default:
	}
}

// wait returns how much may be sent, as soon as that is anything; at most limit.
func (a *allowance) wait(ctx context.Context, limit int) (int, error) {
	for {
		a.mu.Lock()
		n := min(a.left, limit)
		a.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		select {
		case <-a.more:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func (a *allowance) spend(n int) {
	a.mu.Lock()
	a.left -= n
	a.mu.Unlock()
}
