package whatif

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cube/api"
	"cube/fsm"
	"cube/scheduler"
)

// cluster is the real state with the real scheduler, and nodes that do at once what they are told.
type cluster struct {
	t         failer
	machine   *fsm.Machine
	index     uint64
	algorithm string
	preempt   []api.JobType
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func newCluster(t failer) *cluster {
	c := &cluster{t: t, machine: fsm.New()}
	c.do(&fsm.InitCluster{ClusterID: "c1"})
	return c
}

func (c *cluster) options() scheduler.Options {
	return scheduler.Options{Algorithm: c.algorithm, Preempt: c.preempt}
}

func (c *cluster) do(body fsm.Body) fsm.Result {
	c.t.Helper()
	c.index++
	r := c.machine.Apply(c.index, &fsm.Command{At: int64(c.index) * int64(time.Second), Body: body})
	if r.Err != nil {
		c.t.Fatalf("%T: %v", body, r.Err)
	}
	return r
}

// node registers a node: NAME cpu=CORES memory=MIB gpus=N class=TEXT.
func (c *cluster) node(words []string) {
	n := &api.Node{ID: words[0], Name: words[0], Datacenter: "dc1", Incarnation: 1, Attributes: map[string]string{},
		Resources: api.Resources{CPU: 4000, Memory: 8192, Disk: 100_000},
		Drivers:   map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		amount, _ := strconv.ParseInt(value, 10, 64)
		switch key {
		case "cpu":
			n.Resources.CPU = amount * 1000
		case "memory":
			n.Resources.Memory = amount
		case "gpus":
			g := api.DeviceGroup{Type: "gpu", Model: "x"}
			for i := range amount {
				g.IDs = append(g.IDs, fmt.Sprintf("%s-g%d", n.Name, i))
			}
			if amount > 0 {
				n.Devices = []api.DeviceGroup{g}
			}
		case "class":
			n.Attributes["class"] = value
		default:
			c.t.Fatalf("a node has no %q", key)
		}
	}
	c.do(&fsm.RegisterNode{Node: n, Ready: true})
}

// job reads NAME count= memory= cpu= priority= type= image= port= class= gpus= and the word distinct.
func (c *cluster) job(words []string) *api.Job {
	t := api.DefaultTask(words[0])
	t.Image, t.Resources = "hello:1", api.Resources{CPU: 100, Memory: 1024}
	j := &api.Job{Name: words[0], Type: api.JobService, Tasks: []*api.Task{t}}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		amount, _ := strconv.Atoi(value)
		switch key {
		case "count":
			t.Count = amount
		case "memory":
			t.Resources.Memory = int64(amount)
		case "cpu":
			t.Resources.CPU = int64(amount)
		case "priority":
			j.Priority = amount
		case "type":
			j.Type = api.JobType(value)
		case "image":
			t.Image = value
		case "port":
			t.Ports = []api.Port{{Label: "http", Static: amount}}
		case "class":
			t.Constraints = append(t.Constraints, api.Constraint{Attribute: "attr.class", Operator: api.OpEqual, Value: value})
		case "gpus":
			t.Devices = []api.DeviceRequest{{Type: "gpu", Count: amount}}
		case "distinct":
			t.Constraints = append(t.Constraints, api.Constraint{Operator: api.OpDistinctHosts})
		default:
			c.t.Fatalf("a job has no %q", key)
		}
	}
	j.Canonicalize()
	if err := j.Validate(); err != nil {
		c.t.Fatalf("%v", err)
	}
	return j
}

// schedule answers what is runnable once, and reports whether anything changed.
func (c *cluster) schedule() bool {
	s := c.machine.Snapshot()
	runnable := s.Runnable(0)
	if len(runnable) == 0 {
		return false
	}
	return c.do(&fsm.CommitPlan{Plan: scheduler.Schedule(s, runnable, c.options())}).Accepted > 0 || len(c.machine.Snapshot().Runnable(0)) > 0
}

// settle goes on until there is nothing to schedule and nothing to report.
func (c *cluster) settle() {
	c.t.Helper()
	for range 10_000 {
		moved := c.schedule()
		byNode := map[string][]api.AllocationStatus{}
		for row := range c.machine.Snapshot().Rows() {
			to := row.Phase
			switch {
			case row.Live() && row.Desired == api.DesiredStop:
				to = api.PhaseComplete
			case row.Live():
				to = api.PhaseRunning
			}
			if to != row.Phase {
				byNode[row.Node] = append(byNode[row.Node], api.AllocationStatus{ID: row.ID, Seq: row.Seq + 1, Phase: to, Health: api.ImpliedHealth(to)})
			}
		}
		for _, n := range slices.Sorted(keys(byNode)) {
			c.do(&fsm.UpdateStatuses{Reports: []fsm.NodeReport{{Node: n, Statuses: byNode[n]}}})
			moved = true
		}
		if !moved {
			return
		}
	}
	c.t.Fatalf("it does not settle")
}

func keys[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// places counts the live instances by job and node.
func (c *cluster) places() map[string]map[string]int {
	out := map[string]map[string]int{}
	for row := range c.machine.Snapshot().Rows() {
		if row.Live() {
			if out[row.Job] == nil {
				out[row.Job] = map[string]int{}
			}
			out[row.Job][row.Node]++
		}
	}
	return out
}

func (c *cluster) live(job string) (n int) {
	for _, of := range c.places()[job] {
		n += of
	}
	return n
}
