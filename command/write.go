package command

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"cube/api"
)

const (
	// writePatience is how long a write is tried again: several elections, the slowest of them included.
	writePatience = 20 * time.Second
	// writePause lets an election (about a second) get on before the next try.
	writePause = 500 * time.Millisecond
)

// write sends a write until it is known to have happened or not. Every try carries the same request ID, so that one
// whose fate is unknown can be sent again without a second effect. An agent that does not answer at all is an error at
// once, but not when it went away between two tries.
func write[T any](ctx context.Context, s *session, f func(context.Context, api.WriteMeta) (T, error)) (T, error) {
	meta := api.WriteMeta{RequestID: newRequestID(), Who: s.who()}
	begun := s.Now()
	for try := 0; ; try++ {
		v, err := f(ctx, meta)
		if err == nil || !worthAnotherTry(err, try) || s.Now().Sub(begun) > writePatience {
			return v, err
		}
		if try == 0 {
			fmt.Fprintf(s.Stderr, "Waiting for the servers: %s\n", printable(err.Error()))
		}
		if err := pause(ctx, writePause); err != nil {
			return v, err
		}
	}
}

func worthAnotherTry(err error, try int) bool {
	if api.NothingWritten(err) {
		return true
	}
	code := api.CodeOf(err)
	return code == api.CodeUnknown || code == api.CodeUnavailable && try > 0
}

func newRequestID() string { return rand.Text() }

// pause waits for d or until ctx ends, and returns ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// confirm asks a person whether to go on with something that cannot be undone.
func (s *session) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !s.isTerminal() {
		return errors.New("it cannot be undone and nobody is there to ask; give -yes to do it")
	}
	fmt.Fprintf(s.Stdout, "%s [y/N] ", question)
	answer, err := bufio.NewReader(s.Stdin).ReadString('\n')
	if err != nil && answer == "" {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("you said no; nothing was done")
}
