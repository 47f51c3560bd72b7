package cubetest

import (
	"fmt"
	"sync"

	"cube/fsm"
)

// audit looks at the state of every server after every entry: all invariants hold, and servers that have applied the
// same entries have the same state to the byte.
type audit struct {
	mu     sync.Mutex
	states map[uint64][32]byte // guarded by mu; by index, of whichever server came first
	faults []string            // guarded by mu
	seen   int                 // guarded by mu; states compared with another server's
}

// by returns the audit of one server.
func (a *audit) by(server string) func(*fsm.Snapshot) {
	return func(s *fsm.Snapshot) {
		faults := fsm.Check(s)
		print := s.Fingerprint()
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, f := range faults {
			a.faults = append(a.faults, fmt.Sprintf("%s at index %d: %v", server, s.Index(), f))
		}
		first, known := a.states[s.Index()]
		switch {
		case !known:
			a.states[s.Index()] = print
		case first != print:
			a.faults = append(a.faults, fmt.Sprintf("%s at index %d has another state than the others", server, s.Index()))
		default:
			a.seen++
		}
	}
}

// report returns what was found, at most ten lines, and how many states were compared.
func (a *audit) report() (faults []string, compared int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.faults[:min(len(a.faults), 10)], a.seen
}
