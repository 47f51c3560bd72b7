package command

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cube/api"
)

// jobFile writes a task file as the fake cluster reads them.
func jobFile(t *testing.T, jobs ...*api.Job) string {
	t.Helper()
	b, err := json.Marshal(jobs)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "web.hcl")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func webJob(count int, checks ...api.Check) *api.Job {
	task := api.DefaultTask("web")
	task.Count, task.Image, task.Checks = count, "hello:1", checks
	return &api.Job{Name: "web", Type: api.JobService, Priority: 50, Tasks: []*api.Task{task}}
}

// bubble runs a test in virtual time that begins at 2000-01-01 00:00:00 UTC.
func bubble(t *testing.T, f func(t *testing.T, c *fakeCluster, p *terminal)) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster()
		defer c.scripts.Wait()
		// Virtual time goes on only when everybody waits for something.
		c.settle = func() { time.Sleep(time.Nanosecond) }
		f(t, c, newTerminal(t, c))
	})
}

// since is the virtual time gone by, without the nanoseconds that settling takes.
func since(begun time.Time) time.Duration { return time.Since(begun).Truncate(time.Millisecond) }

// startsAll is a scheduler and clients that do what they should: instance n runs after n+1 seconds.
func startsAll(node *api.NodeView) func(*fakeCluster, *api.Job) {
	return func(c *fakeCluster, job *api.Job) {
		var ids []string
		for n := range job.Tasks[0].Count {
			ids = append(ids, c.place(job, job.Tasks[0].Name, n, node, nil))
		}
		c.evaluate(job.Name, api.EvalComplete)
		for _, id := range ids {
			c.phase(id, api.PhasePreparing, "pulling hello:1: 3 of 12 MiB")
			time.Sleep(time.Second)
			c.phase(id, api.PhaseRunning, "")
		}
	}
}

func TestRunFollowsUntilAllRun(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		c.registered = startsAll(c.addNode("n1", nil))
		begun := time.Now()
		p.cube(0, "run", jobFile(t, webJob(2)))
		if took := since(begun); took != 5*time.Second {
			t.Errorf("it took %s; the last instance starts after 2 s and counts 3 s later", took)
		}
		golden(t, "run_pipe", p.stdout.String())
	})
}

func TestRunRedrawsOnATerminal(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		p.columns, p.rows = 60, 24
		c.registered = startsAll(c.addNode("n1", nil))
		p.cube(0, "task", "run", jobFile(t, webJob(3)))
		if !strings.Contains(p.stdout.String(), "pulling hello:1") {
			t.Error("the progress of a pull was never shown")
		}
		lines := emulate(t, p.stdout.String())
		for _, l := range lines {
			if textWidth(l) >= p.columns && !strings.HasPrefix(l, "==>") {
				t.Errorf("wider than the terminal: %q", l)
			}
		}
		golden(t, "run_terminal", strings.Join(lines, "\n")+"\n")
	})
}

func TestRunShowsNoMoreInstancesThanTheTerminalHasRoomFor(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		p.columns, p.rows = 80, 10
		node := c.addNode("n1", nil)
		c.registered = func(c *fakeCluster, job *api.Job) {
			for n := range 50 {
				c.phase(c.place(job, "web", n, node, nil), api.PhaseRunning, "")
			}
			time.Sleep(time.Second)
			c.evaluate("web", api.EvalComplete)
		}
		p.cube(0, "run", jobFile(t, webJob(50)))
		p.shows("50 of 50 instances settled", "44 not shown")
		if got := len(emulate(t, p.stdout.String())); got > 10 {
			t.Errorf("%d lines on a terminal of 10", got)
		}
	})
}

