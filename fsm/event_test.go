package fsm

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cube/api"
)

// told keeps all that it is told.
type told struct {
	events   []api.Event
	restored uint64
}

func (o *told) Applied(index uint64, events []api.Event) {
	for _, e := range events {
		if e.Index != index {
			panic(fmt.Sprintf("an event of entry %d is told with entry %d", e.Index, index))
		}
	}
	o.events = append(o.events, events...)
}

func (o *told) Restored(index uint64) { o.events, o.restored = nil, index }

func (o *told) after(index uint64) []api.Event {
	return slices.DeleteFunc(slices.Clone(o.events), func(e api.Event) bool { return e.Index <= index })
}

// teller is a cluster whose state tells what happens.
func teller(t failer) (*cluster, *told) {
	c, o := newCluster(t), &told{}
	c.m.Observe(o)
	c.ok(&RaiseRules{Version: rulesTell})
	return c, o
}

// as applies a command of a person, which must not be refused.
func (c *cluster) as(who string, body Body) {
	c.t.Helper()
	c.at += int64(time.Second)
	c.index++
	raw, err := (&Command{At: c.at, Who: who, Body: body}).Encode()
	if err != nil {
		c.t.Fatalf("encode %T: %v", body, err)
	}
	c.log = append(c.log, raw)
	decoded, err := Decode(raw)
	if err != nil {
		c.t.Fatalf("decode %T: %v", body, err)
	}
	if r := c.m.Apply(c.index, decoded); r.Err != nil {
		c.t.Fatalf("%T: %v", body, r.Err)
	}
	if errs := Check(c.m.Snapshot()); len(errs) > 0 {
		c.t.Fatalf("after %T: %v", body, errs)
	}
}

// lines are events as people read them.
func (c *cluster) lines(events []api.Event) []string {
	var out []string
	for i := range events {
		m := events[i].Moment()
		out = append(out, m.View(c.m.Snapshot().Text(), c.m.Snapshot().NodeName).Text)
	}
	return out
}

// timeline is a job's, as people read it.
func (c *cluster) timeline(job string) []string {
	var out []string
	for _, m := range c.m.Snapshot().Timeline(job) {
		out = append(out, m.View(c.m.Snapshot().Text(), c.m.Snapshot().NodeName).Text)
	}
	return out
}

func wants(t *testing.T, what string, got []string, want string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(want), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	lines = slices.DeleteFunc(lines, func(l string) bool { return l == "" })
	if !slices.Equal(got, lines) {
		t.Fatalf("%s:\n%s\nwant:\n%s", what, strings.Join(got, "\n"), strings.Join(lines, "\n"))
	}
}

// timelineStory is what the stories lack: a state that tells what has happened, and who asked for it. It may not change either.
func timelineStory(t failer) *cluster {
	c, _ := teller(t)
	life(c)
	return c
}

// life drives a job through most of what can happen to one. It is part of a golden log: it may not change.
func life(c *cluster) {
	c.nodes("n1", "n2")
	web := testJob("web", api.JobService, 3)
	web.SubmittedBy, web.Source = "ada@host", &api.Source{FileName: "web.hcl"}
	c.as("ada@host", &RegisterJobs{Jobs: []*api.Job{web}})
	ids := c.run("web", 3, "n1", "n2")
	for _, id := range ids {
		c.report(id, api.PhaseRunning, health(api.HealthUnknown))
	}
	c.report(ids[0], api.PhaseRunning, health(api.HealthHealthy))
	c.report(ids[0], api.PhaseRunning, health(api.HealthUnhealthy), said("check up: 503"))
	for range 7 {
		c.wait(20 * time.Second)
		c.report(ids[1], api.PhasePending, again(1), said("exit code 1; restart 1 in 15s"))
		c.report(ids[1], api.PhaseRunning)
	}
	c.report(ids[1], api.PhaseFailed, said("exit code 1; no restart left of 7 within 5m"))
	p := c.plan("web", api.EvalBlocked)
	p.Jobs[0].Message = "web[1] failed and its restart policy is used up"
	p.Jobs[0].Explanations = []api.Explanation{{Task: "web", Wanted: 3, Placed: 2}}
	c.ok(&CommitPlan{Plan: p})
	p.BaseIndex = c.index
	c.ok(&CommitPlan{Plan: p}) // says nothing new
	c.as("bob", &ScaleJob{Name: "web", Count: 2})
	p = c.plan("web", api.EvalComplete)
	p.Jobs[0].Stops = []api.Stop{{Allocation: ids[2], Reason: "count reduced by bob"}}
	c.ok(&CommitPlan{Plan: p})
	c.report(ids[2], api.PhaseComplete)
	c.as("leader/liveness", &NodesDown{Nodes: []string{"n1"}, Reason: "silent for 30s"})
	p = c.plan("web", api.EvalComplete)
	c.put(p, 0, "n2").Replaces = ids[0]
	c.ok(&CommitPlan{Plan: p})
	c.as("ada@host", &StopAllocation{ID: c.live("web")[0]})
	c.as("bob", &SetEligibility{Node: "n2", Ineligible: true})
	c.as("bob", &StopJob{Name: "web"})
}

