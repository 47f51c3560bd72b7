package raftnode

import (
	"sync"

	"github.com/hashicorp/raft"
)

// announcer tells followers at once what is committed. Raft itself tells them with the next entries, or when Timing.Commit
// is over: a node whose session is with a follower would wait for that before it hears what it is to run.
//
// An announcement is a message raft could have sent: nothing to append after entry N of term T, and N is committed. N has
// been applied here, so it is committed for good; and a follower that has an entry with N's index and term has all that
// precedes it (Raft, section 5.3: the log matching property). So an announcement is true whenever it arrives, even under a
// later leader; one that is lost only leaves its news to raft. There is at most one under way to each follower.
type announcer struct {
	send    func(raft.ServerID, raft.ServerAddress, *raft.AppendEntriesRequest, *raft.AppendEntriesResponse) error
	sending sync.WaitGroup // one goroutine for each announcement under way

	mu        sync.Mutex // guards what follows
	committed position   // the newest that is applied here
	term      uint64     // in which the followers answered
	followers map[raft.ServerID]*follower
	closed    bool
}

// position is an entry of the log.
type position struct{ index, term uint64 }

// follower is what a follower of this leader has.
type follower struct {
	address raft.ServerAddress
	header  raft.RPCHeader // with which raft speaks to it
	leader  []byte
	has     uint64 // the newest entry that it acknowledged
	told    uint64 // the newest that it knows to be committed
	telling bool
}

// acknowledged takes note of entries that a follower has accepted.
func (a *announcer) acknowledged(id raft.ServerID, address raft.ServerAddress, r *raft.AppendEntriesRequest) {
	has := r.PrevLogEntry
	if n := len(r.Entries); n > 0 {
		has = r.Entries[n-1].Index
	}
	if has == 0 {
		return // a heartbeat
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Term < a.term {
		return
	}
	if r.Term > a.term || a.followers == nil {
		a.term, a.followers = r.Term, make(map[raft.ServerID]*follower)
	}
	f := a.followers[id]
	if f == nil {
		f = new(follower)
		a.followers[id] = f
	}
	f.address, f.header, f.leader = address, r.RPCHeader, r.Leader
	f.has = max(f.has, has)
	f.told = max(f.told, min(r.LeaderCommitIndex, has))
	a.tell(id, f)
}

// applied takes note of an entry that was applied here.
func (a *announcer) applied(l *raft.Log) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.committed = position{l.Index, l.Term}
	for id, f := range a.followers {
		a.tell(id, f)
	}
}

// tell announces to a follower what it has and does not know to be committed. The caller holds mu.
func (a *announcer) tell(id raft.ServerID, f *follower) {
	c := a.committed
	if a.closed || f.telling || f.told >= c.index || f.has < c.index {
		return
	}
	f.telling = true
	request := &raft.AppendEntriesRequest{
		RPCHeader: f.header, Leader: f.leader, Term: a.term,
		PrevLogEntry: c.index, PrevLogTerm: c.term, LeaderCommitIndex: c.index,
	}
	address := f.address
	a.sending.Go(func() {
		var answer raft.AppendEntriesResponse
		err := a.send(id, address, request, &answer)
		a.mu.Lock()
		defer a.mu.Unlock()
		f.telling = false
		if err == nil && answer.Success {
			f.told = max(f.told, c.index)
			a.tell(id, f) // what was committed meanwhile
		}
	})
}

// close ends the announcing; sending can be waited for then.
func (a *announcer) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
}