func TestRunWithoutClientsPrintsTheJoinCommand(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		c.members = []api.Member{
			{Name: "s2", Role: api.RoleServer, Status: api.MemberAlive, GossipAddr: "10.0.0.2:5557"},
			{Name: "s1", Role: api.RoleServer, Status: api.MemberAlive, GossipAddr: "10.0.0.1:5557", Leader: true},
		}
		c.registered = func(c *fakeCluster, job *api.Job) {
			c.evaluate("web", api.EvalBlocked, api.Explanation{Task: "web", Wanted: 1, Note: "no client has joined the cluster"})
		}
		begun := time.Now()
		p.cube(2, "run", jobFile(t, webJob(1)))
		if took := since(begun); took != stuckFor {
			t.Errorf("it took %s; a client may be on its way", took)
		}
		golden(t, "run_no_clients", p.stdout.String())
	})
}

func TestRunGoesOnWithAClientThatJoinsAMomentLater(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		c.registered = func(c *fakeCluster, job *api.Job) {
			c.evaluate("web", api.EvalBlocked, api.Explanation{Task: "web", Wanted: 1, Note: "no client has joined the cluster"})
			time.Sleep(2 * time.Second)
			id := c.place(job, "web", 0, c.addNode("n1", nil), nil)
			c.evaluate("web", api.EvalComplete)
			c.phase(id, api.PhaseRunning, "")
		}
		p.cube(0, "run", jobFile(t, webJob(1)))
		p.shows("no client has joined the cluster", "1 of 1 instances running")
	})
}

func TestRunSaysAtOnceWhatDoesNotFitAndEndsSoon(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		node := c.addNode("n1", nil)
		c.addNode("n2", nil)
		c.registered = func(c *fakeCluster, job *api.Job) {
			id := c.place(job, "web", 0, node, nil)
			c.evaluate("web", api.EvalBlocked, api.Explanation{
				Task: "web", Wanted: 3, Placed: 1, Nodes: 2,
				Filters: []api.FilterCount{{Filter: "memory", Nodes: 2, Wanted: "4 GiB", Seen: "1 GiB to 3 GiB free"}},
				Nearest: &api.NearestMiss{Node: "n2", Filter: "memory", Wanted: "4 GiB", Seen: "3 GiB free"},
			})
			time.Sleep(20 * time.Second)
			c.phase(id, api.PhaseRunning, "")
		}
		begun := time.Now()
		p.cube(2, "run", jobFile(t, webJob(3)))
		// web[0] is on its way for 20 s and must have its chance; once it runs for 3 s, and 5 s after the last movement, it is over.
		if took := since(begun); took != 25*time.Second {
			t.Errorf("it took %s", took)
		}
		golden(t, "run_no_room", p.stdout.String())
	})
}

func TestRunGoesOnWhenRoomIsFreedInTime(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		node := c.addNode("n1", nil)
		c.registered = func(c *fakeCluster, job *api.Job) {
			c.evaluate("web", api.EvalBlocked, api.Explanation{Task: "web", Wanted: 1, Nodes: 1, Filters: []api.FilterCount{{Filter: "cpu", Nodes: 1}}})
			time.Sleep(4 * time.Second)
			id := c.place(job, "web", 0, node, nil)
			c.evaluate("web", api.EvalComplete)
			c.phase(id, api.PhaseRunning, "")
		}
		p.cube(0, "run", jobFile(t, webJob(1)))
	})
}

// becomes sets the health of an instance that runs.
func (c *fakeCluster) becomes(id string, health api.HealthStatus, message string) {
	c.set(id, func(a *api.Allocation) { a.Health, a.Message = health, message })
}

