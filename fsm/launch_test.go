package fsm

import (
	"fmt"
	"testing"
	"time"

	"cube/api"
	"cube/fsm/launch"
)

func periodicJob(name string, change ...func(*api.Periodic)) *api.Job {
	j := testJob(name, api.JobBatch, 1)
	j.Periodic = &api.Periodic{Crons: []string{"0 * * * *"}, OnMissed: api.MissedSkip}
	for _, c := range change {
		c(j.Periodic)
	}
	return j
}

// launch moves time to the next full hour and launches the job for it.
func (c *cluster) launch(name string) Result {
	c.t.Helper()
	due := time.Unix(0, c.at).Truncate(time.Hour).Add(time.Hour)
	c.wait(due.Sub(time.Unix(0, c.at)))
	return c.apply(&LaunchJob{launch.Order{Name: name, Time: due.Unix()}})
}

// finish has the only instance of a job that backup launched run and complete.
func (c *cluster) finish(name string) { c.finishTask(name, "backup") }

func (c *cluster) finishTask(name, task string) {
	c.t.Helper()
	p := c.plan(name, api.EvalComplete)
	c.put(p, 0, "n1").Task = task
	c.ok(&CommitPlan{Plan: p})
	c.report(c.live(name)[0], api.PhaseComplete)
}

func TestATimeIsLaunchedOnce(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	first := c.register(periodicJob("backup"))
	equal(t, "status", c.m.Snapshot().Summary("backup").Status, api.JobWaiting)
	equal(t, "no instance of its own is asked for", c.m.Snapshot().Summary("backup").Desired, 0)
	since := c.m.Snapshot().Job("backup").Launched.Time
	equal(t, "what came before is not its affair", since.UnixNano(), c.at)
	modified := c.m.Snapshot().Job("backup").ModifyIndex

	r := c.launch("backup")
	equal(t, "launched", fmt.Sprintf("%s %v", r.Registered[0].Name, r.Err), "backup-20231114-2300 <nil>")
	s := c.m.Snapshot()
	child := s.Job("backup-20231114-2300")
	equal(t, "parent", child.Parent, "backup")
	equal(t, "the child is launched no more", child.Launches(), false)
	equal(t, "origin", child.Origin, "launched for 2023-11-14T23:00:00Z")
	equal(t, "cause", s.Open(child.Name).Cause, api.CauseLaunch)
	equal(t, "the parent has not changed", s.Job("backup").ModifyIndex, modified)
	equal(t, "nor has its version", s.Job("backup").Version, first.Version)

	// Nobody launches it again for this time or one before: not a leader that was behind, nor the same entry again.
	for _, at := range []int64{0, -60, -3600} {
		c.refused(api.CodeConflict, &LaunchJob{launch.Order{Name: "backup", Time: s.Job("backup").Launched.Time.Unix() + at}})
	}
	c.refused(api.CodeInvalid, &LaunchJob{launch.Order{Name: "backup", Time: time.Unix(0, c.at).Unix() + 3600}})
	c.refused(api.CodeNotFound, &LaunchJob{launch.Order{Name: "none", Time: 1}})
	c.refused(api.CodeConflict, &LaunchJob{launch.Order{Name: child.Name, Time: time.Unix(0, c.at).Unix()}})
	c.refused(api.CodeConflict, &RegisterJobs{Jobs: []*api.Job{testJob(child.Name, api.JobBatch, 1)}})
	c.refused(api.CodeConflict, &RegisterJobs{Jobs: []*api.Job{testJob("backup", api.JobBatch, 1)}})

	// A new version goes on with the times; a stopped job is not launched, and begins anew.
	c.register(periodicJob("backup", func(p *api.Periodic) { p.TimeZone = "Europe/Berlin" }))
	equal(t, "latest time", c.m.Snapshot().Job("backup").Launched.Time, s.Job("backup").Launched.Time)
	c.ok(&StopJob{Name: "backup"})
	equal(t, "periodic jobs", len(c.m.Snapshot().Launches().Periodic()), 0)
	equal(t, "stopped", api.CodeOf(c.launch("backup").Err), api.CodeConflict)
	c.register(periodicJob("backup"))
	equal(t, "begun anew", c.m.Snapshot().Job("backup").Launched.Time.UnixNano(), c.at)
}

