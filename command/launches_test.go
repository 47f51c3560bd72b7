package command

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cube/api"
)

// TestAPeriodicJob: run says when it is launched first, status what it launched and when it is launched next.
func TestAPeriodicJob(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		j := webJob(1)
		j.Type, j.Periodic = api.JobBatch, &api.Periodic{Crons: []string{"30 2 * * *"}, OnMissed: api.MissedSkip}
		c.launches = func(*api.Job) *api.LaunchStatus {
			return &api.LaunchStatus{Next: []time.Time{time.Now().Add(150 * time.Minute).UTC()}}
		}
		p.cube(0, "run", jobFile(t, j))
		p.shows(`Job "web" version 1 is registered; it is launched first at 2000-01-01 02:30 UTC, in 2h30m`)

		c.jobs["web"].Launched = &api.Launched{Time: time.Now().UTC(), Note: "missed: there was no leader"}
		c.launches = func(*api.Job) *api.LaunchStatus {
			return &api.LaunchStatus{Next: []time.Time{time.Now().Add(150 * time.Minute).UTC()},
				Children: []api.JobSummary{{Name: "web-19991231-0230", Type: api.JobBatch, Status: api.JobComplete, Desired: 1, Counts: api.PhaseCounts{Complete: 1}}}}
		}
		p.cube(0, "task", "status", "web")
		p.shows("30 2 * * * (UTC)", "nothing was launched, missed: there was no leader", "Next launches", "2000-01-01 02:30 UTC, in 2h30m", "web-19991231-0230", "complete")
	})
}

// resizeJob wants a size with each dispatch.
func resizeJob() *api.Job {
	j := webJob(1)
	j.Name, j.Type = "resize", api.JobBatch
	j.Parameterized = &api.Parameterized{Payload: api.PayloadRequired, MetaRequired: []string{"size"}, MetaOptional: []string{"speed"}}
	return j
}

// takes plays instances that run for so long and then end in a phase.
func takes(c *fakeCluster, d time.Duration, end api.Phase, message string) func(*fakeCluster, *api.Job) {
	node := c.addNode("n1", nil)
	return func(c *fakeCluster, j *api.Job) {
		if j.Launches() {
			return
		}
		id := c.place(j, "web", 0, node, nil)
		c.phase(id, api.PhaseRunning, "")
		_ = pause(context.Background(), d)
		c.phase(id, end, message)
	}
}

// TestDispatchFollowsToTheEnd: what was launched is followed for as long as it takes, and the exit code says how it ended.
func TestDispatchFollowsToTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		c.registered = takes(c, 3*time.Hour, api.PhaseComplete, "")
		p.cube(0, "run", jobFile(t, resizeJob()))
		p.shows(`Job "resize" version 1 is registered; nothing of it runs until 'cube task dispatch resize -meta size=... -payload FILE' launches it`)
		p.stdin.WriteString("{}\n")
		begun := time.Now()
		p.cube(0, "task", "dispatch", "resize", "-meta", "size=3", "-payload", "-")
		p.shows(`Job "resize-00000001" is launched`, `Job "resize-00000001" is complete`)
		if took := since(begun); took != 3*time.Hour {
			t.Errorf("it took %s", took)
		}
		if r := c.asks.(api.DispatchRequest); string(r.Payload) != "{}\n" || r.Meta["size"] != "3" {
			t.Errorf("asked for %+v", r)
		}
		p.fresh()
		p.cube(0, "task", "status", "resize-00000001")
		p.shows("Launched by", "resize", "Dispatched", "size=3, a payload of 3 bytes")
	})
}

func TestDispatchOfWhatFails(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		c.registered = takes(c, time.Minute, api.PhaseFailed, "exit code 3")
		p.cube(0, "run", jobFile(t, resizeJob()))
		p.cube(2, "task", "dispatch", "resize", "-meta", "size=3", "-payload", writePayload(t, 5))
		p.shows(`job "resize-00000001" has failed`, "web[0]: exit code 3")
	})
}

// TestDispatchWaitsForAPlace: what has no room now is told of, and is launched all the same.
func TestDispatchWaitsForAPlace(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		node := c.addNode("n1", nil)
		c.registered = func(c *fakeCluster, j *api.Job) {
			if j.Launches() {
				return
			}
			c.evaluate(j.Name, api.EvalBlocked, api.Explanation{Task: "web", Wanted: 1, Nodes: 1,
				Filters: []api.FilterCount{{Filter: "memory", Nodes: 1, Wanted: "1 GiB", Seen: "96 MiB free"}}})
			_ = pause(context.Background(), time.Hour)
			c.evaluate(j.Name, api.EvalComplete)
			id := c.place(j, "web", 0, node, nil)
			c.phase(id, api.PhaseRunning, "")
			c.phase(id, api.PhaseComplete, "")
		}
		p.cube(0, "run", jobFile(t, resizeJob()))
		p.cube(0, "task", "dispatch", "resize", "-meta", "size=3", "-payload", writePayload(t, 5))
		p.shows("memory", `Job "resize-00000001" is complete`)
		p.cube(2, "task", "dispatch", "resize", "-meta", "size=3", "-payload", writePayload(t, 5), "-timeout", "10m")
		p.shows(`Accepted, but after 10m job "resize-00000002" version 1 has 0 of 1 instances complete`)
	})
}

