package raftnode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"cube/fsm"
)

// TestAnnouncements is a leader of term 2 and what it tells its followers of.
func TestAnnouncements(t *testing.T) {
	entries := func(last uint64) []*raft.Log { return []*raft.Log{{Index: last, Term: 2}} }
	type acks = raft.AppendEntriesRequest
	tests := []struct {
		story string
		steps []any // acks by their follower's ID in the header, or what is applied
		want  string
	}{
		{"a follower that has the entry when it is committed", []any{
			acks{Term: 2, Entries: entries(7), LeaderCommitIndex: 6}, &raft.Log{Index: 7, Term: 2}}, "f:7/2"},
		{"a follower that gets the entry after it was committed", []any{
			&raft.Log{Index: 7, Term: 2}, acks{Term: 2, Entries: entries(7), LeaderCommitIndex: 6}}, "f:7/2"},
		{"a follower that was told with the entries", []any{
			&raft.Log{Index: 7, Term: 2}, acks{Term: 2, Entries: entries(8), LeaderCommitIndex: 7}}, ""},
		{"a follower that was told with no entries", []any{
			&raft.Log{Index: 7, Term: 2}, acks{Term: 2, PrevLogEntry: 7, PrevLogTerm: 2, LeaderCommitIndex: 7}}, ""},
		{"a follower that lacks the entry may have another in its place", []any{
			acks{Term: 2, Entries: entries(6), LeaderCommitIndex: 5}, &raft.Log{Index: 7, Term: 2}}, ""},
		{"a commit that the follower could not believe when it was told", []any{
			&raft.Log{Index: 7, Term: 2}, acks{Term: 2, Entries: entries(5), LeaderCommitIndex: 7}, acks{Term: 2, Entries: entries(7), LeaderCommitIndex: 6}}, "f:7/2"},
		{"an entry of an earlier term", []any{
			acks{Term: 2, Entries: entries(7)}, &raft.Log{Index: 6, Term: 1}}, "f:6/1"},
		{"heartbeats say nothing", []any{
			&raft.Log{Index: 7, Term: 2}, acks{Term: 2}}, ""},
		{"what was acknowledged in an earlier term does not count in a later one", []any{
			acks{Term: 1, Entries: entries(7)}, acks{Term: 2, Entries: entries(3)}, &raft.Log{Index: 7, Term: 2}}, ""},
		{"an answer of an earlier term comes late", []any{
			acks{Term: 2, Entries: entries(3)}, acks{Term: 1, Entries: entries(7)}, &raft.Log{Index: 7, Term: 2}}, ""},
		{"each commit is announced once", []any{
			acks{Term: 2, Entries: entries(9)}, &raft.Log{Index: 7, Term: 2}, acks{Term: 2, Entries: entries(9)}, &raft.Log{Index: 8, Term: 2}}, "f:7/2 f:8/2"},
	}
	for _, test := range tests {
		t.Run(test.story, func(t *testing.T) {
			got := ""
			a := &announcer{send: func(id raft.ServerID, _ raft.ServerAddress, r *raft.AppendEntriesRequest, answer *raft.AppendEntriesResponse) error {
				if len(r.Entries) > 0 || r.LeaderCommitIndex != r.PrevLogEntry || r.Term != 2 {
					t.Errorf("announced %+v", r)
				}
				got += fmt.Sprintf(" %s:%d/%d", id, r.PrevLogEntry, r.PrevLogTerm)
				answer.Success = true
				return nil
			}}
			for _, step := range test.steps {
				switch s := step.(type) {
				case acks:
					a.acknowledged("f", "follower", &s)
				case *raft.Log:
					a.applied(s)
				}
				a.sending.Wait()
			}
			if test.want != "" {
				test.want = " " + test.want
			}
			if got != test.want {
				t.Errorf("told%s, want%s", got, test.want)
			}
		})
	}
}