func TestWhyNothingIsLaunched(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(periodicJob("backup", func(p *api.Periodic) { p.ProhibitOverlap = true }))
	note := func(r Result) string {
		t.Helper()
		if r.Err != nil || len(r.Registered) > 0 {
			t.Fatalf("launched: %+v", r)
		}
		return c.m.Snapshot().Job("backup").Launched.Note
	}
	c.launch("backup")
	equal(t, "overlap", note(c.launch("backup")), "backup-20231114-2300 still runs")
	c.finish("backup-20231114-2300")
	equal(t, "it has ended", len(c.launch("backup").Registered), 1)
	equal(t, "note", c.m.Snapshot().Job("backup").Launched.Note, "")
	c.finish("backup-20231115-0100")

	c.wait(2 * time.Hour)
	due := time.Unix(0, c.at).Truncate(time.Hour)
	equal(t, "missed", note(c.ok(&LaunchJob{launch.Order{Name: "backup", Time: due.Unix(), Missed: true}})), "missed: there was no leader")
	due = due.Add(time.Hour)
	c.wait(time.Hour)
	equal(t, "too many", note(c.ok(&LaunchJob{launch.Order{Name: "backup", Time: due.Unix(), Full: true}})), "1000 that were launched before have not finished")
	taken := api.LaunchName("backup", due.Add(time.Hour))
	c.register(testJob(taken, api.JobService, 1))
	equal(t, "the name is taken", note(c.launch("backup")), "there is a job "+taken+" already")
}

// TestLaunchedJobsAreForgotten: the latest that have ended are kept; what runs is, whatever its age; and of the rest nothing is
// left, name or number.
func TestLaunchedJobsAreForgotten(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(periodicJob("backup"))
	running := c.launch("backup").Registered[0].Name
	var ended []string
	for range launch.KeptChildren + 3 {
		name := c.launch("backup").Registered[0].Name
		c.finish(name)
		ended = append(ended, name)
	}
	equal(t, "children", len(c.m.Snapshot().Launches().Children("backup")), launch.KeptChildren+4)
	collectGarbage := func() {
		t.Helper()
		for g := c.m.Snapshot().Garbage(100); g != nil; g = c.m.Snapshot().Garbage(100) {
			c.ok(g)
		}
	}
	c.ok(&Reap{Jobs: []string{ended[len(ended)-1], running}}) // they are to be kept
	collectGarbage()
	s := c.m.Snapshot()
	equals(t, "kept", s.Launches().Children("backup"), append(reversed(ended[3:]), running))
	for _, name := range ended[:3] {
		if s.Job(name) != nil || s.jobs.get(name) != nil || len(collect(s.JobAllRows(name))) > 0 || len(s.JobEvaluations(name)) > 0 {
			t.Errorf("something is left of %s", name)
		}
	}

	again := &cluster{t: t, m: restored(t, s), index: c.index, at: c.at}
	equals(t, "after a restore", again.m.Snapshot().Launches().Children("backup"), s.Launches().Children("backup"))
	equal(t, "periodic jobs after a restore", len(again.m.Snapshot().Launches().Periodic()), 1)

	c.ok(&StopJob{Name: "backup"})
	c.ok(&Reap{Jobs: []string{"backup"}})
	collectGarbage()
	equals(t, "what is left when the parent was purged", c.m.Snapshot().Launches().Children("backup"), []string{running})
}

func reversed(in []string) (out []string) {
	for i := range in {
		out = append(out, in[len(in)-1-i])
	}
	return out
}

