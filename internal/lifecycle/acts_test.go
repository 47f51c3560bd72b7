package lifecycle

import (
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"cube/api"
	"cube/fsm"
)

// submit draws a version of a job and registers it.
func (w *world) submit(name string, n int) {
	if name == "tick" || name == "resize" {
		w.submitParent(name, n)
		return
	}
	kinds := map[string]api.JobType{"web": api.JobService, "high": api.JobService, "work": api.JobBatch, "logger": api.JobSystem, "sweep": api.JobSysbatch}
	priorities := map[string]int{"web": 50, "high": 80, "work": 30, "logger": 70, "sweep": 20}
	job := &api.Job{Name: name, Type: kinds[name], Priority: priorities[name]}
	names := []string{name}
	if name == "web" && w.pick("tasks", 2) == 1 {
		names = []string{"app", "db"}
	}
	if name == "work" && w.pick("tasks", 2) == 1 {
		names = []string{"then", "first"}
	}
	for _, task := range names {
		job.Tasks = append(job.Tasks, w.drawTask(job, task, n))
	}
	if len(names) > 1 && w.pick("depends", 3) > 0 {
		conditions := []string{api.DependHealthy, api.DependRunning}
		if job.Type.Completes() {
			conditions = []string{api.DependComplete}
		}
		job.Task(names[0]).DependsOn = []api.Dependency{{Task: names[1], Condition: rapid.SampledFrom(conditions).Draw(w.t, "condition"),
			Timeout: time.Duration(max(0, w.pick("depend timeout", 12)-8)) * time.Minute}}
	}
	w.register(job)
}

func (w *world) drawTask(job *api.Job, name string, n int) *api.Task {
	task := api.DefaultTask(name)
	images := []string{"good", "good", "good", "bad", "crash"}
	if n == 0 {
		images = images[:1]
	}
	task.Image = fmt.Sprint(rapid.SampledFrom(images).Draw(w.t, "image"), "-", n)
	task.Resources = api.Resources{CPU: int64(50 * (1 + w.pick("cpu", 10))), Memory: 10}
	task.Restart.Mode, task.Restart.Attempts = api.RestartFail, 1
	if !job.Type.EveryNode() {
		task.Count = 1 + w.pick("count", 5)
	}
	if w.pick("reschedule", 2) == 1 {
		task.Reschedule = api.Reschedule{Attempts: w.pick("attempts", 4) - 1, Delay: 10 * time.Second, DelayFunction: api.DelayFibonacci, MaxDelay: 5 * time.Minute}
		if task.Reschedule.Attempts > 0 {
			task.Reschedule.Interval = time.Hour
		}
	}
	if w.pick("disconnect", 2) == 1 {
		task.Disconnect.LostAfter = time.Duration(1+w.pick("lost_after", 20)) * time.Minute
		if !job.Type.EveryNode() {
			if task.Disconnect.Replace = w.pick("replace", 3) > 0; task.Disconnect.Replace {
				task.Disconnect.Reconcile = rapid.SampledFrom(api.Reconciles()).Draw(w.t, "reconcile")
			}
		}
	}
	u := &task.Update
	u.MaxParallel = 1 + w.pick("max_parallel", 3)
	if job.Type == api.JobService {
		u.Order = rapid.SampledFrom([]string{api.OrderStopFirst, api.OrderStartFirst}).Draw(w.t, "order")
		u.Canary = w.pick("canary", 3)
		u.AutoPromote = u.Canary > 0 && rapid.Bool().Draw(w.t, "auto_promote")
		u.AutoRevert = rapid.Bool().Draw(w.t, "auto_revert")
		task.Migrate.MaxParallel = 1 + w.pick("migrate", 2)
		task.Migrate.Order = rapid.SampledFrom([]string{api.OrderStartFirst, api.OrderStopFirst}).Draw(w.t, "move")
		task.Migrate.HealthyDeadline = time.Duration(w.pick("move deadline", 3)) * time.Minute
	}
	w.drawHoldings(job, task)
	return task
}

