package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const everywhere = `
job %q {
  type = %q
  task "agent" {
    image = "` + helloimage.Tag + `"
    args  = [%s]
    kill_timeout = "1s"
    resources {
      cpu    = 0.05
      memory = 32
    }
    update {
      min_healthy_time = "0s"
    }
  }
}
`

// TestOnEveryNode takes a system job and a sysbatch job through what they are there for: one instance a node, also on a node
// that may take instances only later.
func TestOnEveryNode(t *testing.T) {
	f := newFleet(t)
	eligible := func(on bool) {
		t.Helper()
		f.does("node", "eligibility", map[bool]string{true: "-enable", false: "-disable"}[on], "n3")
	}
	eligible(false)
	f.says(0, "2 of 2 instances running", "task", "run", write(t, "logs.hcl", fmt.Sprintf(everywhere, "logs", "system", "")))
	before := f.agree("logs", 2, 10*time.Second)
	eligible(true)
	if now := f.agree("logs", 3, 10*time.Second); shared(before, now) != 2 || len(nodesOf(now)) != 3 {
		t.Errorf("a third node was to get one; they were %v and are %v", before, now)
	}

	// Not eligible is not empty: what runs there stays, and a new version is for the others.
	eligible(false)
	before = f.agree("logs", 3, 10*time.Second)
	f.says(1, "agent: 1 unchanged, 2 replaced", "task", "plan", write(t, "logs.hcl", fmt.Sprintf(everywhere, "logs", "system", `"-lines", "2"`)))
	f.says(0, "2 of 2 instances running", "task", "run", write(t, "logs.hcl", fmt.Sprintf(everywhere, "logs", "system", `"-lines", "2"`)))
	if now := f.agree("logs", 3, 10*time.Second); shared(before, now) != 1 {
		t.Errorf("two were to be replaced; they were %v and are %v", before, now)
	}
	if out := f.says(0, "Nodes for agent, which is to be on 3 nodes", "task", "explain", "logs"); !strings.Contains(out, "has its instance") {
		t.Errorf("task explain does not say which node has its instance:\n%s", out)
	}
	f.says(1, "one instance on every node", "task", "scale", "logs", "5")
	f.does("task", "stop", "-purge", "logs")

	// Once on each node, and on the third when it may.
	f.says(0, "complete", "task", "run", write(t, "sweep.hcl", fmt.Sprintf(everywhere, "sweep", "sysbatch", `"-exit-after", "100ms"`)))
	eligible(true)
	f.eventually("it has run on each node", 10*time.Second, func() error {
		allocs, _, err := f.up().JobAllocations(t.Context(), "sweep", api.Query{})
		var nodes []string
		for _, a := range allocs {
			if a.Phase == api.PhaseComplete {
				nodes = append(nodes, a.NodeName)
			}
		}
		if slices.Sort(nodes); err == nil && !slices.Equal(nodes, []string{"n1", "n2", "n3"}) {
			err = fmt.Errorf("it has completed on %v", nodes)
		}
		return err
	})
	if out := f.says(0, "complete", "task", "status", "sweep"); !strings.Contains(out, "3/3") {
		t.Errorf("task status does not say how many:\n%s", out)
	}
}

// TestMaxRunDuration: an instance that takes too long is ended, though it does not want to, and is not started again unless its
// policy counts.
func TestMaxRunDuration(t *testing.T) {
	f := newAlone(t, "127.0.9.61")
	const file = `
task "web" {
  type  = "batch"
  image = %q
  args  = ["-ignore-term"]
  max_run_duration = "1s"
  kill_timeout     = "500ms"
  %s
}
`
	run := func(policy, want string, restarts int) {
		t.Helper()
		f.says(2, want, "task", "run", write(t, "web.hcl", fmt.Sprintf(file, helloimage.Tag, policy)))
		if a := f.instance("web[0]"); a.Phase != api.PhaseFailed || a.Restarts != restarts {
			t.Errorf("the instance is %+v", a)
		}
		if running := f.running(); len(running) > 0 {
			t.Errorf("%d still run", len(running))
		}
	}
	run("", "web[0]: ran longer than its max_run_duration 1s", 0)
	run(`restart {
    attempts = 1
    delay    = "100ms"
    mode     = "fail"
  }`, "web[0]: ran longer than its max_run_duration 1s; no restart left of 1 within 10m", 1)
}

// TestLaunchedAtTimes: a periodic job is registered without running, tells when it is launched, goes on with the same times after a
// change and after its only server was killed, and is refused where its times are none.
func TestLaunchedAtTimes(t *testing.T) {
	f := newAlone(t, "127.0.0.1")
	nightly := func(cron string) string {
		return write(t, "backup.hcl", fmt.Sprintf(`
task "backup" {
  type  = "batch"
  image = %q
  periodic {
    crons     = [%q]
    time_zone = "Europe/Berlin"
  }
}
`, helloimage.Tag, cron))
	}
	f.says(1, `Nothing of it runs now: it is launched first at `, "task", "plan", nightly("30 2 29 2 *"))
	f.says(0, `it is launched first at 2028-02-29 02:30 CET`, "task", "run", nightly("30 2 29 2 *"))
	f.says(0, `2032-02-29 02:30 CET`, "task", "status", "backup")
	f.says(0, `waiting`, "task", "status")
	f.says(1, `crons: ["30 2 29 2 *"] => ["30 2 1 7 *"]`, "task", "plan", nightly("30 2 1 7 *"))
	f.says(0, `-07-01 02:30 CEST`, "task", "run", nightly("30 2 1 7 *"))
	f.servers[0].end(t, syscall.SIGKILL)
	f.servers[0].start(t)
	f.eventually("it waits for its time again", 20*time.Second, func() error {
		status, _, err := f.up().Job(t.Context(), "backup", api.Query{})
		if err == nil && (status.Summary.Status != api.JobWaiting || len(status.Launches.Next) != 3 || status.Job.Version != 2) {
			err = fmt.Errorf("it is %+v with %+v", status.Summary, status.Launches)
		}
		return err
	})
	f.says(1, `"0 0 30 2 *" never comes due`, "task", "run", nightly("0 0 30 2 *"))
	f.says(1, `cannot become one that launches others, nor cease to be one`, "task", "run",
		write(t, "plain.hcl", fmt.Sprintf("task \"backup\" {\n  type  = \"batch\"\n  image = %q\n}\n", helloimage.Tag)))
	if running := f.containers(); len(running) > 0 {
		t.Errorf("nothing was to run; there are %v", running)
	}
	f.says(0, "", "task", "stop", "-purge", "backup")
}