func said(message string) func(*api.AllocationStatus) {
	return func(st *api.AllocationStatus) { st.Message = message }
}

func again(times uint32) func(*api.AllocationStatus) {
	return func(st *api.AllocationStatus) { st.Restarts += times }
}

// TestStoryOfEvents: entries in, lines out.
func TestStoryOfEvents(t *testing.T) {
	c, o := teller(t)
	life(c)
	wants(t, "the events", c.lines(o.events), `
		node host-n1 is registered
		node host-n1 is ready
		node host-n2 is registered
		node host-n2 is ready
		version 1 submitted by ada@host: web.hcl
		to be looked at: version 1
		web[0] placed on host-n1: version 1
		web[1] placed on host-n2: version 1
		web[2] placed on host-n1: version 1
		looked at: complete
		web[0] started on host-n1
		web[1] started on host-n2
		web[2] started on host-n1
		web[0] is healthy
		web[0] is unhealthy: check up: 503
	`+strings.Repeat("web[1] restarted: exit code 1\nweb[1] is healthy\n", 7)+`
		web[1] failed: exit code 1; no restart left of 7 within 5m
		to be looked at: the instance before it ended
		web[1] failed and its restart policy is used up
		scaled web from 3 to 2 by bob
		to be looked at: scaled by bob
		web[2] is to stop: count reduced by bob
		looked at: complete
		web[2] has stopped
		node host-n1 is down: silent for 30s
		web[0] is lost: node host-n1 is down: silent for 30s
		to be looked at: node host-n1 is down
		web[0] placed on host-n2: node host-n1 is down
		looked at: complete
		web[0] is to be replaced: asked for by ada@host
		to be looked at: replacement asked for by ada@host
		node host-n2 is ineligible by bob
		job stopped by bob
		to be looked at: job stopped by bob`)
}

// TestStoryOfATimeline: what is alike is one line, what people ask about is there, with its cause.
func TestStoryOfATimeline(t *testing.T) {
	c, _ := teller(t)
	life(c)
	want := `
		version 1 submitted by ada@host: web.hcl
		web[0..2] placed on host-n1, host-n2: version 1
		web[0..2] started on host-n1, host-n2
		web[0] is unhealthy: check up: 503
		web[1] restarted 7 times in 2m: exit code 1
		web[0..1] are healthy 8 times in 2m20s
		web[1] failed: exit code 1; no restart left of 7 within 5m
		web[1] failed and its restart policy is used up
		scaled web from 3 to 2 by bob
		web[2] is to stop: count reduced by bob
		web[2] has stopped
		web[0] is lost: node host-n1 is down: silent for 30s
		web[0] placed on host-n2: node host-n1 is down
		web[0] is to be replaced: asked for by ada@host
		job stopped by bob`
	wants(t, "the timeline", c.timeline("web"), want)

	// A server that starts from a snapshot, or from the log, tells the same.
	restored := New()
	if err := restored.Restore(bytes.NewReader(persisted(t, c.m.Snapshot()))); err != nil {
		t.Fatal(err)
	}
	c.m = restored
	wants(t, "the timeline after a restore", c.timeline("web"), want)
	c.m = replay(t, New(), c.log, 0)
	wants(t, "the timeline of the log", c.timeline("web"), want)
}

// TestNothingIsToldBeforeTheRulesSaySo: logs from before there were timelines give the states that they always gave.
func TestNothingIsToldBeforeTheRulesSaySo(t *testing.T) {
	c, o := newCluster(t), &told{}
	c.m.Observe(o)
	life(c)
	if len(o.events) > 0 || len(c.timeline("web")) > 0 {
		t.Fatalf("%d events, %d moments", len(o.events), len(c.timeline("web")))
	}
	var b bytes.Buffer
	if err := c.m.Snapshot().Persist(&b); err != nil {
		t.Fatal(err)
	}
	if h, err := Inspect(&b); err != nil || h.Format > 7 {
		t.Fatalf("format %d, %v", h.Format, err)
	}
}