// TestRunWaitsForHealth: where there are checks it is they who say when an instance counts.
func TestRunWaitsForHealth(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		node := c.addNode("n1", nil)
		c.registered = func(c *fakeCluster, job *api.Job) {
			one, two := c.place(job, "web", 0, node, nil), c.place(job, "web", 1, node, nil)
			c.evaluate("web", api.EvalComplete)
			c.phase(one, api.PhaseRunning, "")
			c.phase(two, api.PhaseRunning, "")
			time.Sleep(time.Second)
			c.becomes(one, api.HealthUnknown, "check up: connection refused")
			time.Sleep(4 * time.Second)
			c.becomes(two, api.HealthHealthy, "")
			time.Sleep(5 * time.Second)
			c.becomes(one, api.HealthHealthy, "")
		}
		begun := time.Now()
		p.cube(0, "run", jobFile(t, webJob(2, api.DefaultCheck("up"))))
		if took := since(begun); took != 10*time.Second {
			t.Errorf("it took %s; the last instance is healthy after 10 s", took)
		}
		golden(t, "run_health", p.stdout.String())
	})
}

// TestRunGivesUpOnWhatStaysIll: an unhealthy instance that nothing restarts ends the wait, with what its check has found.
func TestRunGivesUpOnWhatStaysIll(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		node := c.addNode("n1", nil)
		c.registered = func(c *fakeCluster, job *api.Job) {
			id := c.place(job, "web", 0, node, nil)
			c.evaluate("web", api.EvalComplete)
			c.phase(id, api.PhaseRunning, "")
			c.say(id, "the database does not answer")
			time.Sleep(40 * time.Second)
			c.becomes(id, api.HealthUnhealthy, "check up: 503 Service Unavailable")
		}
		begun := time.Now()
		p.cube(2, "run", jobFile(t, webJob(1, api.DefaultCheck("up"))))
		if took := since(begun); took != 45*time.Second {
			t.Errorf("it took %s", took)
		}
		golden(t, "run_unhealthy", p.stdout.String())
	})
}

// TestRunWaitsForWhatIsRestarted: an unhealthy instance that will be started again has its chance.
func TestRunWaitsForWhatIsRestarted(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		node := c.addNode("n1", nil)
		c.registered = func(c *fakeCluster, job *api.Job) {
			id := c.place(job, "web", 0, node, nil)
			c.evaluate("web", api.EvalComplete)
			c.phase(id, api.PhaseRunning, "")
			time.Sleep(10 * time.Second)
			c.becomes(id, api.HealthUnhealthy, "check up: EOF")
			time.Sleep(30 * time.Second)
			c.set(id, func(a *api.Allocation) { a.Phase, a.Health, a.Restarts = api.PhasePending, api.HealthUnknown, 1 })
			time.Sleep(time.Second)
			c.phase(id, api.PhaseRunning, "")
			time.Sleep(6 * time.Second)
			c.becomes(id, api.HealthHealthy, "")
		}
		check := api.DefaultCheck("up")
		check.RestartAfter = 5
		p.cube(0, "run", jobFile(t, webJob(1, check)))
		p.shows("1 of 1 instances healthy", "unhealthy: check up: EOF")
	})
}

// TestRunKeepsToALongMinHealthyTime: who asks for more than the usual has the command wait for it.
func TestRunKeepsToALongMinHealthyTime(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		node := c.addNode("n1", nil)
		c.registered = func(c *fakeCluster, job *api.Job) {
			id := c.place(job, "web", 0, node, nil)
			c.evaluate("web", api.EvalComplete)
			c.phase(id, api.PhaseRunning, "")
			time.Sleep(30 * time.Second)
			c.becomes(id, api.HealthHealthy, "")
		}
		job := webJob(1)
		job.Tasks[0].Update.MinHealthyTime = 30 * time.Second
		begun := time.Now()
		p.cube(0, "run", jobFile(t, job))
		if took := since(begun); took != 30*time.Second {
			t.Errorf("it took %s", took)
		}
		p.shows("running: waiting for health: it is to run for 30s", "1 of 1 instances running")
	})
}

