package server

import (
	"slices"
	"testing"
	"time"

	"cube/api"
	"cube/fsm"
	"cube/scheduler"
)

// crashLoop is a cluster without Raft whose instances all fail seconds after they were placed.
type crashLoop struct {
	*testing.T
	m     *fsm.Machine
	now   int64
	index uint64
	bytes int // of the log
	kinds map[fsm.Kind]int
	nodes map[string]int // placements by node
}

func (c *crashLoop) commit(body fsm.Body) fsm.Result {
	c.Helper()
	raw, err := (&fsm.Command{At: c.now, Who: "leader/test", Why: "a day passes", Body: body}).Encode()
	if err != nil {
		c.Fatal(err)
	}
	command, err := fsm.Decode(raw)
	if err != nil {
		c.Fatal(err)
	}
	c.index++
	c.bytes += len(raw)
	c.kinds[command.Kind]++
	r := c.m.Apply(c.index, command)
	if r.Err != nil {
		c.Fatalf("%T: %v", body, r.Err)
	}
	return r
}

// settle plans until nothing is runnable, as the leader's loop does.
func (c *crashLoop) settle() {
	for {
		s := c.m.Snapshot()
		evaluations := s.RunnableAt(c.now, batchEvaluations)
		if len(evaluations) == 0 {
			return
		}
		for _, p := range split(scheduler.Schedule(s, evaluations, options(Policy{}, nil, c.now)), entryChanges, entryBytes) {
			for _, j := range p.Jobs {
				for _, placement := range j.Placements {
					c.nodes[placement.Node]++
				}
			}
			if r := c.commit(&fsm.CommitPlan{Plan: p}); len(r.Rejections) > 0 {
				c.Fatal(r.Rejections)
			}
		}
	}
}

// fail has everything that lives run through its restarts and fail, told as its client would.
func (c *crashLoop) fail(restarts int) {
	for seq := range 2*restarts + 3 {
		c.now += int64(time.Second)
		var reports []fsm.NodeReport
		for row := range c.m.Snapshot().JobRows("web") {
			if !row.Live() {
				continue
			}
			st := api.AllocationStatus{ID: row.ID, Seq: uint64(seq + 1), Restarts: uint32(seq / 2), Phase: api.PhasePreparing, Failure: api.FailureExit, ExitCode: 3,
				StartedAt: c.now / 1e6, FinishedAt: c.now / 1e6, Message: "exit code 3; restart 1 in 1s"}
			switch {
			case seq == 2*restarts+2:
				st.Restarts, st.Phase, st.Message = uint32(restarts), api.PhaseFailed, "exit code 3; no restart left of 2 within 10m"
			case seq%2 == 1:
				st.Phase, st.Message = api.PhaseRunning, ""
			}
			reports = append(reports, fsm.NodeReport{Node: row.Node, Statuses: []api.AllocationStatus{st}})
		}
		c.commit(&fsm.UpdateStatuses{Reports: reports})
	}
}

// TestADayOfCrashLooping: what a task costs that fails for ever is bounded: its rows by retention, its log by the delay. The second
// day costs what the first did.
func TestADayOfCrashLooping(t *testing.T) {
	const slots = 4
	c := &crashLoop{T: t, m: fsm.New(), now: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC).UnixNano(), kinds: map[fsm.Kind]int{}, nodes: map[string]int{}}
	c.commit(&fsm.InitCluster{ClusterID: "c1"})
	for _, id := range []string{"n1", "n2", "n3"} {
		c.commit(&fsm.RegisterNode{Ready: true, Node: &api.Node{ID: id, Name: id, Address: "10.0.0.1", Status: api.NodeReady, Incarnation: 1,
			Resources: api.Resources{CPU: 4000, Memory: 8192}, Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}}})
	}
	task := api.DefaultTask("web")
	task.Image, task.Count = "broken", slots
	task.Restart = api.Restart{Attempts: 2, Interval: 10 * time.Minute, Delay: time.Second, MaxDelay: time.Second, Mode: api.RestartFail}
	job := &api.Job{Name: "web", Type: api.JobService, Priority: 50, Tasks: []*api.Task{task}}
	c.commit(&fsm.RegisterJobs{Jobs: []*api.Job{job}})

	var days [2]int
	for day := range days {
		before, end := c.bytes, c.now+int64(24*time.Hour)
		for c.now < end {
			c.settle()
			c.fail(2)
			c.settle()
			for garbage := c.m.Snapshot().Garbage(reapAtOnce); !empty(garbage); garbage = c.m.Snapshot().Garbage(reapAtOnce) {
				c.commit(garbage)
			}
			s := c.m.Snapshot()
			if e := s.Open("web"); e == nil || e.Status != api.EvalWaiting || s.NextAlarm() != e.WakeAt.UnixNano() {
				t.Fatalf("all has failed, and the evaluation is %+v", e)
			}
			if errs := fsm.Check(s); len(errs) > 0 {
				t.Fatal(errs)
			}
			rows, evaluations := len(slices.Collect(s.Rows())), len(s.JobEvaluations("web"))
			if rows > 3*slots || evaluations > 10 {
				t.Fatalf("%d rows and %d evaluations are kept of %d slots", rows, evaluations, slots)
			}
			c.now = s.NextAlarm()
		}
		days[day] = c.bytes - before
	}
	rounds := c.nodes["n1"] + c.nodes["n2"] + c.nodes["n3"]
	t.Logf("%d bytes the first day and %d the second, in %v entries by kind; placed %v", days[0], days[1], c.kinds, c.nodes)
	if most := 2 * slots * 150; rounds > most {
		t.Errorf("%d placements in two days, more than %d: the delay does not grow to ten minutes", rounds, most)
	}
	if perSlot := days[1] / slots; perSlot > 192<<10 || days[1] > days[0]+days[0]/10 {
		t.Errorf("a day of crash looping costs %d bytes of log a slot", perSlot)
	}
	for id, n := range c.nodes {
		if n < rounds/4 {
			t.Errorf("%s got %d of %d placements: they do not go round", id, n, rounds)
		}
	}
}