// TestACrashLoopIsCapped: whatever a job does, its timeline stays small, and the latest is there.
func TestACrashLoopIsCapped(t *testing.T) {
	c, _ := teller(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 40))
	ids := c.run("web", 40, "n1")
	for round := range 30 {
		c.wait(time.Minute)
		for i, id := range ids {
			c.report(id, api.PhasePending, again(1), said(fmt.Sprintf("exit code %d; restart 1 in 15s", (round+i)%29)))
		}
	}
	got := c.timeline("web")
	if len(got) > api.KeptMoments {
		t.Fatalf("%d moments", len(got))
	}
	if last := got[len(got)-1]; !strings.HasPrefix(last, "web[39] restarted: exit code 10") {
		t.Fatalf("the last is %q", last)
	}
	c.ok(&StopJob{Name: "web"})
	for _, id := range ids {
		c.report(id, api.PhaseFailed)
	}
	c.ok(&Reap{Allocations: ids, Jobs: []string{"web"}})
	if got := c.timeline("web"); len(got) > 0 {
		t.Fatalf("a purged job has a timeline of %d moments", len(got))
	}
}

// explain makes sure that every removal has a recorded cause: of each allocation that is to stop it was told that it is, and of
// each that has ended how it did, once.
func (o *told) explain(t failer, s *Snapshot) {
	if s.Rules() < rulesTell {
		return
	}
	stopping, ended := map[api.ID]int{}, map[api.ID]int{}
	for _, e := range o.events {
		switch e.Type {
		case api.EventStopping:
			stopping[e.Allocation]++
		case api.EventGone, api.EventCompleted, api.EventFailed, api.EventLost:
			ended[e.Allocation]++
		}
	}
	for row := range s.Rows() {
		want := [2]int{}
		if row.Desired == api.DesiredStop {
			want[0] = 1
		}
		if !row.Live() {
			want[1] = 1
		}
		if got := [2]int{stopping[row.ID], ended[row.ID]}; got != want {
			t.Fatalf("allocation %d is to %v and is %v; it is told %d times that it is to stop and %d times that it ended", row.ID, row.Desired, row.Phase, got[0], got[1])
		}
	}
}

// TestStoryOfARollout: where a deployment comes to is told once, with who moved it.
func TestStoryOfARollout(t *testing.T) {
	c, o := teller(t)
	c.nodes("n1")
	for _, image := range []string{"one", "two"} {
		j := testJob("web", api.JobService, 1)
		j.Tasks[0].Image = image
		c.as("ada", &RegisterJobs{Jobs: []*api.Job{j}, Deploy: true})
	}
	d := c.m.Snapshot().Deployment("web")
	for _, action := range []string{api.DeploymentPause, api.DeploymentResume} {
		c.as("bob", &SteerDeployment{ID: d.ID, DeploymentOrder: api.DeploymentOrder{Action: action}})
	}
	c.as("leader/deployments", &SteerDeployment{ID: d.ID, DeploymentOrder: api.DeploymentOrder{Action: api.DeploymentFail, Reason: "web[0] is not healthy"}})
	moved := slices.DeleteFunc(slices.Clone(o.events), func(e api.Event) bool { return e.Type.Topic() != api.TopicDeployment })
	wants(t, "the events of the deployments", c.lines(moved), `
		roll-out of version 1 begins
		roll-out of version 1 was cancelled: version 2 took its place
		roll-out of version 2 begins
		roll-out of version 2 was paused by bob
		roll-out of version 2 goes on by bob
		roll-out of version 2 failed: web[0] is not healthy`)
}

