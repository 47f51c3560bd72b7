package rollout_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cube/api"
	"cube/fsm"
	"cube/fsm/deployment"
	"cube/scheduler"
	"cube/scheduler/rollout"
)

// cell is a little cluster without I/O: the real state, the real scheduler and the real judgement of deployments, with nodes and
// time made up. It keeps nothing between two looks that a leader keeps, so every look is that of a new leader.
type cell struct {
	t     *rapid.T
	m     *fsm.Machine
	index uint64
	at    time.Time
	down  map[string]bool // nodes
	trail []string        // what happened, for who has to find out
}

const nodes = 4

func newCell(t *rapid.T) *cell {
	c := &cell{t: t, m: fsm.New(), at: time.Unix(1_700_000_000, 0), down: map[string]bool{}}
	c.apply(&fsm.InitCluster{ClusterID: "c"})
	for n := range nodes {
		c.up(fmt.Sprint("n", n))
	}
	return c
}

func (c *cell) note(format string, args ...any) {
	c.trail = append(c.trail, c.at.UTC().Format("15:04:05 ")+fmt.Sprintf(format, args...))
}

func (c *cell) fatalf(format string, args ...any) {
	c.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(c.trail, "\n"))
}

// apply sends a command through the log's encoding, and checks every invariant of the state.
func (c *cell) apply(body fsm.Body) fsm.Result {
	raw, err := (&fsm.Command{At: c.at.UnixNano(), Who: "test", Body: body}).Encode()
	if err != nil {
		c.fatalf("encode %T: %v", body, err)
	}
	command, err := fsm.Decode(raw)
	if err != nil {
		c.fatalf("decode %T: %v", body, err)
	}
	c.index++
	r := c.m.Apply(c.index, command)
	if errs := fsm.Check(c.m.Snapshot()); len(errs) > 0 {
		c.fatalf("after %T: %v", body, errs)
	}
	return r
}

func (c *cell) up(node string) {
	c.down[node] = false
	c.apply(&fsm.RegisterNode{Ready: true, Node: &api.Node{ID: node, Name: node, Resources: api.Resources{CPU: 1000, Memory: 1024},
		Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}}})
}

// register puts a version in force; whether its instances get healthy is in its image.
func (c *cell) register(image string, count int, u api.Update) {
	task := api.DefaultTask("web")
	task.Image, task.Count, task.Update = image, count, u
	job := &api.Job{Name: "web", Type: api.JobService, Priority: 50, Tasks: []*api.Task{task}}
	job.Canonicalize()
	if err := job.Validate(); err != nil {
		c.fatalf("%v", err)
	}
	c.apply(&fsm.RegisterJobs{Jobs: []*api.Job{job}, Deploy: true})
	c.note("version %d: %d x %s, %+v", c.m.Snapshot().Job("web").Version, count, image, u)
}

// lead is what a leader does: it plans what is runnable and judges what is active, until neither changes anything.
func (c *cell) lead() {
	for round := 0; ; round++ {
		if round > 1000 {
			c.fatalf("the leader does not come to rest")
		}
		before := c.m.Snapshot()
		if runnable := before.Runnable(0); len(runnable) > 0 {
			plan := scheduler.Schedule(before, runnable, scheduler.Options{})
			r := c.apply(&fsm.CommitPlan{Plan: plan})
			if len(r.Rejections) > 0 {
				c.fatalf("the commit rejects %+v", r.Rejections)
			}
			c.heed(before, plan)
			if !plan.Empty() {
				continue
			}
		}
		if !c.judge() {
			return
		}
	}
}

// judge judges the deployment as the leader's loop does, and reports whether that moved it.
func (c *cell) judge() bool {
	s := c.m.Snapshot()
	d := s.Deployment("web")
	if d == nil || !d.Status.Active() {
		return false
	}
	v := rollout.Judge(d, s.Job("web"), s.JobRows("web"), c.at)
	if v.Next.IsZero() && v.Move == "" {
		c.fatalf("an active deployment has no deadline: %+v", d)
	}
	if v.Move == "" {
		return false
	}
	c.note("deployment of %d: %s %s", d.Version, v.Move, v.Reason)
	c.apply(&fsm.JudgeDeployments{Moves: []deployment.Move{{ID: d.ID, Seen: d.ModifyIndex, To: v.Move, Reason: v.Reason, Healthy: v.Healthy, Tasks: v.Tasks}}})
	if now := c.m.Snapshot().Deployments().Get(d.ID); now.ModifyIndex == d.ModifyIndex {
		c.fatalf("a judgement did not count: %+v", v)
	}
	return true
}