func TestRunSaysWhatKeepsAnImageFromStarting(t *testing.T) {
	for _, slowly := range []bool{false, true} {
		t.Run(fmt.Sprintf("slowly=%v", slowly), func(t *testing.T) {
			bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
				node := c.addNode("n1", nil)
				c.registered = func(c *fakeCluster, job *api.Job) {
					id := c.place(job, "web", 0, node, nil)
					c.evaluate("web", api.EvalComplete)
					for try := 1; try <= 4; try++ {
						c.phase(id, api.PhasePreparing, "pulling hello:1")
						c.set(id, func(a *api.Allocation) {
							a.Phase, a.Restarts, a.Message = api.PhasePending, try, "start failed: no such image: hello:1"
						})
						if slowly {
							return // a client that knows that trying soon is of no use
						}
						time.Sleep(time.Second << (try - 1))
					}
				}
				begun := time.Now()
				p.cube(2, "run", jobFile(t, webJob(1)))
				if took := since(begun); took > 15*time.Second {
					t.Errorf("it took %s to say that an image does not exist", took)
				}
				p.shows("web[0]: start failed: no such image: hello:1", "the rest cannot be placed, started or kept running")
			})
		})
	}
}

// crashes makes an instance end so long after each of its starts, with restarts as a client has them.
func (c *fakeCluster) crashes(id string, after time.Duration, tries int) {
	for try := 1; try <= tries; try++ {
		c.phase(id, api.PhaseRunning, "")
		c.say(id, fmt.Sprintf("panic: no \x1b[2Jdatabase, try %d", try))
		time.Sleep(after)
		delay := time.Second << (try - 1)
		c.set(id, func(a *api.Allocation) {
			a.Phase, a.Restarts, a.Message = api.PhasePending, try, fmt.Sprintf("exited with code 1; restart %d in %s", try, delay)
		})
		time.Sleep(delay)
	}
}

// Nobody waits for minutes to hear that a program does not stay up.
func TestRunShowsTheLastLinesOfACrashLoop(t *testing.T) {
	for _, kind := range []api.JobType{api.JobService, api.JobBatch} {
		bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
			node := c.addNode("n1", nil)
			c.registered = func(c *fakeCluster, job *api.Job) { c.crashes(c.place(job, "web", 0, node, nil), time.Second, 6) }
			job := webJob(1)
			job.Type = kind
			begun := time.Now()
			p.cube(2, "run", jobFile(t, job))
			if took := since(begun); took != 20*time.Second { // it crashed five times, with pauses of 1, 2, 4 and 8 seconds
				t.Errorf("it took %s", took)
			}
			if kind == api.JobService {
				golden(t, "run_crash_loop", p.stdout.String())
			}
		})
	}
}

// What crashes until its neighbour is up is no crash loop.
func TestRunWaitsForWhatNeedsSomeTries(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		node := c.addNode("n1", nil)
		c.registered = func(c *fakeCluster, job *api.Job) {
			id := c.place(job, "web", 0, node, nil)
			c.crashes(id, time.Second, crashTries-1)
			c.phase(id, api.PhaseRunning, "")
		}
		p.cube(0, "run", jobFile(t, webJob(1)))
	})
}

// An update whose first instance does not stay up leaves the others as they are, and says so; of what an older version
// said when it ended, nothing is a reason.
func TestRunSaysWhatAnUpdateThatFailsLeaves(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		node := c.addNode("n1", nil)
		c.registered = startsAll(node)
		p.cube(0, "run", jobFile(t, webJob(3)))
		old := []string{c.allocs[0].ID, c.allocs[1].ID}
		c.registered = func(c *fakeCluster, job *api.Job) {
			c.phase(old[0], api.PhaseComplete, "stopped")
			c.phase(old[1], api.PhaseComplete, "stopped by the other")
			c.crashes(c.place(job, "web", 0, node, nil), time.Second, 6)
		}
		p.stdout = buffer{}
		job := webJob(3)
		job.Tasks[0].Image = "hello:2"
		p.cube(2, "run", "-timeout=1m", jobFile(t, job))
		p.shows("web[0]: exited with code 1", "1 instance of an older version runs on: the update waits for the new ones")
		if strings.Contains(p.stdout.String(), "stopped") {
			t.Errorf("what has ended is no reason:\n%s", p.stdout.String())
		}
	})
}

