package contact

import (
	"testing"
	"time"

	"cube/api"
)

func TestDeadlines(t *testing.T) {
	g := Graces{Node: 5 * time.Second, Disconnect: 30 * time.Second}
	tests := []struct {
		name    string
		contact Contact
		gossip  api.MemberStatus
		want    int // seconds; negative: never
	}{
		{"connected and well", Contact{Connected: true}, api.MemberAlive, -1},
		{"gossip alone never brings a node down", Contact{Connected: true}, api.MemberFailed, -1},
		{"session gone, gossip failed", Contact{Since: at(0), Observed: true}, api.MemberFailed, 5},
		{"session gone, its agent left in good order", Contact{Since: at(0), Observed: true}, api.MemberLeft, 30},
		{"session gone, gossip still sees it", Contact{Since: at(0), Observed: true}, api.MemberAlive, 30},
		{"session gone, gossip never saw it", Contact{Since: at(0), Observed: true}, "", 30},
		{"a new leader has not observed the silence", Contact{Since: at(0)}, api.MemberFailed, 30},
		{"its server died: nobody knows", Contact{Since: at(3), Observed: false}, api.MemberAlive, 33},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, reason, ok := g.deadline(test.contact, test.gossip)
			switch {
			case ok != (test.want >= 0):
				t.Errorf("deadline: %v, want %v", ok, test.want >= 0)
			case ok && (!got.Equal(at(test.want)) || reason == ""):
				t.Errorf("deadline after %s because %q, want %d s", got.Sub(at(0)), reason, test.want)
			}
		})
	}
}

func TestMassHold(t *testing.T) {
	type look struct {
		at            int
		up, due, soon int
		want          int // waits until; negative: goes ahead
		fall          int // then so many are declared
	}
	tests := []struct {
		name  string
		looks []look
	}{
		{"one of ten", []look{{0, 10, 1, 1, -1, 1}}},
		{"half of ten is not over half", []look{{0, 10, 5, 5, -1, 5}}},
		{"two of three: too small a cluster to tell", []look{{0, 3, 2, 2, -1, 2}}},
		{"three of four wait two minutes and then fall", []look{{0, 4, 3, 3, 120, 0}, {60, 4, 3, 3, 120, 0}, {120, 4, 3, 3, -1, 3}}},
		{"the rest will be due within the window", []look{{0, 10, 1, 6, 120, 0}}},
		{"they come back in time", []look{{0, 10, 6, 6, 120, 0}, {30, 10, 1, 1, -1, 1}}},
		{"one after the other within the window", []look{{0, 8, 2, 2, -1, 2}, {10, 6, 2, 2, -1, 2}, {20, 4, 2, 2, 140, 0}}},
		{"one after the other, slowly", []look{{0, 8, 2, 2, -1, 2}, {40, 6, 2, 2, -1, 2}, {80, 4, 2, 2, -1, 2}}},
		{"silent but not due yet: nothing to hold", []look{{0, 10, 0, 8, -1, 0}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var h massHold
			for i, l := range test.looks {
				wait := h.check(at(l.at), l.up, l.due, l.soon)
				if wait.IsZero() != (l.want < 0) || !wait.IsZero() && !wait.Equal(at(l.want)) {
					t.Fatalf("look %d: waits until %v, want %d s", i, wait, l.want)
				}
				if l.fall > 0 {
					h.fell(at(l.at), l.fall)
				}
			}
		})
	}
}