// bench is what there is in a slot.
type bench struct {
	wanted, healthy int  // live instances that are to run
	outdated        bool // one of them is of an older version
	held            bool // it has or had an instance
}

func (c *cell) slots(s *fsm.Snapshot) map[uint32]*bench {
	job, out := s.Job("web"), map[uint32]*bench{}
	for row := range s.JobAllRows("web") {
		b := out[row.Slot]
		if b == nil {
			b = &bench{held: true}
			out[row.Slot] = b
		}
		if row.Live() && row.Desired == api.DesiredRun {
			b.wanted++
			b.outdated = b.outdated || row.Version != job.Version
			if row.Health == api.HealthHealthy {
				b.healthy++
			}
		}
	}
	return out
}

// heed checks what a plan's stops cost. Who stops a healthy instance for an update may have so many slots between two instances
// as the update allows, and with start-first none of those that it touches.
func (c *cell) heed(before *fsm.Snapshot, plan *api.Plan) {
	after := c.m.Snapshot()
	job := after.Job("web")
	slots := c.slots(after)
	updates := false
	for _, p := range plan.Jobs {
		for _, a := range p.Placements {
			c.note("place web[%d] v%d on %s beside=%v replaces %d", a.Slot, a.Version, a.Node, a.Beside, a.Replaces)
		}
		for _, stop := range p.Stops {
			row, _ := before.Row(stop.Allocation)
			c.note("stop web[%d] #%d v%d %s: %s", row.Slot, row.ID, row.Version, row.Health, stop.Reason)
			switch {
			case row.Health != api.HealthHealthy:
			case strings.HasSuffix(stop.Reason, "its successor is healthy"):
				if slots[row.Slot].healthy == 0 {
					c.fatalf("web[%d] has nothing healthy left", row.Slot)
				}
			case strings.HasPrefix(stop.Reason, "replaced by version "):
				updates = true
			}
		}
	}
	between := 0
	for slot, b := range slots {
		if int(slot) < job.Tasks[0].Count && b.healthy == 0 && !(b.wanted > 0 && b.outdated) {
			between++
		}
	}
	if u := job.Tasks[0].Update; updates && between > u.MaxParallel {
		c.fatalf("%d slots are between two instances; the update allows %d", between, u.MaxParallel)
	}
}

// act has an instance's client do something about it.
func (c *cell) act(row *api.AllocationRow, how int) {
	if !row.Live() || c.down[row.Node] {
		return
	}
	good := strings.HasPrefix(c.m.Snapshot().JobVersion("web", row.Version).Tasks[0].Image, "good")
	st := api.AllocationStatus{ID: row.ID, Seq: row.Seq + 1, Restarts: row.Restarts, Phase: api.PhaseRunning, Health: api.HealthUnknown}
	switch {
	case row.Desired == api.DesiredStop:
		st.Phase = api.PhaseComplete
	case how == 0:
		st.Phase, st.Failure = api.PhaseFailed, api.FailureExit
	case how == 1:
		st.Health = api.HealthUnhealthy
	case good:
		st.Health = api.HealthHealthy
	}
	c.apply(&fsm.UpdateStatuses{Reports: []fsm.NodeReport{{Node: row.Node, Statuses: []api.AllocationStatus{st}}}})
}

func (c *cell) live() (out []api.AllocationRow) {
	for row := range c.m.Snapshot().JobRows("web") {
		if row.Live() {
			out = append(out, row)
		}
	}
	return out
}

// calm has every node up and every client do what it should, with so many looks, each so long after the last.
func (c *cell) calm(looks int, each time.Duration) {
	for n := range nodes {
		if id := fmt.Sprint("n", n); c.down[id] {
			c.up(id)
		}
	}
	for range looks {
		for _, row := range c.live() {
			c.act(&row, 9)
		}
		c.lead()
		c.at = c.at.Add(each)
	}
}

func drawUpdate(t *rapid.T) api.Update {
	u := api.DefaultUpdate()
	u.MaxParallel = rapid.IntRange(1, 3).Draw(t, "max_parallel")
	u.Order = rapid.SampledFrom([]string{api.OrderStopFirst, api.OrderStartFirst}).Draw(t, "order")
	u.Canary = rapid.IntRange(0, 2).Draw(t, "canary")
	u.AutoPromote = u.Canary > 0 && rapid.Bool().Draw(t, "auto_promote")
	u.AutoRevert = rapid.Bool().Draw(t, "auto_revert")
	return u
}