// launchStory is what the stories lack: a periodic job and what it launched. It may not change either.
func launchStory(t failer) *cluster {
	c := newCluster(t)
	c.nodes("n1")
	c.register(periodicJob("backup"))
	c.launch("backup")
	c.launch("backup")
	c.wait(3 * time.Hour)
	c.ok(&LaunchJob{launch.Order{Name: "backup", Time: time.Unix(0, c.at).Truncate(time.Hour).Unix(), Missed: true}})
	return c
}

func parameterizedJob(name string) *api.Job {
	j := testJob(name, api.JobBatch, 1)
	j.Parameterized = &api.Parameterized{Payload: api.PayloadOptional, MetaRequired: []string{"size"}}
	j.Tasks[0].DispatchPayload = &api.DispatchPayload{File: "input"}
	return j
}

func dispatch(name, id string, meta ...string) *LaunchJob {
	r := &api.DispatchRequest{ID: id, Payload: []byte("x")}
	if len(meta) > 0 {
		r.Meta = map[string]string{"size": meta[0]}
	}
	return &LaunchJob{launch.Order{Name: name, Asked: r}}
}

// TestADispatchIsAnEntry: what is launched, what the state says of it, and that the same entry or request launches nothing again.
func TestADispatchIsAnEntry(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(parameterizedJob("resize"))
	equal(t, "status", c.m.Snapshot().Summary("resize").Status, api.JobWaiting)
	equal(t, "no instance of its own is asked for", c.m.Snapshot().Summary("resize").Desired, 0)
	equal(t, "it is not launched at times", len(c.m.Snapshot().Launches().Periodic()), 0)
	modified := c.m.Snapshot().Job("resize").ModifyIndex

	first := c.ok(dispatch("resize", "a", "big")).Registered[0]
	s := c.m.Snapshot()
	child := s.Job(first.Name)
	equal(t, "who asked", child.SubmittedBy, "test")
	equal(t, "told", fmt.Sprint(child.DispatchEnv()), "map[CUBE_META_size:big]")
	equal(t, "cause", s.Open(child.Name).Cause, api.CauseLaunch)
	equal(t, "the parent has not changed", s.Job("resize").ModifyIndex, modified)
	equal(t, "format", s.format(), 14)

	again := c.ok(dispatch("resize", "a", "big"))
	equal(t, "the same again", again.Registered[0], RegisteredJob{Name: first.Name, Version: 1, Evaluation: first.Evaluation})
	c.refused(api.CodeConflict, dispatch("resize", "a", "small"))
	c.refused(api.CodeInvalid, dispatch("resize", ""))
	c.refused(api.CodeInvalid, dispatch(child.Name, "", "big"))
	c.refused(api.CodeNotFound, dispatch("none", "", "big"))
	one, two := c.request("r-1", dispatch("resize", "", "big")), c.request("r-1", dispatch("resize", "", "big"))
	equal(t, "a request that is sent again", two.Registered[0], one.Registered[0])
	equal(t, "replayed", two.Replayed, true)
	equal(t, "children", len(c.m.Snapshot().Launches().Children("resize")), 2)

	// What was launched goes on as it was, whatever becomes of its parent.
	c.register(func() *api.Job { j := parameterizedJob("resize"); j.Parameterized.MetaRequired = nil; return j }())
	c.ok(&StopJob{Name: "resize"})
	c.refused(api.CodeConflict, dispatch("resize", "b"))
	equal(t, "the child is not stopped", c.m.Snapshot().Job(child.Name).Stopped, false)
	restoredCluster := &cluster{t: t, m: restored(t, c.m.Snapshot()), index: c.index, at: c.at}
	equal(t, "after a restore", restoredCluster.ok(dispatch("resize", "a", "big")).Registered[0].Name, first.Name)
	c.finishTask(child.Name, "resize")
	equal(t, "complete", c.m.Snapshot().Summary(child.Name).Status, api.JobComplete)
	c.ok(&StopJob{Name: child.Name})
	c.ok(&Reap{Allocations: []api.ID{collect(c.m.Snapshot().JobAllRows(child.Name))[0].ID}, Jobs: []string{child.Name}})
	c.register(parameterizedJob("resize"))
	equal(t, "the request of one that is forgotten is new", c.ok(dispatch("resize", "a", "big")).Registered[0].Changed, true)
}