// A deployment has deadlines of its own: it is waited for as long as it takes, unless a person said how long.
func TestRunWaitsForADeployment(t *testing.T) {
	for _, c := range []struct {
		flags []string
		code  int
		want  string
	}{
		{nil, 0, `Job "web" version 1: 1 of 1 instances running`},
		{[]string{"-timeout=5m"}, 2, `Accepted, but after 5m job "web" version 1 has 1 of 1 instances running`},
	} {
		bubble(t, func(t *testing.T, cluster *fakeCluster, p *terminal) {
			node := cluster.addNode("n1", nil)
			cluster.registered = func(cluster *fakeCluster, job *api.Job) {
				d := &api.DeploymentView{ID: "d1", Job: "web", Version: job.Version, Status: api.DeploymentRunning}
				cluster.do(func() { cluster.deployments = []*api.DeploymentView{d} })
				cluster.phase(cluster.place(job, "web", 0, node, nil), api.PhaseRunning, "")
				time.AfterFunc(8*time.Minute, func() {
					cluster.do(func() {
						ended := *d
						ended.Status = api.DeploymentSuccessful
						cluster.deployments = []*api.DeploymentView{&ended}
					})
				})
			}
			p.cube(c.code, append(append([]string{"run"}, c.flags...), jobFile(t, webJob(1)))...)
			p.shows(c.want)
			time.Sleep(10 * time.Minute) // until the deployment has ended
		})
	}
}

func TestRunTakesNoTimeoutThatIsNone(t *testing.T) {
	for _, timeout := range []string{"0s", "-1s", "soon"} {
		p := newTerminal(t, newFakeCluster())
		p.cube(1, "run", "-timeout="+timeout, "web.hcl")
		p.complains("for flag -timeout: not a duration such as 90s or 10m")
	}
}

func TestRunOfABatchJobEndsWhenAllHaveCompleted(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		node := c.addNode("n1", nil)
		c.registered = func(c *fakeCluster, job *api.Job) {
			a, b := c.place(job, "web", 0, node, nil), c.place(job, "web", 1, node, nil)
			c.evaluate("web", api.EvalComplete)
			c.phase(a, api.PhaseComplete, "")
			time.Sleep(time.Second)
			c.phase(b, api.PhaseRunning, "")
		}
		job := webJob(2)
		job.Type = api.JobBatch
		begun := time.Now()
		p.cube(0, "run", jobFile(t, job))
		if took := since(begun); took != 4*time.Second {
			t.Errorf("it took %s; what has not completed runs from the first second and counts 3 s later", took)
		}
		p.shows("2 of 2 instances running or complete")
	})
}

// What version 1 of a batch job completed says nothing of version 2, even before the scheduler has looked at it.
func TestRunOfANewBatchVersionIsNotDoneByTheOldOne(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		node := c.addNode("n1", nil)
		c.registered = func(c *fakeCluster, job *api.Job) {
			time.Sleep(time.Duration(job.Version) * time.Second)
			id := c.place(job, "web", 0, node, nil)
			c.evaluate("web", api.EvalComplete)
			time.Sleep(time.Second)
			c.phase(id, api.PhaseComplete, "")
		}
		file := ""
		for version := range 3 {
			job := webJob(1)
			job.Type, job.Tasks[0].Image = api.JobBatch, fmt.Sprint("hello:", version)
			file = jobFile(t, job)
			begun := time.Now()
			p.cube(0, "run", file)
			if took, want := since(begun), time.Duration(version+2)*time.Second; took != want {
				t.Errorf("version %d took %s, want %s", version+1, took, want)
			}
		}
		p.cube(0, "run", file)
		p.shows(`Job "web" is unchanged`, `Job "web" version 3 is complete`)
	})
}