// TestAnyRollOut drives updates, counts, orders of people, ends of instances, flips of checks, losses of nodes and passing time
// through state, scheduler and judgement. Whatever comes, no update costs more healthy instances than it may, nothing is stuck
// once it is quiet, and no slot has two instances.
func TestAnyRollOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCell(t)
		c.register("good-0", rapid.IntRange(1, 6).Draw(t, "count"), drawUpdate(t))
		c.lead()
		if rapid.Bool().Draw(t, "begins well") {
			c.calm(10, time.Minute)
		}
		for n := range rapid.IntRange(0, 40).Draw(t, "steps") {
			c.step(n + 1)
			c.lead()
		}
		c.calm(30, time.Minute)
		c.calm(int(api.MaxHold/time.Hour)+1, time.Hour) // what waits for a person is given up
		c.calm(30, time.Minute)
		d := c.m.Snapshot().Deployment("web")
		if d == nil || d.Status.Active() {
			c.fatalf("a day later the deployment is stuck: %+v", d)
		}
		for slot, b := range c.slots(c.m.Snapshot()) {
			if b.wanted > 1 {
				c.fatalf("web[%d] has %d instances", slot, b.wanted)
			}
		}
		u := drawUpdate(t)
		u.Canary, u.AutoPromote = 0, false
		c.register("good-last", 4, u)
		c.calm(30, time.Minute)
		s := c.m.Snapshot()
		if d := s.Deployment("web"); d.Status != api.DeploymentSuccessful {
			c.fatalf("a sound version did not get through: %+v", rollout.Judge(d, s.Job("web"), s.JobRows("web"), c.at))
		}
		for slot, b := range c.slots(s) {
			if want := min(1, max(0, 4-int(slot))); b.wanted != want || b.healthy != want || b.outdated {
				c.fatalf("web[%d] ends as %+v", slot, *b)
			}
		}
		if len(c.live()) != 4 {
			c.fatalf("%d instances live", len(c.live()))
		}
	})
}

// step is one thing that happens.
func (c *cell) step(n int) {
	s := c.m.Snapshot()
	job := s.Job("web")
	pick := func(what string, of int) int { return rapid.IntRange(0, of-1).Draw(c.t, what) }
	switch kind := pick("step", 13); kind {
	case 0:
		image := rapid.SampledFrom([]string{"good", "good", "bad"}).Draw(c.t, "image")
		c.register(fmt.Sprint(image, "-", n), job.Tasks[0].Count, drawUpdate(c.t))
	case 1:
		count := pick("count", 7)
		c.note("scale to %d", count)
		c.apply(&fsm.ScaleJob{Name: "web", Count: count})
	case 2, 3:
		node := fmt.Sprint("n", pick("node", nodes))
		if c.down[node] {
			c.note("%s is back", node)
			c.up(node)
		} else {
			c.note("%s goes down", node)
			c.down[node] = true
			c.apply(&fsm.NodesDown{Nodes: []string{node}, Reason: "test"})
		}
	case 4:
		order := rapid.SampledFrom([]string{api.DeploymentPause, api.DeploymentResume, api.DeploymentPromote, api.DeploymentFail}).Draw(c.t, "order")
		if d := s.Deployment("web"); d != nil {
			r := c.apply(&fsm.SteerDeployment{ID: d.ID, DeploymentOrder: api.DeploymentOrder{Action: order}})
			c.note("%s: %v", order, r.Err)
			if v := rollout.Judge(d, job, s.JobRows("web"), c.at); order == api.DeploymentPromote && r.Err != nil && strings.HasSuffix(v.Reason, "wait to be promoted") {
				c.fatalf("what waits to be promoted cannot be: %v", r.Err)
			}
		}
	case 5:
		if live := c.live(); len(live) > 0 {
			row := live[pick("instance", len(live))]
			c.note("alloc stop #%d", row.ID)
			c.apply(&fsm.StopAllocation{ID: row.ID})
		}
	case 12:
		var slots []int
		if pick("some", 2) == 0 && job.Tasks[0].Count > 0 {
			slots = []int{pick("slot", job.Tasks[0].Count)}
		}
		r := c.apply(&fsm.RestartJob{Name: "web", RestartRequest: api.RestartRequest{Instances: slots}, Deploy: true})
		c.note("restart %v: %v", slots, r.Err)
	case 6:
		c.at = c.at.Add(time.Duration(pick("minutes", 12)) * time.Minute)
	default:
		for _, row := range c.live() {
			how := pick("acts", 12)
			if how >= 10 {
				continue
			}
			c.act(&row, how)
		}
	}
}
