package command

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cube/api"
)

// failedWeb is a cluster with a job of which one instance failed, and the ID of that instance.
func failedWeb(c *fakeCluster, change func(*api.Allocation)) (job *api.Job, node *api.NodeView, id string) {
	node, job = c.addNode("n1", nil), webJob(1)
	job.Version = 1
	c.do(func() { c.jobs["web"] = job })
	id = c.place(job, "web", 0, node, func(a *api.Allocation) {
		a.Phase, a.StartedAt, a.Message = api.PhaseFailed, time.Now(), "exit code 3; no restart left"
		if change != nil {
			change(a)
		}
	})
	return job, node, id
}

func TestStatusShowsTheLastEventsAndLastWords(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		_, _, id := failedWeb(c, nil)
		for i := range 7 {
			c.say(id, fmt.Sprint("out ", i))
			c.cry(id, fmt.Sprint("err ", i))
			c.events = append(c.events, &api.EventView{At: time.Now(), Job: "web", Task: "web", Text: fmt.Sprint("event ", i)})
		}
		p.cube(0, "task", "status", "web")
		p.shows("Last events\n00:00:00  event 2\n", "00:00:00  event 6\n", "Last output of web[0] (stderr)\n    err 2\n    err 3\n    err 4\n    err 5\n    err 6\n\n",
			"See also: cube task explain web, cube task timeline web, cube task logs web\n")
		if text := p.stdout.String(); strings.Contains(text, "event 1") || strings.Contains(text, "err 1") || strings.Contains(text, "out ") {
			t.Errorf("more than the end of it:\n%s", text)
		}
		p.cube(0, "task", "status", "web", "-t", `{{range .Events}}{{.Text}}, {{end}}{{range .Output}}{{.Instance}} {{.Stream}} {{join .Lines " "}}{{end}}`)
		p.shows("event 2, event 3, event 4, event 5, event 6, web[0] stderr err 2 err 3 err 4 err 5 err 6\n")
	})
}

func TestLastWordsWhereStderrIsEmpty(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		_, _, id := failedWeb(c, nil)
		p.cube(0, "task", "status", "web")
		p.shows("Last output of web[0]\n    (it wrote nothing)\n")
		c.say(id, "no such table \x1b[2J")
		p.cube(0, "task", "status", "web")
		p.shows("Last output of web[0] (stdout)\n    no such table \\x1b[2J\n")
	})
}

// A node that cannot be reached takes nothing from a status but the output, and says so.
func TestLastWordsOfANodeThatDoesNotAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		_, _, id := failedWeb(c, nil)
		c.do(func() { c.unreachable = map[string]bool{id: true} })
		p.cube(0, "task", "status", "web")
		p.shows("Last output of web[0]\n    (not available: its node does not answer)\n", "See also")
	})
}

func TestMoreInstancesThatFailAreCounted(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		job, node, _ := failedWeb(c, nil)
		job.Tasks[0].Count = 3
		for slot := 1; slot < 3; slot++ {
			c.place(job, "web", slot, node, func(a *api.Allocation) { a.Phase, a.StartedAt = api.PhaseFailed, time.Now() })
			p.cube(0, "task", "status", "web")
		}
		p.shows("\n1 more instance fails, too\n", "\n2 more instances fail, too\n")
	})
}

// The successor of an instance that failed may have written nothing yet: until it is healthy, the failed one is shown.
func TestLastWordsUntilTheSuccessorIsHealthy(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		job, node, id := failedWeb(c, nil)
		c.cry(id, "panic: no database")
		next := c.place(job, "web", 0, node, nil)
		for _, phase := range []api.Phase{api.PhasePending, api.PhaseRunning} {
			c.phase(next, phase, "")
			p.stdout = buffer{}
			p.cube(0, "task", "status", "web")
			p.shows("Last output of web[0] (stderr)\n    panic: no database\n")
		}
		c.set(next, func(a *api.Allocation) { a.Health = api.HealthHealthy })
		p.stdout = buffer{}
		p.cube(0, "task", "status", "web")
		if text := p.stdout.String(); strings.Contains(text, "panic") || strings.Contains(text, "task logs") {
			t.Errorf("it was replaced healthily:\n%s", text)
		}
	})
}

// Of a task's instances that fail alike one is shown, the newest; those of other tasks besides.
func TestOneFailingInstanceATaskIsShown(t *testing.T) {
	now := time.Now()
	at := func(task string, slot int, index uint64, phase api.Phase) *api.Allocation {
		return &api.Allocation{Name: fmt.Sprintf("%s[%d]#%d", task, slot, index), Task: task, Slot: slot, CreateIndex: index, Phase: phase, StartedAt: now}
	}
	for name, c := range map[string]struct {
		allocs []*api.Allocation
		shown  string
		more   int
	}{
		"none":                   {nil, "", 0},
		"all well":               {[]*api.Allocation{at("web", 0, 1, api.PhaseRunning)}, "", 0},
		"newest of a task":       {[]*api.Allocation{at("web", 0, 1, api.PhaseFailed), at("web", 1, 9, api.PhaseFailed), at("web", 2, 4, api.PhaseFailed)}, "web[1]#9", 2},
		"one of each":            {[]*api.Allocation{at("db", 0, 1, api.PhaseFailed), at("web", 0, 2, api.PhaseFailed)}, "db[0]#1 web[0]#2", 0},
		"predecessor":            {[]*api.Allocation{at("web", 0, 5, api.PhasePending), at("web", 0, 3, api.PhaseFailed), at("web", 0, 1, api.PhaseFailed)}, "web[0]#3", 0},
		"predecessor of the old": {[]*api.Allocation{at("web", 0, 5, api.PhasePending), at("web", 0, 3, api.PhaseComplete), at("web", 0, 1, api.PhaseFailed)}, "", 0},
		"at most three": {[]*api.Allocation{at("a", 0, 1, api.PhaseFailed), at("b", 0, 1, api.PhaseFailed), at("c", 0, 1, api.PhaseFailed), at("d", 0, 1, api.PhaseFailed)},
			"a[0]#1 b[0]#1 c[0]#1", 1},
	} {
		t.Run(name, func(t *testing.T) {
			shown, more := failing(c.allocs, now)
			var names []string
			for _, a := range shown {
				names = append(names, a.Name)
			}
			if got := strings.Join(names, " "); got != c.shown || more != c.more {
				t.Errorf("%q and %d more, want %q and %d", got, more, c.shown, c.more)
			}
		})
	}
}

// Without a leader the timeline is what a server last knew, as the rest is; where it cannot be had, the status goes without.
func TestStatusWithoutATimeline(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		failedWeb(c, nil)
		c.events = []*api.EventView{{At: time.Now(), Text: "version 1 submitted"}}
		c.fail = func(method string, q api.Query) error {
			if method == "JobTimeline" && !q.Stale {
				return api.Errorf(api.CodeNoLeader, "no leader")
			}
			return nil
		}
		p.cube(0, "task", "status", "web")
		p.shows("00:00:00  version 1 submitted\n")
		c.fail = func(method string, _ api.Query) error {
			if method == "JobTimeline" {
				return api.Errorf(api.CodeInternal, "broken")
			}
			return nil
		}
		p.stdout = buffer{}
		p.cube(0, "task", "status", "web")
		if text := p.stdout.String(); strings.Contains(text, "Last events") || !strings.Contains(text, "See also") {
			t.Errorf("shown:\n%s", text)
		}
		if !slices.Contains(c.asked, "JobTimeline") {
			t.Error("nobody asked for it")
		}
	})
}
