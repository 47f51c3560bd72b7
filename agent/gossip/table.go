package gossip

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"cube/api"
)

// How long members who are gone are remembered: the failed may come back, and people look for them; those who left are
// kept only until everyone has seen it.
const (
	keepFailed = 24 * time.Hour
	keepLeft   = 10 * time.Minute
)

// table holds the latest of every member, and a queue of those whose latest has not been handed over. It never blocks
// and calls nothing, so memberlist may call it under its locks.
type table struct {
	mu    sync.Mutex
	known map[string]*entry // by memberlist name
	queue []string          // names with news, each once, oldest news first
	wake  chan struct{}     // has room for one: the queue was empty and is not
}

type entry struct {
	member  api.Member
	life    uint64
	leaving bool      // in this life it has said farewell
	since   time.Time // of the status
	queued  bool
}

func newTable() *table {
	return &table{known: map[string]*entry{}, wake: make(chan struct{}, 1)}
}

// alive records what a member says of itself.
func (t *table) alive(m api.Member, life uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := memberName(m)
	e, ok := t.known[name]
	if !ok {
		e = &entry{}
		t.known[name] = e
	}
	if e.life != life {
		e.life, e.leaving = life, false
	}
	t.set(name, e, m)
}

// farewell records that a member goes on purpose, and reports whether that is news. It may be heard before or after the
// member is gone.
func (t *table) farewell(name string, life uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.known[name]
	if !ok || e.life != life || e.leaving {
		return false
	}
	e.leaving = true
	if m := e.member; m.Status == api.MemberFailed {
		m.Status = api.MemberLeft
		t.set(name, e, m)
	}
	return true
}

// present counts the members that answer.
func (t *table) present() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.known {
		if e.member.Status == api.MemberAlive {
			n++
		}
	}
	return n
}

// gone records that a member does not answer any more.
func (t *table) gone(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.known[name]
	if !ok {
		return
	}
	m := e.member
	m.Status = api.MemberFailed
	if e.leaving {
		m.Status = api.MemberLeft
	}
	t.set(name, e, m)
}

func (t *table) set(name string, e *entry, m api.Member) {
	if e.member == m {
		return
	}
	if e.member.Status != m.Status {
		e.since = time.Now()
	}
	e.member = m
	if e.queued {
		return
	}
	e.queued = true
	t.queue = append(t.queue, name)
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// next takes the latest of the member with the oldest news.
func (t *table) next() (api.Member, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.queue) > 0 {
		name := t.queue[0]
		t.queue = t.queue[1:]
		if e, ok := t.known[name]; ok {
			e.queued = false
			return e.member, true
		}
	}
	t.queue = nil
	return api.Member{}, false
}

// members lists those who are not known to be of another cluster.
func (t *table) members(cluster string) []api.Member {
	t.mu.Lock()
	out := make([]api.Member, 0, len(t.known))
	for _, e := range t.known {
		if !foreign(cluster, e.member.ClusterID) {
			out = append(out, e.member)
		}
	}
	t.mu.Unlock()
	slices.SortFunc(out, func(a, b api.Member) int {
		return cmp.Or(
			-cmp.Compare(a.Role, b.Role), // "server" before "client"
			cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.ID, b.ID),
		)
	})
	return out
}

// reap forgets members who have been gone for long.
func (t *table) reap(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, e := range t.known {
		age := now.Sub(e.since)
		if e.member.Status == api.MemberLeft && age > keepLeft || e.member.Status == api.MemberFailed && age > keepFailed {
			delete(t.known, name)
		}
	}
}
