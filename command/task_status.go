package command

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cube/api"
)

func newTaskStatus(m *Meta) *command {
	var read readFlags
	return &command{
		meta: m, name: "task status", args: "[name]", max: 1, predict: predictJobs,
		synopsis: "Show the jobs, or one with its instances",
		prose: `Lists the jobs. With the name of one, or job/task for one task of it, shows each instance: what it is to do, what it does, where, for how long, and how often it was started again; under an instance stands the one it replaced, and with -verbose all that are still known. Below the table stand the reasons for what is not well, the last events of the job with their causes, and where a task's instances fail the last lines that the newest of them wrote: to stderr, or to stdout where that is empty.

Without a leader, shows what a server last knew and says so.`,
		example: "$ cube task status\n$ cube task status web",
		flags:   read.declare,
		run: func(ctx context.Context, s *session, args []string) error {
			if err := read.check(); err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return jobDetail(ctx, s, cluster, &read, args[0])
			}
			jobs, err := ask(ctx, s, &read, cluster.ListJobs)
			if err != nil {
				return failed(err, "listing the jobs")
			}
			if done, err := read.emit(s, jobs); done {
				return err
			}
			printJobs(s, read.moments(s), jobs)
			return nil
		},
	}
}

func printJobs(s *session, f moments, jobs []*api.JobSummary) {
	if len(jobs) == 0 {
		s.print("No jobs. 'cube task init' writes an example, 'cube task run' runs it\n")
		return
	}
	t := newTable("Name", "Type", "Priority", "Status", "Running", "Submitted")
	t.colourColumn(3, s.style.state)
	for _, j := range jobs {
		t.add(j.Name, string(j.Type), strconv.Itoa(j.Priority), j.Status, runningOf(j), f.ago(j.SubmittedAt))
	}
	s.printTable(f, t)
}

// runningOf is how many instances run of how many there are to be. What a batch job has completed counts as run.
func runningOf(j *api.JobSummary) string {
	running := j.Counts.Running
	if j.Type.Completes() {
		running += j.Counts.Complete
	}
	return fmt.Sprintf("%d/%d", running, j.Desired)
}

// jobReport is what -json and -t show of one job.
type jobReport struct {
	*api.JobStatus
	Usage  *api.UsageReport `json:",omitempty"`
	Events []*api.EventView `json:",omitempty"` // the latest of its timeline, newest last
	Output []lastWords      `json:",omitempty"` // of instances that fail
}

func jobDetail(ctx context.Context, s *session, cluster api.Cluster, read *readFlags, name string) error {
	job, task := splitName(name)
	measured := askUsage(ctx, cluster, api.UsageQuery{Jobs: []string{job}, Stale: read.stale})
	happened := askTimeline(ctx, cluster, read, job)
	status, err := ask(ctx, s, read, func(ctx context.Context, q api.Query) (*api.JobStatus, api.ReadMeta, error) {
		status, meta, err := cluster.Job(ctx, job, q)
		if err == nil {
			status, err = onlyTask(status, task)
		}
		return status, meta, err
	})
	if err != nil {
		return failed(err, "reading the status of %q", name)
	}
	used, events := measured(), recent(ofTask(happened(), task))
	current, _ := withoutHistory(status)
	unwell, more := failing(current, s.Now())
	words := readLastWords(ctx, cluster, unwell)
	if done, err := read.emit(s, jobReport{status, used.UsageReport, events, words}); done {
		return err
	}
	f := read.moments(s)
	printJob(s, f, status, used)
	printRecent(s, f, events)
	printLastWords(s, words, more)
	seeAlso(s, name, len(words) > 0)
	return nil
}

func printJob(s *session, f moments, status *api.JobStatus, used usage) {
	j, sum := status.Job, &status.Summary
	var b block
	b.add("Name", "%s", j.Name)
	b.add("Type", "%s", j.Type)
	b.add("Status", "%s", sum.Status)
	b.add("Version", "%d", j.Version)
	b.add("Priority", "%d", j.Priority)
	b.add("Datacenters", "%s", orAny(j.Datacenters))
	if j.Parent != "" {
		b.add("Launched by", "%s", j.Parent)
	}
	if j.Dispatched != nil {
		addDispatched(&b, j.Dispatched)
	}
	if j.Launches() {
		b.add("Submitted", "%s", f.ago(j.SubmittedAt))
		printLaunches(s, f, &b, status)
		return
	}
	b.add("Running", "%s", runningOf(sum))
	if hasChecks(j) {
		b.add("Healthy", "%d/%d", sum.Healthy, sum.Desired)
	}
	b.add("Submitted", "%s", f.ago(j.SubmittedAt))
	s.print(b.render(s.style))

	if e := status.Evaluation; e != nil && !j.Stopped {
		lines := explainAt(e.Explanations, f.now)
		if e.Status == api.EvalFailed {
			lines = append(lines, "The scheduler failed on it: "+printable(e.Message))
		}
		if len(lines) > 0 {
			s.section("Not placed")
			s.print(strings.Join(lines, "\n") + "\n")
		}
	}
	if d := status.Deployment; d != nil {
		s.section(fmt.Sprintf("Deployment %s: %s", f.id(d.ID), d.Status))
		if d.Status != api.DeploymentSuccessful {
			printDeploymentTasks(s, f, d)
		}
		if d.Reason != "" {
			s.print(printable(d.Reason) + "\n")
		}
	}
	shown, former := status.Allocations, 0
	if !f.verbose {
		shown, former = withoutHistory(status)
	}
	for _, task := range tasksOf(shown) {
		s.section("Instances of " + printable(task))
		t := j.Task(task)
		printInstances(s, f, instancesOf(shown, task), t != nil && len(t.Checks) > 0, used)
	}
	for _, note := range used.notes() {
		s.print(note + "\n")
	}
	if former > 0 {
		s.print("\n" + s.style.paint(faint, countOf(former, "former instance")+" not shown; see -verbose") + "\n")
	}
}

