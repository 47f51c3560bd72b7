package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cube/internal/memnet"
)

// heirs are the members that may succeed the leader, in the order of their turns.
func heirs(members []*member, leader *member) []*member {
	others := slices.DeleteFunc(slices.Clone(members), func(m *member) bool { return m == leader })
	slices.SortFunc(others, func(a, b *member) int { return strings.Compare(a.cfg.ID, b.cfg.ID) })
	return others
}

// TestAKilledLeaderIsSucceededAtOnce: a process that is gone is told from one that is silent. The machine that is gone is
// missed only by its heartbeats.
func TestAKilledLeaderIsSucceededAtOnce(t *testing.T) {
	for _, death := range []struct {
		name    string
		how     memnet.Death
		atLeast time.Duration
		atMost  time.Duration
	}{
		{"process", memnet.Reset, 0, 100 * time.Millisecond},
		{"machine", memnet.Blackhole, 300 * time.Millisecond, 5 * time.Second},
	} {
		t.Run(death.name, func(t *testing.T) {
			memnet.Bubble(t, func(t *testing.T) {
				c := newCluster(t)
				servers := c.three()
				leader := leaderOf(servers...)
				for i := range 10 {
					leader.register(job(fmt.Sprintf("job-%d", i), 1))
				}
				others := heirs(servers, leader)
				time.Sleep(time.Second) // virtual: nothing is under way, so that the first heir has all
				began := time.Now()
				c.net.Crash(leader.ip, death.how)
				next := leaderOf(others...)
				if took := time.Since(began); took < death.atLeast || took > death.atMost {
					t.Errorf("the next leader is ready after %s, want %s to %s", took, death.atLeast, death.atMost)
				}
				if death.how == memnet.Reset && next != others[0] {
					t.Errorf("%s leads, it was the turn of %s", next.cfg.ID, others[0].cfg.ID)
				}
				for i := range 10 {
					if next.machine.Snapshot().Job(fmt.Sprintf("job-%d", i)) == nil {
						t.Errorf("job-%d is lost", i)
					}
				}
				leader.halt()
			})
		})
	}
}

// TestTheFirstHeirIsBehind: whose turn is first lacks what a majority has. It is not elected, and the next one is, in its turn.
func TestTheFirstHeirIsBehind(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := newCluster(t)
		servers := c.three()
		leader := leaderOf(servers...)
		leader.register(job("early", 1))
		others := heirs(servers, leader)
		time.Sleep(time.Second) // virtual: until here all have the same
		c.net.Cut(leader.ip, others[0].ip)
		leader.register(job("late", 1))
		c.net.Crash(leader.ip, memnet.Reset)
		c.net.Heal()
		began := time.Now()
		next := leaderOf(others...)
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("the next leader is ready after %s", took)
		}
		if next != others[1] || next.machine.Snapshot().Job("late") == nil {
			t.Errorf("%s leads; late is there: %v", next.cfg.ID, next.machine.Snapshot().Job("late") != nil)
		}
		leader.halt()
	})
}