// step is one thing that happens.
func (w *world) step(n int) {
	m := w.machines[w.pick("machine", machines)]
	switch w.pick("step", 19) {
	case 0:
		w.submit(w.drawJob().Name, n)
	case 1:
		job := w.drawJob()
		task := job.Tasks[w.pick("task", len(job.Tasks))].Name
		count := w.pick("count", 7)
		w.note("ada scales %s/%s to %d", job.Name, task, count)
		w.propose("ada", &fsm.ScaleJob{Name: job.Name, Task: task, Count: count}, nil)
	case 2:
		w.steer()
	case 3:
		w.ask()
	case 4:
		w.empty(m)
	case 5, 6:
		w.hurt(m)
	case 7:
		w.succeed(w.pick("kept", 4), w.pick("restored", 3) == 0)
	case 8:
		w.settle() // nothing is in the log for minutes
		w.at = w.at.Add(time.Duration(w.pick("minutes", 12)) * time.Minute)
	case 9:
		w.at = w.at.Add(time.Duration(w.pick("seconds", 45)) * time.Second)
	case 10:
		w.dispatch()
	case 11:
		w.rebalance()
	default:
		lucky := w.pick("lucky", 3) > 0
		for _, m := range w.machines {
			m.evolve(func() int {
				if lucky {
					return luckGood
				}
				return min(luckGood, w.pick("luck", 12))
			})
			if w.pick("talks", 4) > 0 {
				w.exchange(m)
			}
		}
	}
}

// drawJob draws one of the jobs that people have submitted.
func (w *world) drawJob() *api.Job {
	jobs := slices.DeleteFunc(slices.Collect(w.m.Snapshot().Jobs()), func(j *api.Job) bool { return j.Parent != "" })
	return jobs[w.pick("job", len(jobs))]
}

// steer is what a person asks of a job's deployment.
func (w *world) steer() {
	order := rapid.SampledFrom([]string{api.DeploymentPause, api.DeploymentResume, api.DeploymentPromote, api.DeploymentFail}).Draw(w.t, "order")
	if d := w.m.Snapshot().Deployment(w.drawJob().Name); d != nil {
		w.note("ada: %s the deployment of %s", order, d.Job)
		w.propose("ada", &fsm.SteerDeployment{ID: d.ID, DeploymentOrder: api.DeploymentOrder{Action: order}}, nil)
	}
}

// ask is what a person asks of a job or of one of its instances.
func (w *world) ask() {
	s, job := w.m.Snapshot(), w.drawJob()
	switch w.pick("ask", 5) {
	case 0:
		w.note("ada stops %s", job.Name)
		w.propose("ada", &fsm.StopJob{Name: job.Name}, nil)
	case 1:
		w.note("ada reverts %s", job.Name)
		w.propose("ada", &fsm.RevertJob{Name: job.Name, To: api.VersionPrevious, Deploy: true}, nil)
	default:
		var live []api.ID
		for row := range s.JobRows(job.Name) {
			if row.Live() {
				live = append(live, row.ID)
			}
		}
		if len(live) > 0 {
			id := live[w.pick("instance", len(live))]
			w.note("ada stops #%d", id)
			w.propose("ada", &fsm.StopAllocation{ID: id}, nil)
		}
	}
}

// empty begins a drain of a node, ends one, or says whether the node may be used.
func (w *world) empty(m *machine) {
	switch w.pick("drain", 5) {
	case 0:
		w.note("ada cancels the drain of %s", m.id)
		w.propose("ada", &fsm.DrainNode{Node: m.id, Cancel: &api.CancelDrainRequest{KeepIneligible: w.pick("keep", 3) == 0}}, nil)
	case 1:
		off := rapid.Bool().Draw(w.t, "ineligible")
		w.note("ada: %s is ineligible: %v", m.id, off)
		w.propose("ada", &fsm.SetEligibility{Node: m.id, Ineligible: off, Dated: true}, nil)
	default:
		r := &api.DrainRequest{IgnoreSystem: w.pick("ignore", 3) == 0, Force: w.pick("force", 5) == 0}
		if !r.Force {
			r.Deadline = time.Duration(1+w.pick("deadline", 40)) * time.Minute
		}
		w.note("ada drains %s within %s, force=%v, ignore system=%v", m.id, r.Deadline, r.Force, r.IgnoreSystem)
		w.propose("ada", &fsm.DrainNode{Node: m.id, Begin: r}, nil)
	}
}

// hurt does something to a machine, or ends what was done to it.
func (w *world) hurt(m *machine) {
	switch w.pick("hurt", 5) {
	case 0:
		m.cut = !m.cut
		w.note("%s is cut off: %v", m.id, m.cut)
	case 1:
		if m.up = !m.up; m.up {
			m.incarnation++
		}
		w.note("the agent of %s is up: %v", m.id, m.up)
	case 2:
		m.reboot()
		w.note("%s reboots", m.id)
	case 3: // it is away for long enough to be given up, and the leader notices
		m.cut = true
		w.note("%s is cut off, and given up", m.id)
		w.settle()
		w.at = w.at.Add(grace)
		w.settle()
	case 4:
		m.cut, m.up = false, true
		w.note("%s is well again", m.id)
		w.exchange(m)
	}
}
