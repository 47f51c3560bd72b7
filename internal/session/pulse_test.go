package session

import (
	"context"
	"strings"
	"testing"
	"time"

	"cube/internal/memnet"
)

// pings is how many s has sent.
func (s *Session) pings() int {
	s.pulse.mu.Lock()
	defer s.pulse.mu.Unlock()
	return s.pulse.pings
}

func TestPulse(t *testing.T) {
	const s = time.Second
	for name, c := range map[string]struct {
		p                *pulse
		now, heard, sent time.Duration
		verdict          verdict
		next             time.Duration
	}{
		"the accepting side, in good time":       {&pulse{accepts: true, quiet: 5 * s}, 4 * s, 2 * s, s, isWell, 6 * s},
		"nothing was heard":                      {&pulse{accepts: true, quiet: 5 * s}, 7 * s, 2 * s, 6 * s, needsPing, 10 * s},
		"nothing was sent":                       {&pulse{accepts: true, quiet: 5 * s}, 7 * s, 6 * s, 2 * s, needsPing, 10 * s},
		"it waits":                               {&pulse{accepts: true, quiet: 5 * s, waiting: true, asked: 7 * s}, 8 * s, 6 * s, 7 * s, isWell, 10 * s},
		"it has waited":                          {&pulse{accepts: true, quiet: 5 * s, waiting: true, asked: 7 * s}, 10 * s, 6 * s, 7 * s, isWell, 10*s + secondLook},
		"it has waited and looked":               {&pulse{accepts: true, quiet: 5 * s, waiting: true, looked: true, asked: 7 * s}, 11 * s, 6 * s, 7 * s, isSilent, 0},
		"an answer that came while it slept":     {&pulse{accepts: true, quiet: 5 * s, waiting: true, looked: true, asked: 7 * s}, 90 * s, 89 * s, 89 * s, isWell, 94 * s},
		"the dialling side listens":              {&pulse{quiet: 5 * s}, 9 * s, 2 * s, 0, isWell, 10 * s},
		"the dialling side, for too long":        {&pulse{quiet: 5 * s}, 10 * s, 2 * s, 9 * s, isWell, 10*s + secondLook},
		"the dialling side, for too long, looks": {&pulse{quiet: 5 * s, looked: true}, 11 * s, 2 * s, 9 * s, isSilent, 0},
		"the dialling side asked":                {&pulse{quiet: 5 * s, waiting: true, asked: 3 * s}, 6 * s, 2 * s, 3 * s, isWell, 6*s + secondLook},
	} {
		verdict, next := c.p.look(c.now, c.heard, c.sent)
		if verdict != c.verdict || next != c.next {
			t.Errorf("%s: %d at %s, want %d at %s", name, verdict, next, c.verdict, c.next)
		}
	}
}

// TestADoubtDuringAPing: while a ping is out there is no second one, and once it was answered there may be.
func TestADoubtDuringAPing(t *testing.T) {
	p := pulse{accepts: true, quiet: minQuiet, waiting: true, asked: 5 * time.Second}
	if _, ok := p.ask(6*time.Second, 4*time.Second); ok {
		t.Error("two pings at once")
	}
	if at, ok := p.ask(6*time.Second, 5*time.Second); !ok || at != 9*time.Second {
		t.Errorf("%s, %t after the first was answered", at, ok)
	}
}

// TestQuietSessionsArePingedSeldom, as the accepting side says; a side that doubts notices silence in three seconds all
// the same.
func TestQuietSessionsArePingedSeldom(t *testing.T) {
	for name, doubts := range map[string]bool{"without a reason to doubt": false, "with one": true} {
		t.Run(name, func(t *testing.T) {
			memnet.Bubble(t, func(t *testing.T) {
				w := newWire(t)
				dialled, taken := w.calls(t, Handler{}, Handler{Quiet: func() time.Duration { return 10 * time.Second }})
				time.Sleep(time.Hour + time.Second)
				if got := taken.pings(); got < 359 || got > 361 {
					t.Errorf("%d pings in an hour", got)
				}
				if err := dialled.Err(); err != nil {
					t.Fatal(err)
				}
				w.net.Partition([]string{nodeIP})
				cut := time.Now()
				if doubts {
					taken.Probe()
					taken.Probe()
					dialled.Probe()
				}
				for _, s := range []*Session{taken, dialled} {
					<-s.Done()
					took := time.Since(cut)
					if limit := silence + secondLook; doubts && took > limit || !doubts && (took < silence || took > limit+10*time.Second) {
						t.Errorf("it took %s", took)
					}
					if err := s.Err(); !strings.Contains(err.Error(), "nothing heard") {
						t.Error(err)
					}
				}
			})
		})
	}
}

// TestTrafficIsASignOfLife: where enough is said, nobody pings.
func TestTrafficIsASignOfLife(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		dialled, taken := newWire(t).calls(t, Handler{}, Handler{Call: func(context.Context, string, []byte) ([]byte, error) { return nil, nil }})
		for range 1000 {
			time.Sleep(900 * time.Millisecond)
			if _, err := dialled.Call(t.Context(), "x", nil); err != nil {
				t.Fatal(err)
			}
		}
		if got := taken.pings(); got != 1 {
			t.Errorf("%d pings", got)
		}
		dialled.Probe()
		taken.Probe()
		time.Sleep(time.Minute)
		if dialled.Err() != nil || taken.Err() != nil {
			t.Errorf("%v, %v", dialled.Err(), taken.Err())
		}
	})
}
