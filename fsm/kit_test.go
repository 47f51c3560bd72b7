package fsm

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"cube/api"
)

// cluster drives a Machine as a leader would: each command goes through its encoding, the index grows, time passes, and
// every invariant is checked after every entry.
type cluster struct {
	t     failer
	m     *Machine
	index uint64
	at    int64
	log   [][]byte // what was applied, encoded
}

// failer is the part of testing.TB that rapid.T has too.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

const startOfTime = int64(1_700_000_000_000_000_000)

func newCluster(t failer) *cluster {
	c := &cluster{t: t, m: New(), at: startOfTime}
	c.ok(&InitCluster{ClusterID: "c1"})
	return c
}

func (c *cluster) wait(d time.Duration) { c.at += int64(d) }

// apply applies a command that may be refused.
func (c *cluster) apply(body Body) Result { return c.request("", body) }

func (c *cluster) request(id string, body Body) Result {
	c.t.Helper()
	c.at += int64(time.Millisecond)
	cmd := &Command{RequestID: id, At: c.at, Who: "test", Why: "because", Body: body}
	raw, err := cmd.Encode()
	if err != nil {
		c.t.Fatalf("encode %T: %v", body, err)
	}
	c.log = append(c.log, raw)
	decoded, err := Decode(raw)
	if err != nil {
		c.t.Fatalf("decode %T: %v", body, err)
	}
	c.index++
	before := c.m.Snapshot()
	r := c.m.Apply(c.index, decoded)
	after := c.m.Snapshot()
	if errs := Check(after); len(errs) > 0 {
		c.t.Fatalf("after %T at %d: %v", body, c.index, errs)
	}
	if r.Err != nil && !sameBut(before, after) {
		c.t.Fatalf("%T was refused (%v), and the state has changed", body, r.Err)
	}
	return r
}

// sameBut reports whether two snapshots differ in nothing but index and time, and what only they have expired.
func sameBut(a, b *Snapshot) bool {
	if a.ports.quarantine.Len() != b.ports.quarantine.Len() {
		return true
	}
	x, y := *a, *b
	x.index, x.now, x.changed[TableAny] = y.index, y.now, y.changed[TableAny]
	return x.Fingerprint() == y.Fingerprint()
}

// ok applies a command that must not be refused.
func (c *cluster) ok(body Body) Result {
	c.t.Helper()
	r := c.apply(body)
	if r.Err != nil {
		c.t.Fatalf("%T: %v", body, r.Err)
	}
	return r
}

// refused applies a command that must be refused with the code.
func (c *cluster) refused(code api.Code, body Body) {
	c.t.Helper()
	if r := c.apply(body); api.CodeOf(r.Err) != code {
		c.t.Fatalf("%T: want %s, got %v", body, code, r.Err)
	}
}

func (c *cluster) nodes(ids ...string) {
	c.t.Helper()
	for _, id := range ids {
		c.ok(&RegisterNode{Node: testNode(id), Ready: true})
	}
}

func testNode(id string) *api.Node {
	return &api.Node{ID: id, Name: "host-" + id, Address: "10.0.0.1", Resources: api.Resources{CPU: 4000, Memory: 8192, Disk: 1 << 20},
		Attributes: map[string]string{"kernel.name": "linux"}, Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}},
		Incarnation: 1}
}

func testJob(name string, kind api.JobType, count int) *api.Job {
	task := api.DefaultTask(name)
	task.Image, task.Count = "hello", count
	return &api.Job{Name: name, Type: kind, Priority: api.DefaultPriority, Tasks: []*api.Task{task}}
}

func (c *cluster) register(j *api.Job) RegisteredJob {
	c.t.Helper()
	return c.ok(&RegisterJobs{Jobs: []*api.Job{j}}).Registered[0]
}

var oneSize = api.Resources{CPU: 100, Memory: 128}

// plan begins a plan for a job's open evaluation.
func (c *cluster) plan(job string, status api.EvaluationStatus) *api.Plan {
	c.t.Helper()
	s := c.m.Snapshot()
	p := api.JobPlan{Job: job, Status: status}
	if e := s.Open(job); e != nil {
		p.Evaluation = e.ID
	}
	if j := s.Job(job); j != nil {
		p.JobModifyIndex = j.ModifyIndex
	}
	return &api.Plan{BaseIndex: s.Index(), Jobs: []api.JobPlan{p}}
}

// put adds a placement of the job's current version to the plan.
func (c *cluster) put(p *api.Plan, slot uint32, node string, ports ...int) *api.Placement {
	jp := &p.Jobs[len(p.Jobs)-1]
	placement := api.Placement{Task: jp.Job, Slot: slot, Version: c.m.Snapshot().Job(jp.Job).Version, Node: node, Held: oneSize}
	for i, port := range ports {
		placement.Ports = append(placement.Ports, api.PortBinding{Label: fmt.Sprintf("p%d", i), Host: port, To: 80})
	}
	jp.Placements = append(jp.Placements, placement)
	return &jp.Placements[len(jp.Placements)-1]
}

// run places slots 0 to n-1 of a job over the nodes and completes its evaluation.
func (c *cluster) run(job string, n int, nodes ...string) []api.ID {
	c.t.Helper()
	p := c.plan(job, api.EvalComplete)
	for slot := range n {
		c.put(p, uint32(slot), nodes[slot%len(nodes)])
	}
	if r := c.ok(&CommitPlan{Plan: p}); r.Accepted != n {
		c.t.Fatalf("placed %d of %d: %v", r.Accepted, n, r.Rejections)
	}
	return c.live(job)
}

// live returns a job's allocations that are not terminal, by task, slot and ID.
func (c *cluster) live(job string) []api.ID {
	var out []api.ID
	for row := range c.m.Snapshot().JobRows(job) {
		if row.Live() {
			out = append(out, row.ID)
		}
	}
	return out
}

// report sends the next status of an allocation.
func (c *cluster) report(id api.ID, phase api.Phase, edit ...func(*api.AllocationStatus)) Result {
	c.t.Helper()
	row, _ := c.m.Snapshot().Row(id)
	st := api.AllocationStatus{ID: id, Seq: row.Seq + 1, Restarts: row.Restarts, Phase: phase, Health: api.ImpliedHealth(phase), StartedAt: 5}
	for _, e := range edit {
		e(&st)
	}
	return c.ok(&UpdateStatuses{Reports: []NodeReport{{Node: row.Node, Statuses: []api.AllocationStatus{st}}}})
}

// health is what report says of health.
func health(h api.HealthStatus) func(*api.AllocationStatus) {
	return func(st *api.AllocationStatus) { st.Health = h }
}

func (c *cluster) phase(id api.ID) api.Phase {
	row, _ := c.m.Snapshot().Row(id)
	return row.Phase
}

func (c *cluster) status(job string) api.EvaluationStatus {
	if e := c.m.Snapshot().Open(job); e != nil {
		return e.Status
	}
	return ""
}

func (c *cluster) runnable() []string {
	var out []string
	for _, e := range c.m.Snapshot().Runnable(0) {
		out = append(out, e.Job)
	}
	return out
}

func persisted(t failer, s *Snapshot) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Persist(&b); err != nil {
		t.Fatalf("persist: %v", err)
	}
	return b.Bytes()
}

func collect[T any](seq iter.Seq[T]) []T { return slices.Collect(seq) }

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func equals[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}
