package lifecycle

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"pgregory.net/rapid"

	"cube/agent/server/deployer"
	"cube/agent/server/drain"
	"cube/api"
	"cube/fsm"
	"cube/scheduler"
)

const (
	machines = 5
	grace    = 30 * time.Second // for which a node may be silent
)

// world is a cluster in one goroutine. What servers, nodes and people want written goes into a log, and is applied later, in
// between what others want, or never: when the leader changes, what it had not committed is lost.
type world struct {
	t        *rapid.T
	m        *fsm.Machine
	index    uint64
	at       time.Time
	log      []entry
	machines []*machine
	leader   *leader
	order    string // by which nodes are chosen
	preempt  []api.JobType
	events   []api.Event     // of the latest entry
	launched map[string]bool // jobs that others launched, forgotten ones included
	trail    []string        // what happened, for who has to find out
}

// entry is what somebody wants written.
type entry struct {
	body fsm.Body
	who  string
	at   time.Time
	done func(r fsm.Result, lost bool) // nil: nobody waits for it
}

// leader is what a leader keeps in its memory. A new one has none of it.
type leader struct {
	memory    scheduler.Memory
	deployer  *deployer.Deployer
	planning  bool // a plan is in the log
	judging   bool
	draining  bool
	balancing bool
	reaping   bool
	launching map[string]bool      // jobs
	barren    map[api.ID]look      // evaluations that a plan left pending though it changed nothing
	silent    map[string]time.Time // nodes, and since when
	declared  map[string]bool      // what is in the log
}

type look struct {
	index uint64
	at    time.Time
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, at: time.Unix(1_700_000_000, 0), launched: map[string]bool{}}
	w.m = fsm.New()
	w.m.Observe(w)
	w.elect()
	w.propose("leader/lead", &fsm.InitCluster{ClusterID: "c"}, nil)
	w.propose("leader/lead", &fsm.RaiseRules{Version: fsm.RulesVersion}, nil)
	for n := range machines {
		w.machines = append(w.machines, newMachine(fmt.Sprint("n", n), volumesOf(n)))
	}
	w.order = rapid.SampledFrom([]string{api.AlgorithmBinpack, api.AlgorithmSpread}).Draw(t, "algorithm")
	for _, kinds := range [][]api.JobType{{api.JobService}, {api.JobBatch, api.JobSystem}} {
		if rapid.Bool().Draw(t, "preempt") {
			w.preempt = append(w.preempt, kinds...)
		}
	}
	w.settle()
	return w
}

// Applied and Restored make the world an observer of its state.
func (w *world) Applied(_ uint64, events []api.Event) { w.events = slices.Clone(events) }
func (w *world) Restored(uint64)                      {}

func (w *world) pick(what string, of int) int { return rapid.IntRange(0, of-1).Draw(w.t, what) }

func (w *world) note(format string, args ...any) {
	w.trail = append(w.trail, fmt.Sprintf("%s %4d ", w.at.UTC().Format("02 15:04:05"), w.index)+fmt.Sprintf(format, args...))
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(w.trail, "\n"))
}

// elect makes another server the leader, one that knows nothing but the state.
func (w *world) elect() {
	w.leader = &leader{silent: map[string]time.Time{}, declared: map[string]bool{}, barren: map[api.ID]look{}, launching: map[string]bool{}}
	l := w.leader
	l.deployer = &deployer.Deployer{Machine: w.m, Now: func() int64 { return w.at.UnixNano() }, Logger: hclog.NewNullLogger(),
		Commit: func(b *fsm.JudgeDeployments) error {
			l.judging = true
			w.propose("leader/deployer", b, func(fsm.Result, bool) { l.judging = false })
			return nil
		}}
}

// succeed has the leader lose its place. Of what it has in the log so much is kept by who comes next, and the rest is gone.
func (w *world) succeed(kept int, restored bool) {
	kept = min(kept, len(w.log))
	w.note("another leader: %d of %d entries are kept, restored=%v", kept, len(w.log), restored)
	lost := w.log[kept:]
	w.log = w.log[:kept]
	for len(w.log) > 0 {
		w.commit()
	}
	w.elect()
	for _, e := range lost {
		if e.done != nil {
			e.done(fsm.Result{}, true)
		}
	}
	w.log = nil
	if restored { // it was behind, and was sent a snapshot
		var b bytes.Buffer
		if err := w.m.Snapshot().Persist(&b); err != nil {
			w.fatalf("persist: %v", err)
		}
		before := w.m.Snapshot().Fingerprint()
		if err := w.m.Restore(&b); err != nil {
			w.fatalf("restore: %v", err)
		}
		if w.m.Snapshot().Fingerprint() != before {
			w.fatalf("what was restored is another state")
		}
	}
}

func (w *world) propose(who string, body fsm.Body, done func(fsm.Result, bool)) {
	w.log = append(w.log, entry{body, who, w.at, done})
}