func orAny(names []string) string {
	if len(names) == 0 {
		return "any"
	}
	return strings.Join(names, ", ")
}

// withoutHistory leaves out what a person who looks at a job rarely asks for, and says how much: of a slot's former
// instances all but the newest, and what is over of slots that the job has no more.
func withoutHistory(status *api.JobStatus) (shown []*api.Allocation, former int) {
	seen := map[slotKey]int{}
	for _, a := range status.Allocations {
		task := status.Job.Task(a.Task)
		current := task != nil && a.Slot < status.Job.Slots(task)
		if a.Phase.Terminal() && (!current || seen[slotOf(a)] > 1) {
			former++
			continue
		}
		seen[slotOf(a)]++
		shown = append(shown, a)
	}
	return shown, former
}

// tasksOf lists the tasks that have instances.
func tasksOf(allocs []*api.Allocation) []string {
	seen := map[string]bool{}
	for _, a := range allocs {
		seen[a.Task] = true
	}
	return sortedKeys(seen)
}

func instancesOf(allocs []*api.Allocation, task string) []*api.Allocation {
	var out []*api.Allocation
	for _, a := range allocs {
		if a.Task == task {
			out = append(out, a)
		}
	}
	return out
}

// healthColumn is where the table of instances has their health, if their task has checks.
const healthColumn = 6

// printInstances prints one task's instances, the newest of each slot first and its predecessors set in under it, then
// what the nodes say of those that are not well.
func printInstances(s *session, f moments, allocs []*api.Allocation, withHealth bool, used usage) {
	headings := []string{"Instance", "ID", "Node", "Version", "Desired", "Status", "CPU", "Memory", "Restarts", "Age", "Address"}
	withDevices := slices.ContainsFunc(allocs, func(a *api.Allocation) bool { return len(a.Devices) > 0 })
	if withHealth {
		headings = slices.Insert(headings, healthColumn, "Health")
	}
	if withDevices {
		headings = append(headings, "Devices")
	}
	t := newTable(headings...)
	t.colourColumn(5, s.style.state)
	if withHealth {
		t.colourColumn(healthColumn, s.style.state)
	}
	t.whole, t.spare = []string{"Address"}, []string{"Desired", "Version"}
	var notes []string
	last := slotKey{slot: -1}
	for _, a := range allocs {
		name, head := a.Name, slotOf(a) != last
		if !head {
			name = ` \_ ` + name
		}
		last = slotOf(a)
		row := []string{name, f.id(a.ID), a.NodeName, strconv.FormatUint(a.JobVersion, 10), a.Desired.String(), a.Phase.String(), used.cpu(a), used.memory(a), strconv.Itoa(a.Restarts), f.ago(a.CreatedAt), addresses(a)}
		if withHealth {
			row = slices.Insert(row, healthColumn, healthOf(a))
		}
		if withDevices {
			row = append(row, devices(f, a))
		}
		t.add(row...)
		if note := instanceNote(a); head && note != "" {
			notes = append(notes, printable(a.Name+": "+note))
		}
	}
	s.printTable(f, t)
	if sum := used.sum(allocs).text(); sum != "" {
		s.print(sum + "\n")
	}
	for _, note := range notes {
		s.print(note + "\n")
	}
}

// instanceNote says what is to be said of an instance beside its row: why it is not running, or why it is to go.
func instanceNote(a *api.Allocation) string {
	switch {
	case a.Phase == api.PhaseComplete:
		return ""
	case a.Desired == api.DesiredStop && a.DesiredReason != "":
		return a.DesiredReason
	case a.Message != "" && (a.Phase != api.PhaseRunning || a.Restarts > 0 || a.Health != api.HealthHealthy):
		return a.Message
	}
	return ""
}