func TestRunOfAnUnchangedJobSaysSoAndEndsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		c.registered = startsAll(c.addNode("n1", nil))
		file := jobFile(t, webJob(1))
		p.cube(0, "run", file)
		begun := time.Now()
		p.cube(0, "run", file)
		if took := since(begun); took > 0 {
			t.Errorf("it took %s", took)
		}
		p.shows(`Job "web" is unchanged: version 1 says this already`)
	})
}

func TestRunWaitsForARollingUpdate(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		node := c.addNode("n1", nil)
		c.registered = startsAll(node)
		p.cube(0, "run", jobFile(t, webJob(2)))
		old := []string{c.allocs[0].ID, c.allocs[1].ID}
		c.registered = func(c *fakeCluster, job *api.Job) {
			for slot, id := range old {
				c.evaluate("web", api.EvalBlocked) // as the scheduler says while it rolls
				c.set(id, func(a *api.Allocation) { a.Desired = api.DesiredStop })
				time.Sleep(20 * time.Second)
				c.phase(id, api.PhaseComplete, "stopped")
				next := c.place(job, "web", slot, node, func(a *api.Allocation) { a.Replaces = id })
				time.Sleep(20 * time.Second)
				c.phase(next, api.PhaseRunning, "")
			}
			c.evaluate("web", api.EvalComplete)
		}
		job := webJob(2)
		job.Tasks[0].Image = "hello:2"
		begun := time.Now()
		p.cube(0, "run", jobFile(t, job))
		if took := since(begun); took != 83*time.Second {
			t.Errorf("it took %s", took)
		}
		p.cube(0, "status", "web")
		golden(t, "status_after_update", p.stdout.String()[strings.Index(p.stdout.String(), "Name "):])
	})
}

func TestCtrlCDetaches(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		time.AfterFunc(10*time.Second, p.interrupt)
		p.cube(0, "run", jobFile(t, webJob(1)))
		p.shows("Detached: the job goes on; see 'cube task status web'")
	})
}

func TestRunDetachedPrintsTheEvaluationAndNothingElse(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		p.cube(0, "run", jobFile(t, webJob(1)), "-detach")
		if got, want := p.stdout.String(), c.text.Format(c.evals[0].ID)+"\n"; got != want {
			t.Errorf("stdout is %q, want %q", got, want)
		}
	})
}

func TestWritesAreSentAgainUnderOneRequestID(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		answers := []error{
			api.Errorf(api.CodeNotLeader, "not the leader"), api.Errorf(api.CodeUnknown, "leadership was lost"),
			api.Errorf(api.CodeUnavailable, "connection refused"), api.Errorf(api.CodeNoLeader, "no leader"), nil,
		}
		tries := 0
		c.fail = func(method string, _ api.Query) error {
			if method != "RegisterJobs" {
				return nil
			}
			tries++
			return answers[tries-1]
		}
		p.cube(0, "run", "-detach", jobFile(t, webJob(1)))
		if tries != 5 || len(c.requests) != 1 {
			t.Errorf("%d tries under %d request IDs", tries, len(c.requests))
		}
		for id, w := range c.requests {
			if len(id) < 16 || !strings.HasPrefix(w.Who, "ada@") {
				t.Errorf("request %+v", w)
			}
		}
	})
}

func TestAWriteIsGivenUpInTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		c.fail = func(string, api.Query) error { return api.Errorf(api.CodeNoLeader, "no leader was elected") }
		begun := time.Now()
		p.cube(1, "run", jobFile(t, webJob(1)))
		if took := since(begun); took < writePatience || took > 2*writePatience {
			t.Errorf("it took %s", took)
		}
		p.complains("no leader was elected", "cube server members")
	})
}

func TestAServerThatIsDownIsSaidAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		c.fail = func(string, api.Query) error { return api.Errorf(api.CodeUnavailable, "no Cube agent answers") }
		begun := time.Now()
		p.cube(1, "run", jobFile(t, webJob(1)))
		if since(begun) > 0 {
			t.Error("it waited")
		}
		p.complains("Error running ", ": no Cube agent answers\n")
	})
}