// TestAPeriodicJobIsDispatched: beside its times, which stay as they are.
func TestAPeriodicJobIsDispatched(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(periodicJob("backup", func(p *api.Periodic) { p.ProhibitOverlap = true }))
	since := c.m.Snapshot().Job("backup").Launched.Time
	now := &LaunchJob{launch.Order{Name: "backup", Asked: &api.DispatchRequest{}}}
	name := c.ok(now).Registered[0].Name
	equal(t, "its latest time", c.m.Snapshot().Job("backup").Launched.Time, since)
	c.refused(api.CodeConflict, now)
	c.launch("backup")
	equal(t, "its time comes", c.m.Snapshot().Job("backup").Launched.Note, name+" still runs")
	c.finish(name)
	equal(t, "it has ended", len(c.launch("backup").Registered), 1)
}

// dispatchStory is what the stories lack: a parameterized job and what was dispatched. It may not change either.
func dispatchStory(t failer) *cluster {
	c := newCluster(t)
	c.nodes("n1")
	c.register(parameterizedJob("resize"))
	c.register(periodicJob("backup"))
	c.ok(dispatch("resize", "a", "big"))
	c.ok(dispatch("resize", "a", "big"))
	c.apply(dispatch("resize", "a", "small"))
	c.ok(dispatch("resize", "", "small"))
	c.ok(&LaunchJob{launch.Order{Name: "backup", Asked: &api.DispatchRequest{ID: "now"}}})
	c.launch("backup")
	return c
}

// TestStoryOfLaunches: the job that launches others tells of each, and of each time for which nothing is launched. Its timeline in the
// state does not have them: they can be told from the jobs that there are.
func TestStoryOfLaunches(t *testing.T) {
	c, o := teller(t)
	c.nodes("n1")
	c.register(periodicJob("backup", func(p *api.Periodic) { p.ProhibitOverlap = true }))
	c.register(parameterizedJob("resize"))
	from := c.index
	c.launch("backup")
	c.launch("backup")
	c.as("ada@host", dispatch("resize", "a", "big"))
	var got []string
	for _, e := range o.after(from) {
		if e.Type.Topic() == api.TopicJob {
			got = append(got, e.Job+": "+c.lines([]api.Event{e})[0])
		}
	}
	name := c.m.Snapshot().Launches().Children("resize")[0]
	wants(t, "the events", got, `
		backup: launched backup-20231114-2300: for 2023-11-14T23:00:00Z
		backup-20231114-2300: version 1 submitted by test: launched for 2023-11-14T23:00:00Z
		backup: not launched for 2023-11-15T00:00:00Z: backup-20231114-2300 still runs
		resize: launched `+name+` by ada@host: dispatched as "a", meta size
		`+name+`: version 1 submitted by ada@host: dispatched as "a"`)
	wants(t, "the timeline in the state", c.timeline("resize"), "version 1 submitted by test")
}

// TestOfNothingNothingIsLeft: a job that runs to its end and has no instances is at its end when the scheduler has seen that, and does not
// stand there as running for ever: whoever waits for a launch of a job that was scaled to none waits for nothing.
func TestOfNothingNothingIsLeft(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(parameterizedJob("resize"))
	c.ok(&ScaleJob{Name: "resize", Count: 0})
	name := c.ok(dispatch("resize", "", "big")).Registered[0].Name
	if status := c.m.Snapshot().Summary(name).Status; status == api.JobComplete {
		t.Errorf("before anybody has looked at it, it is %s", status)
	}
	c.ok(&CommitPlan{Plan: c.plan(name, api.EvalComplete)})
	equal(t, "status", c.m.Snapshot().Summary(name).Status, api.JobComplete)
	c.register(testJob("web", api.JobService, 0))
	c.ok(&CommitPlan{Plan: c.plan("web", api.EvalComplete)})
	equal(t, "a service of none", c.m.Snapshot().Summary("web").Status, api.JobRunning)
}
