package session

import (
	"context"
	"fmt"
	"sync"

	"cube/api"
)

// asked are the calls of this side that have no answer yet.
type asked struct {
	mu    sync.Mutex
	last  uint32
	waits map[uint32]chan<- reply // nil while there are none
}

// add gives the next call its number.
func (a *asked) add(answer chan<- reply) uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waits == nil {
		a.waits = make(map[uint32]chan<- reply)
	}
	for {
		a.last++
		if _, taken := a.waits[a.last]; !taken { // the numbers begin anew after four billion
			a.waits[a.last] = answer
			return a.last
		}
	}
}

// take returns who waits for the answer of that number, once; nil if nobody does.
func (a *asked) take(number uint32) chan<- reply {
	a.mu.Lock()
	defer a.mu.Unlock()
	answer := a.waits[number]
	delete(a.waits, number)
	return answer
}

// answering are the calls of the other side that are being answered.
type answering struct {
	mu    sync.Mutex
	calls map[uint32]context.CancelFunc
}

// start notes a call. It fails with CodeBusy when there are too many; one whose number is in use is a fault of the other side.
func (a *answering) start(number uint32, cancel context.CancelFunc) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.calls == nil {
		a.calls = make(map[uint32]context.CancelFunc)
	}
	if _, ok := a.calls[number]; ok {
		return fmt.Errorf("%w: two calls have the number %d", errForeign, number)
	}
	if len(a.calls) >= maxAnswering {
		return api.Errorf(api.CodeBusy, "%d calls of this session are being answered; ask again", maxAnswering)
	}
	a.calls[number] = cancel
	return nil
}

func (a *answering) stop(number uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.calls, number)
}

// cancel ends the context of a call that is being answered.
func (a *answering) cancel(number uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if cancel := a.calls[number]; cancel != nil {
		cancel()
	}
}