// TestDispatchWaitsForEachNode: a node that lacks room for its instance now is waited for like any other place.
func TestDispatchWaitsForEachNode(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		n1, n2 := c.addNode("n1", nil), c.addNode("n2", nil)
		c.registered = func(c *fakeCluster, j *api.Job) {
			if j.Launches() {
				return
			}
			completes := func(slot int, n *api.NodeView) {
				id := c.place(j, "web", slot, n, nil)
				c.phase(id, api.PhaseRunning, "")
				c.phase(id, api.PhaseComplete, "")
			}
			c.evaluate(j.Name, api.EvalBlocked, api.Explanation{Task: "web", Wanted: 2, Placed: 1, Nodes: 2,
				Filters: []api.FilterCount{{Filter: "memory", Nodes: 1, Wanted: "128 MiB", Seen: "96 MiB free"}}})
			completes(0, n1)
			_ = pause(context.Background(), time.Hour)
			c.evaluate(j.Name, api.EvalComplete)
			completes(1, n2)
		}
		j := resizeJob()
		j.Type = api.JobSysbatch
		p.cube(0, "run", jobFile(t, j))
		begun := time.Now()
		p.cube(0, "task", "dispatch", "resize", "-meta", "size=3", "-payload", writePayload(t, 5))
		p.shows("1 of 2 nodes lacks memory", `Job "resize-00000001" is complete`)
		if took := since(begun); took < time.Hour {
			t.Errorf("it ended after %s", took)
		}
	})
}

func writePayload(t *testing.T, size int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "payload")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDispatchOnce: a request with a name launches one job, and says so.
func TestDispatchOnce(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		c.registered = takes(c, time.Minute, api.PhaseComplete, "")
		p.cube(0, "run", jobFile(t, resizeJob()))
		dispatch := func(code int, flags ...string) {
			t.Helper()
			p.fresh()
			p.cube(code, append([]string{"task", "dispatch", "resize", "-meta", "size=3", "-payload", writePayload(t, 5), "-id", "one"}, flags...)...)
		}
		dispatch(0, "-detach")
		if got := p.stdout.String(); got != "resize-00000001\n" {
			t.Errorf("it prints %q", got)
		}
		dispatch(0, "-detach")
		p.complains(`Job "resize-00000001" was launched with this id before: nothing new is launched`)
		dispatch(0)
		p.shows("nothing new is launched", `Job "resize-00000001" is complete`)
		dispatch(0, "-json")
		p.shows(`"Name": "resize-00000001"`, `"Changed": false`)
	})
}

func TestDispatchIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		p.cube(0, "run", jobFile(t, resizeJob()))
		for want, args := range map[string][]string{
			`Error dispatching "resize": job "resize" wants a payload, and there is none`: {"-meta", "size=3"},
			`job "resize" wants meta size, and there is none`:                             {"-payload", writePayload(t, 5)},
			`job "resize" takes no meta "colour"; it takes size, speed`:                   {"-payload", writePayload(t, 5), "-meta", "colour=red"},
			`it is over 16 KiB, more than a payload may have`:                             {"-payload", writePayload(t, api.MaxPayload+1)},
			`no such file or directory`:                                                   {"-payload", "/no/such/file"},
			`not of the form name=value`:                                                  {"-meta", "size"},
			`not a duration such as 90s or 10m`:                                           {"-timeout", "soon"},
		} {
			p.fresh()
			p.cube(1, append([]string{"task", "dispatch", "resize"}, args...)...)
			p.complains(want)
		}
		if len(c.jobs) != 1 {
			t.Errorf("%d jobs are there", len(c.jobs))
		}
	})
}

// TestManyLaunches: the status of the parent counts all of them and shows the latest; their output is that of the last.
func TestManyLaunches(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		c.registered = takes(c, time.Second, api.PhaseComplete, "")
		p.cube(0, "run", jobFile(t, resizeJob()))
		p.cube(1, "task", "logs", "resize")
		p.complains(`nothing of it was launched yet; 'cube task dispatch resize' launches it now`)
		p.cube(0, "task", "dispatch", "resize", "-meta", "size=3", "-payload", writePayload(t, 5))
		c.do(func() {
			c.output[c.allocs[0].ID] = &fakeOutput{lines: []fakeLine{{at: time.Now(), text: "resized"}}, ended: true}
		})
		c.launches = func(j *api.Job) *api.LaunchStatus {
			l := &api.LaunchStatus{Counts: map[string]int{api.JobComplete: 30, api.JobRunning: 1, api.JobFailed: 2}}
			for n := range 33 {
				l.Children = append(l.Children, api.JobSummary{Name: fmt.Sprintf("resize-%08x", n+1), Type: api.JobBatch, Status: api.JobComplete})
			}
			return l
		}
		p.fresh()
		p.cube(0, "task", "status", "resize")
		p.shows("Payload", "required", "Meta required", "size", "Meta optional", "speed", "Launched: 30 complete, 2 failed, 1 running", "resize-00000014", "13 older not shown; see -verbose, which shows 100")
		p.fresh()
		p.cube(0, "task", "logs", "resize")
		p.shows("resized")
		p.complains("The output of resize-00000001, which was launched last; 'cube task status resize' lists the others")
	})
}