func TestTheMonitorOutlivesAnElection(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		node := c.addNode("n1", nil)
		begun := time.Now()
		c.fail = func(method string, _ api.Query) error {
			if since := time.Since(begun); method == "Job" && since > time.Second && since < 4*time.Second {
				return api.Errorf(api.CodeNoLeader, "no leader")
			}
			return nil
		}
		c.registered = func(c *fakeCluster, job *api.Job) {
			id := c.place(job, "web", 0, node, nil)
			time.Sleep(2 * time.Second)
			c.phase(id, api.PhasePreparing, "")
			time.Sleep(8 * time.Second)
			c.phase(id, api.PhaseRunning, "")
		}
		p.cube(0, "run", jobFile(t, webJob(1)))
		p.shows("The servers cannot be asked: no leader; trying again", "The servers answer again")
	})
}

func TestRunEndsWhenTheJobIsChangedByAnother(t *testing.T) {
	for name, change := range map[string]func(*api.Job){
		"version 2 of job \"web\" was submitted meanwhile": func(j *api.Job) { j.Version = 2 },
		"job \"web\" was stopped meanwhile":                func(j *api.Job) { j.Stopped = true },
	} {
		bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
			c.registered = func(c *fakeCluster, job *api.Job) {
				time.Sleep(time.Second)
				c.do(func() {
					next := *c.jobs["web"]
					change(&next)
					c.jobs["web"] = &next
				})
			}
			p.cube(2, "run", jobFile(t, webJob(1)))
			p.shows(name)
		})
	}
}

func TestStopWaitsUntilAllIsGone(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		c.registered = startsAll(c.addNode("n1", nil))
		p.cube(0, "run", jobFile(t, webJob(2)))
		p.stdout = buffer{}
		for i, a := range c.allocs {
			c.scripts.Go(func() {
				time.Sleep(time.Duration(i+1) * time.Second)
				c.phase(a.ID, api.PhaseComplete, "stopped")
			})
		}
		begun := time.Now()
		p.cube(0, "stop", "web")
		if took := since(begun); took != 2*time.Second {
			t.Errorf("it took %s", took)
		}
		golden(t, "stop_pipe", p.stdout.String())
	})
}

func TestStopPurgesWhatHasStopped(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		c.registered = startsAll(c.addNode("n1", nil))
		p.cube(0, "run", jobFile(t, webJob(1)))
		p.cube(2, "stop", "web", "-purge", "-timeout=1s")
		c.scripts.Go(func() {
			time.Sleep(time.Second)
			c.phase(c.allocs[0].ID, api.PhaseComplete, "stopped")
		})
		if c.jobs["web"] == nil {
			t.Error("a job that has not stopped is purged")
		}
		p.cube(0, "stop", "web", "-purge")
		p.shows(`Job "web" has stopped`, `Job "web" is forgotten`)
		if c.jobs["web"] != nil {
			t.Error("the job is still there")
		}
		p.cube(1, "stop", "web", "-purge", "-detach")
	})
}

func TestStopSaysWhatIsNotGone(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		c.registered = startsAll(c.addNode("n1", nil))
		p.cube(0, "run", jobFile(t, webJob(1)))
		p.cube(2, "stop", "web", "-timeout=30s")
		p.shows(`Accepted, but after 30s Job "web" is not gone yet`, "web[0] on node n1 is running")
	})
}

func TestAllocStopWaitsForThatInstanceOnly(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		c.registered = startsAll(c.addNode("n1", nil))
		p.cube(0, "run", jobFile(t, webJob(2)))
		id := c.allocs[1].ID
		c.scripts.Go(func() {
			time.Sleep(3 * time.Second)
			c.phase(id, api.PhaseComplete, "stopped")
		})
		p.cube(0, "alloc", "stop", id[:6])
		p.shows("Instance web[1] has stopped")
	})
}

