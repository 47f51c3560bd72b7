package memnet

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/raft"
)

// What Cube stands on runs over this network, in a bubble.

type layer struct {
	net.Listener
	host *Host
}

func (l layer) Dial(a raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return l.host.Dial(ctx, string(a))
}

// tally is a raft.FSM that counts.
type tally struct {
	mu sync.Mutex
	n  int
}

func (f *tally) Apply(*raft.Log) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	return f.n
}
func (f *tally) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}
func (f *tally) Snapshot() (raft.FSMSnapshot, error) { return nil, fmt.Errorf("no snapshots here") }
func (f *tally) Restore(io.ReadCloser) error         { return fmt.Errorf("no snapshots here") }

type voter struct {
	*raft.Raft
	ip  string
	fsm *tally
}

func voters(t *testing.T, n *Network) []voter {
	t.Helper()
	var all []voter
	var cfg raft.Configuration
	for i := 1; i <= 3; i++ {
		ip := fmt.Sprintf("10.0.0.%d", i)
		cfg.Servers = append(cfg.Servers, raft.Server{ID: raft.ServerID(ip), Address: raft.ServerAddress(ip + ":5556")})
	}
	for _, s := range cfg.Servers {
		h := n.Host(string(s.ID))
		l, err := h.Listen(string(s.Address))
		if err != nil {
			t.Fatal(err)
		}
		trans := raft.NewNetworkTransport(layer{l, h}, 3, time.Second, io.Discard)
		c := raft.DefaultConfig()
		c.LocalID = s.ID
		c.Logger = hclog.NewNullLogger()
		store, f := raft.NewInmemStore(), &tally{}
		if err := raft.BootstrapCluster(c, store, store, raft.NewInmemSnapshotStore(), trans, cfg); err != nil {
			t.Fatal(err)
		}
		r, err := raft.NewRaft(c, f, store, store, raft.NewInmemSnapshotStore(), trans)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			r.Shutdown().Error()
			trans.Close()
		})
		all = append(all, voter{r, h.IP(), f})
	}
	return all
}

// leader waits for one among some voters.
func leader(t *testing.T, among []voter) voter {
	t.Helper()
	for range 300 {
		for _, v := range among {
			if v.State() == raft.Leader {
				return v
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("no leader within 30 s")
	return voter{}
}

func TestRaftLosesItsLeaderAgainAndAgain(t *testing.T) {
	const seed, rounds = 11, 20
	Bubble(t, func(t *testing.T) {
		n := New(seed)
		t.Cleanup(n.Close)
		n.SetLatency(time.Millisecond, 2*time.Millisecond)
		all := voters(t, n)
		acked := 0
		for range rounds {
			l := leader(t, all)
			n.Partition([]string{l.ip})
			var rest []voter
			for _, v := range all {
				if v.ip != l.ip {
					rest = append(rest, v)
				}
			}
			for range 10 {
				if err := leader(t, rest).Apply([]byte("x"), time.Second).Error(); err == nil {
					acked++
				}
			}
			n.Heal()
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
		for _, v := range all {
			if got := v.fsm.count(); got < acked {
				t.Errorf("%s applied %d of %d acknowledged entries (seed %d)", v.ip, got, acked, seed)
			}
		}
		if acked < rounds*9 {
			t.Errorf("only %d of %d entries were acknowledged (seed %d)", acked, rounds*10, seed)
		}
	})
}

func TestMemberlistFindsAndLoses(t *testing.T) {
	Bubble(t, func(t *testing.T) {
		n := New(5)
		n.SetLatency(time.Millisecond, time.Millisecond)
		n.SetLoss(0.02)
		var lists []*memberlist.Memberlist
		for i := 1; i <= 5; i++ {
			ip := fmt.Sprintf("10.0.0.%d", i)
			trans, err := n.Host(ip).Transport(":5557")
			if err != nil {
				t.Fatal(err)
			}
			cfg := memberlist.DefaultLANConfig()
			cfg.Name, cfg.Transport, cfg.LogOutput = ip, trans, io.Discard
			m, err := memberlist.Create(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { m.Shutdown() })
			if _, err := m.Join([]string{"10.0.0.1:5557"}); err != nil {
				t.Fatal(err)
			}
			lists = append(lists, m)
		}
		sees := func(m *memberlist.Memberlist, want int, within time.Duration) {
			t.Helper()
			begin := time.Now()
			for m.NumMembers() != want {
				if time.Since(begin) > within {
					t.Fatalf("%s sees %d members, not %d, after %s", m.LocalNode().Name, m.NumMembers(), want, within)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		for _, m := range lists {
			sees(m, 5, 10*time.Second)
		}
		n.Partition([]string{"10.0.0.5"})
		for _, m := range lists[:4] {
			sees(m, 4, 20*time.Second)
		}
		n.Heal() // memberlist may never look for the dead again by itself
		if _, err := lists[4].Join([]string{"10.0.0.1:5557"}); err != nil {
			t.Fatal(err)
		}
		for _, m := range lists {
			sees(m, 5, 30*time.Second)
		}
	})
}