// commit applies the first entry that waits, through its encoding, and checks what must hold after every entry.
func (w *world) commit() {
	e := w.log[0]
	w.log = w.log[1:]
	raw, err := (&fsm.Command{At: e.at.UnixNano(), Who: e.who, Body: e.body}).Encode()
	if err != nil {
		w.fatalf("encode %T: %v", e.body, err)
	}
	command, err := fsm.Decode(raw)
	if err != nil {
		w.fatalf("decode %T: %v", e.body, err)
	}
	w.index++
	before := w.m.Snapshot()
	r := w.m.Apply(w.index, command)
	after := w.m.Snapshot()
	if errs := fsm.Check(after); len(errs) > 0 {
		w.fatalf("after %T: %v", e.body, errs)
	}
	w.tell(e, r)
	w.causes(before, after)
	w.judgeMoves(after)
	if order, ok := e.body.(*fsm.LaunchJob); ok {
		w.judgeLaunch(before, after, order, r)
	}
	if e.done != nil {
		e.done(r, false)
	}
}

// tell notes what an entry did, as far as it helps to understand a history.
func (w *world) tell(e entry, r fsm.Result) {
	for _, x := range w.events {
		switch x.Type {
		case api.EventLook, api.EventLooked, api.EventRegistered:
		default:
			w.note("  %T: %s %s/%s[%d] v%d #%d on %s %s %s", e.body, x.Type, x.Job, x.Task, x.Slot, x.Version, x.Allocation, x.Node, x.Cause, x.Detail)
		}
	}
	if r.Err != nil {
		w.note("  %T: %v", e.body, r.Err)
	}
	for _, x := range r.Rejections {
		w.note("  rejected %s/%s[%d] on %s: %s", x.Job, x.Task, x.Slot, x.Node, x.Reason)
	}
}

// lead has the leader's loops look once at what there is, in the order in which they are drawn or listed. It reports whether
// any of them did something.
func (w *world) lead() (did bool) {
	for _, loop := range []func() bool{w.plan, w.judge, w.drains, w.balances, w.launch, w.watch, w.reap} {
		did = loop() || did
	}
	return did
}

// options are what a plan depends on besides the state.
func (w *world) options() scheduler.Options {
	return scheduler.Options{Now: w.at.UnixNano(), Preempt: w.preempt, Algorithm: w.order}
}

// plan is the loop that schedules: one plan is in the log at a time.
func (w *world) plan() bool {
	l := w.leader
	if l.planning {
		return false
	}
	s := w.m.Snapshot()
	var open []*api.Evaluation
	for _, e := range s.RunnableAt(w.at.UnixNano(), 0) {
		if last := l.barren[e.ID]; last.index != e.ModifyIndex || w.at.Sub(last.at) >= time.Second {
			open = append(open, e)
		}
	}
	if len(open) == 0 {
		return false
	}
	options := w.options()
	options.Memory = &l.memory
	p := scheduler.Schedule(s, open, options)
	w.judgePlan(s, p)
	l.planning = true
	w.propose("leader/schedule", &fsm.CommitPlan{Plan: p}, func(_ fsm.Result, lost bool) {
		l.planning = false
		if lost {
			return
		}
		for i := range p.Jobs {
			j := &p.Jobs[i]
			if e := w.m.Snapshot().Evaluation(j.Evaluation); e != nil && e.Status == api.EvalPending && len(j.Placements)+len(j.Stops)+len(j.InPlace)+len(j.Preemptions) == 0 {
				l.barren[e.ID] = look{e.ModifyIndex, w.at}
			}
		}
	})
	return true
}

func (w *world) judge() bool {
	l := w.leader
	if l.judging {
		return false
	}
	if _, _, err := l.deployer.Sweep(); err != nil {
		w.fatalf("%v", err)
	}
	return l.judging
}

func (w *world) drains() bool {
	l := w.leader
	if l.draining {
		return false
	}
	due, _ := drain.Due(w.m.Snapshot(), w.at.UnixNano())
	for i, node := range due {
		l.draining = true
		last := i == len(due)-1
		w.propose("leader/drain", &fsm.DrainNode{Node: node}, func(fsm.Result, bool) {
			if last {
				l.draining = false
			}
		})
	}
	return len(due) > 0
}

// watch is the loop that declares nodes down.
func (w *world) watch() bool {
	l, did := w.leader, false
	for _, m := range w.machines {
		n := w.m.Snapshot().Node(m.id)
		if n == nil || n.Status == api.NodeDown || m.connected() {
			delete(l.silent, m.id)
			continue
		}
		since, known := l.silent[m.id]
		if !known {
			l.silent[m.id] = w.at
			continue
		}
		if w.at.Sub(since) >= grace && !l.declared[m.id] {
			l.declared[m.id], did = true, true
			w.propose("leader/liveness", &fsm.NodesDown{Nodes: []string{m.id}, Reason: "no session for 30s"}, func(fsm.Result, bool) { delete(l.declared, m.id) })
		}
	}
	return did
}

func (w *world) reap() bool {
	l := w.leader
	s := w.m.Snapshot()
	garbage := s.Garbage(1000)
	if due := s.Due(); garbage == nil && due != 0 && due <= w.at.UnixNano() {
		garbage = &fsm.Reap{}
	}
	if garbage == nil || l.reaping {
		return false
	}
	l.reaping = true
	w.propose("leader/retention", garbage, func(fsm.Result, bool) { l.reaping = false })
	return true
}

// settle commits what waits and has the leader look, until there is nothing left to do as things are.
func (w *world) settle() {
	for round := 0; ; round++ {
		if round > 2000 {
			w.fatalf("the leader does not come to rest")
		}
		if len(w.log) > 0 {
			w.commit()
			continue
		}
		if !w.lead() {
			return
		}
	}
}
