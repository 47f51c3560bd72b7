package lifecycle

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cube/api"
	"cube/fsm"
)

var (
	seeds = flag.Int("seeds", 200, "how many histories TestAnyLife goes through")
	seed  = flag.Uint64("seed", 1, "what these histories are drawn from: the same ones each time, so that a build fails for what has changed")
)

// TestAnyLife drives submissions, counts, orders of people, ends of instances, flips of checks, losses and returns of nodes, drains,
// preemption, rebalances, launches, reports that come late and changes of the leader through the state, the scheduler and the leader's loops. At every entry
// nothing breaks an invariant, nothing is taken away without a recorded cause and no update costs more than it may; at every rest
// nothing was overlooked; and when the faults are over everything is as it was asked for.
func TestAnyLife(t *testing.T) {
	t.Logf("again with: go test -tags hashicorpmetrics ./internal/lifecycle -seeds %d -seed %d", *seeds, *seed)
	for name, value := range map[string]string{"rapid.checks": strconv.Itoa(*seeds), "rapid.seed": strconv.FormatUint(*seed, 10)} {
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.calm(3, time.Second) // the nodes join
		w.begin()
		if rapid.Bool().Draw(t, "begins well") {
			w.calm(10, time.Minute)
		}
		for n := range rapid.IntRange(0, 40).Draw(t, "steps") {
			w.step(n + 1)
			w.progress()
		}
		w.mend()
		w.retire()
		w.calm(30, time.Minute)
		w.calm(int(api.MaxHold/time.Hour)+1, time.Hour) // what waits for a person is given up, drains come to their deadlines
		w.calm(30, time.Minute)
		w.quiet()
		w.finish()
		w.calm(40, time.Minute)
		w.launchesEnd()
		w.quiet()
		w.whole()
		if w.pick("level", 3) == 0 {
			w.level()
		}
	})
}

// begin submits the jobs of the history.
func (w *world) begin() {
	for _, name := range []string{"web", "high", "work", "logger", "sweep", "tick", "resize"} {
		if name == "web" || rapid.IntRange(0, 2).Draw(w.t, "has "+name) == 0 {
			w.submit(name, 0)
		}
	}
	w.settle()
}

// progress lets some of what waits happen, or all of it.
func (w *world) progress() {
	const all = 4
	n := w.pick("progress", 8)
	if n >= all {
		w.settle()
		w.atRest()
		return
	}
	for range n {
		if w.pick("who", 2) == 0 {
			w.lead()
		} else if len(w.log) > 0 {
			w.commit()
		}
	}
}

// calm has everybody do what they should, with so many looks, each so long after the last.
func (w *world) calm(looks int, each time.Duration) {
	for range looks {
		for _, m := range w.machines {
			m.evolve(func() int { return luckGood })
			w.exchange(m)
		}
		w.settle()
		w.atRest()
		w.at = w.at.Add(each)
	}
}

// mend ends all faults.
func (w *world) mend() {
	w.note("the faults are over")
	for _, m := range w.machines {
		m.up, m.cut = true, false
	}
}

// finish puts the cluster at everybody's disposal and asks of each job for a version that is sound and fits.
func (w *world) finish() {
	w.note("the last versions")
	for n := range w.m.Snapshot().Nodes() {
		w.propose("ada", &fsm.SetEligibility{Node: n.ID, Dated: true}, nil)
	}
	w.settle()
	for job := range w.m.Snapshot().Jobs() {
		if job.Parent != "" {
			continue
		}
		last := *job
		last.Tasks = nil
		for _, old := range job.Tasks {
			task := *old
			task.Image, task.Count, task.Resources.CPU = "good-last", min(task.Count, 3), 20
			task.Update.Canary, task.Update.AutoPromote, task.Update.Order = 0, false, api.OrderStopFirst
			task.Migrate.HealthyDeadline = 0 // the default: instances take minutes here
			task.DependsOn = slices.Clone(task.DependsOn)
			for i := range task.DependsOn {
				task.DependsOn[i].Timeout = 0
			}
			modest(&last, &task)
			last.Tasks = append(last.Tasks, &task)
		}
		w.register(&last)
	}
	w.settle()
}

func (w *world) register(job *api.Job) {
	job.Canonicalize()
	if err := job.Validate(); err != nil {
		w.fatalf("%v", err)
	}
	w.propose("ada", &fsm.RegisterJobs{Jobs: []*api.Job{job}, Deploy: true}, nil)
	for _, t := range job.Tasks {
		w.note("ada registers %s: %d x %s of %d, %+v", job.Name, t.Count, t.Image, t.Resources.CPU, fmt.Sprint(t.Update, t.Migrate, t.Reschedule, t.DependsOn))
	}
}