// TestAnnouncementsMeetNoOtherLog lets two followers acknowledge, and answer or not, in any order: nobody is told of an
// entry that it has not acknowledged, and whoever answers knows in the end of the newest commit that it has.
func TestAnnouncementsMeetNoOtherLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		has, told := map[raft.ServerID]uint64{}, map[raft.ServerID]uint64{}
		fails := false
		var mu sync.Mutex // the followers are told side by side
		a := &announcer{send: func(id raft.ServerID, _ raft.ServerAddress, r *raft.AppendEntriesRequest, answer *raft.AppendEntriesResponse) error {
			mu.Lock()
			defer mu.Unlock()
			if r.PrevLogEntry > has[id] {
				t.Errorf("%s has %d and is told that %d is committed", id, has[id], r.PrevLogEntry)
			}
			if fails {
				return errors.New("no answer")
			}
			answer.Success = true
			told[id] = max(told[id], r.LeaderCommitIndex)
			return nil
		}}
		committed := uint64(1)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			id := rapid.SampledFrom([]raft.ServerID{"f", "g"}).Draw(t, "follower")
			if rapid.Bool().Draw(t, "acknowledges") {
				last := has[id] + rapid.Uint64Range(0, 3).Draw(t, "entries")
				r := &raft.AppendEntriesRequest{Term: 2, PrevLogEntry: has[id], LeaderCommitIndex: rapid.Uint64Range(0, committed).Draw(t, "told")}
				if last > has[id] {
					r.Entries = []*raft.Log{{Index: last, Term: 2}}
				}
				has[id] = last
				told[id] = max(told[id], min(r.LeaderCommitIndex, last))
				a.acknowledged(id, "", r)
			} else {
				committed += rapid.Uint64Range(0, 2).Draw(t, "committed")
				a.applied(&raft.Log{Index: committed, Term: 2})
			}
			a.sending.Wait()
			fails = rapid.Bool().Draw(t, "fails")
		}
		fails = false
		a.applied(&raft.Log{Index: committed, Term: 2})
		a.sending.Wait()
		for id := range has {
			if has[id] >= committed && told[id] < committed {
				t.Errorf("%s has %d and was told of %d; %d is committed", id, has[id], told[id], committed)
			}
		}
	})
}

// TestFollowersHearOfACommitAtOnce has a leader and two followers whose Raft tells of commits by itself once an hour.
func TestFollowersHearOfACommitAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var servers []raft.Server
		nodes, streams := map[string]*Node{}, map[string]*Stream{}
		dial := func(_ context.Context, address, _ string) (net.Conn, error) {
			near, far := net.Pipe()
			go streams[address].Deliver(far) // ends with the stream
			return near, nil
		}
		for _, id := range []string{"s1", "s2", "s3"} {
			servers = append(servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
			streams[id] = NewStream(id, dial)
		}
		for id, stream := range streams {
			c := config(t.TempDir(), id)
			c.Stream, c.Timing = stream, LANTiming(1)
			c.Timing.Commit = time.Hour
			n, err := Open(c)
			if err != nil {
				t.Fatal(err)
			}
			nodes[id] = n
			defer func() {
				if err := n.Close(); err != nil {
					t.Error(err)
				}
				stream.Close()
			}()
		}
		if err := nodes["s1"].Bootstrap(servers); err != nil {
			t.Fatal(err)
		}
		leaders := make(chan *Node)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for _, n := range nodes {
			go func() { // ends with ctx
				select {
				case <-n.Leadership():
					leaders <- n
				case <-ctx.Done():
				}
			}()
		}
		leader := <-leaders
		apply(t, leader, &fsm.InitCluster{ClusterID: "c1"})
		for range 10 {
			time.Sleep(time.Second)
			apply(t, leader, &fsm.Reap{})
			synctest.Wait()
			for id, n := range nodes {
				if got, want := n.machine.Snapshot().Index(), leader.machine.Snapshot().Index(); got != want {
					t.Errorf("%s is at %d and the leader at %d", id, got, want)
				}
			}
		}
	})
}