func TestRunSendsTheSourceAndTheVariablesItDeclares(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		dir := t.TempDir()
		first, second := filepath.Join(dir, "a.hcl"), filepath.Join(dir, "b.hcl")
		for path, text := range map[string]string{first: "one = \"file\"\ntwo = 2\n", second: "two = 3\n"} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		source := "variable \"one\" {}\nvariable \"two\" {}\nvariable \"three\" {}\nvariable \"four\" {}\n"
		p.stdin.WriteString(source)
		p.env["CUBE_VAR_one"], p.env["CUBE_VAR_three"], p.env["CUBE_VAR_four"], p.env["CUBE_VAR_others"] = "env", "env", "", "env"
		p.cube(1, "run", "-", "-var-file", first, "-var-file", second, "-var", "one=flag=1") // the fake takes JSON only
		if got, want := fmt.Sprint(c.submitted.Variables), "map[four: one:flag=1 three:env two:3]"; got != want {
			t.Errorf("variables %s, want %s", got, want)
		}
		if c.submitted.Source != source || c.submitted.FileName != "<stdin>" {
			t.Errorf("submitted %+v", c.submitted)
		}
	})
}

// An error of the leader's parser has several lines; they are shown as they are, but for control characters.
func TestRunShowsWhatTheLeaderSaysOfTheFile(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		c.fail = func(string, api.Query) error {
			return api.Errorf(api.CodeInvalid, "web.hcl:3:5: unknown key \"imgae\"; did you mean \"image\"?\n\n  3 |     imgae = \"\x1b[2J\"\n")
		}
		p.cube(1, "run", jobFile(t, webJob(1)))
		p.complains("web.hcl:3:5: unknown key \"imgae\"; did you mean \"image\"?\n\n  3 |     imgae = \"\\x1b[2J\"\n")
	})
}

// TestRunWaitsForASecondChance: what failed is waited for as long as it is to be placed elsewhere, and given up when it fails there, too.
func TestRunWaitsForASecondChance(t *testing.T) {
	for _, ends := range []bool{true, false} {
		bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
			n1, n2 := c.addNode("n1", nil), c.addNode("n2", nil)
			const message = "exit code 3; no restart left of 1 within 10m"
			retry := func(attempt int, in time.Duration) api.Explanation {
				return api.Explanation{Task: "web", Wanted: 1, Nodes: 2, Retry: &api.Retry{Instance: "web[0]", At: time.Now().Add(in), Attempt: attempt, Attempts: 2}}
			}
			c.registered = func(c *fakeCluster, job *api.Job) {
				first := c.place(job, "web", 0, n1, nil)
				c.evaluate("web", api.EvalComplete)
				c.phase(first, api.PhaseRunning, "")
				time.Sleep(time.Second)
				c.phase(first, api.PhaseFailed, message)
				c.evaluate("web", api.EvalWaiting, retry(1, 40*time.Second))
				time.Sleep(40 * time.Second)
				second := c.place(job, "web", 0, n2, nil)
				c.evaluate("web", api.EvalComplete)
				c.phase(second, api.PhaseRunning, "")
				time.Sleep(time.Second)
				if ends {
					c.phase(second, api.PhaseComplete, "")
					return
				}
				c.phase(second, api.PhaseFailed, message)
				c.evaluate("web", api.EvalWaiting, retry(2, 80*time.Second))
			}
			job := webJob(1)
			job.Type = api.JobBatch
			begun, want, within := time.Now(), 2, 50*time.Second
			if ends {
				want, within = 0, 43*time.Second
			}
			p.cube(want, "run", jobFile(t, job))
			if took := since(begun); took < 41*time.Second || took > within {
				t.Errorf("it took %s", took)
			}
			p.shows(message + "; rescheduled at 00:00:41 UTC (attempt 1 of 2)")
		})
	}
}