// TestWhatIsPlacedAgainSaysWhy: whatever had the job looked at last, an instance in the place of one that failed says so; one that comes
// back in the version before says how the roll-out turned; and one that leaves a drained node who drained it and why.
func TestWhatIsPlacedAgainSaysWhy(t *testing.T) {
	c, _ := teller(t)
	c.ok(&RaiseRules{Version: rulesWord})
	c.nodes("n1", "n2")
	c.deploy("one")
	c.run("web", 2, "n1")
	c.judge(api.MoveSucceed, "")
	first := func() (id api.ID) {
		for row := range c.m.Snapshot().JobRows("web") {
			if row.Slot == 0 {
				id = max(id, row.ID)
			}
		}
		return id
	}
	again := func(version uint64, node string, beside bool) {
		p := c.plan("web", api.EvalBlocked)
		placement := c.put(p, 0, node)
		placement.Version, placement.Replaces, placement.Beside = version, first(), beside
		if r := c.ok(&CommitPlan{Plan: p}); r.Accepted != 1 {
			t.Fatalf("%+v", r.Rejections)
		}
	}
	c.deploy("two")
	c.report(first(), api.PhaseFailed)
	again(2, "n1", false)
	c.report(first(), api.PhaseFailed)
	c.judge(api.MoveFail, "web[0] failed")
	again(2, "n2", false)
	c.report(first(), api.PhaseFailed)
	id := c.m.Snapshot().Deployment("web").ID
	c.as("bob", &SteerDeployment{ID: id, DeploymentOrder: api.DeploymentOrder{Action: api.DeploymentResume}})
	c.as("bob", &SteerDeployment{ID: id, DeploymentOrder: api.DeploymentOrder{Action: api.DeploymentPause}})
	again(1, "n1", false)
	c.as("bob", &DrainNode{Node: "n1", Begin: &api.DrainRequest{Message: "kernel update"}})
	again(1, "n2", true)
	var placed []string
	for _, line := range c.timeline("web") {
		if strings.Contains(line, " placed on ") {
			placed = append(placed, line)
		}
	}
	wants(t, "what was placed", placed, `
		web[0..1] placed on host-n1: version 1
		web[0] placed on host-n1: version 2
		web[0] placed on host-n2: it failed on host-n1
		web[0] placed on host-n1: the roll-out of version 2 is paused, asked for by bob
		web[0] placed on host-n2: node host-n1 drained by bob: kernel update`)
}

// TestWhatDidNotFailIsNotBlamed: what takes the place of an instance whose client was cut off, or whose port was taken, says that.
func TestWhatDidNotFailIsNotBlamed(t *testing.T) {
	c, _ := teller(t)
	c.ok(&RaiseRules{Version: rulesBlame})
	c.nodes("n1", "n2")
	c.deploy("one")
	id := c.run("web", 1, "n1")[0]
	for _, f := range []api.Failure{api.FailureCut, api.FailurePortTaken, api.FailureOOM} {
		row, _ := c.m.Snapshot().Row(id)
		c.report(id, api.PhaseFailed, func(s *api.AllocationStatus) { s.Failure = f })
		p := c.plan("web", api.EvalComplete)
		placement := c.put(p, 0, map[string]string{"n1": "n2", "n2": "n1"}[row.Node])
		placement.Version, placement.Replaces = 1, id
		if r := c.ok(&CommitPlan{Plan: p}); r.Accepted != 1 {
			t.Fatalf("%+v", r.Rejections)
		}
		id = c.live("web")[0]
	}
	var placed []string
	for _, line := range c.timeline("web") {
		if strings.Contains(line, " placed on ") {
			placed = append(placed, line)
		}
	}
	wants(t, "what was placed", placed, `
		web[0] placed on host-n1: version 1
		web[0] placed on host-n2: cut off from the servers on host-n1
		web[0] placed on host-n1: its port was taken on host-n2
		web[0] placed on host-n2: it failed on host-n1`)
}

// TestAnUpdateInWhichANodeGoesDown: what the update places is told as that, and only what is lost with the node is put down to it.
func TestAnUpdateInWhichANodeGoesDown(t *testing.T) {
	c, _ := teller(t)
	c.ok(&RaiseRules{Version: rulesStep})
	c.nodes("n1", "n2", "n3")
	c.deploy("one")
	ids := c.run("web", 2, "n1")
	c.judge(api.MoveSucceed, "")
	place := func(slot int, node string) {
		p := c.plan("web", api.EvalBlocked)
		placement := c.put(p, uint32(slot), node)
		placement.Version, placement.Replaces, placement.Beside = 2, ids[slot], true
		if r := c.ok(&CommitPlan{Plan: p}); r.Accepted != 1 {
			t.Fatalf("%+v", r.Rejections)
		}
	}
	c.deploy("two")
	place(0, "n2")
	c.ok(&NodesDown{Nodes: []string{"n2"}, Reason: "test"})
	place(1, "n3")
	ids[0] = c.live("web")[0]
	c.ok(&NodesDown{Nodes: []string{"n1"}, Reason: "test"})
	place(0, "n3")
	var placed []string
	for _, line := range c.timeline("web") {
		if strings.Contains(line, " placed on ") {
			placed = append(placed, line)
		}
	}
	wants(t, "what was placed", placed, `
		web[0..1] placed on host-n1: version 1
		web[0] placed on host-n2: version 2
		web[1] placed on host-n3: update to version 2
		web[0] placed on host-n3: node host-n1 is down`)
}
