package command

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cube/api"
)

func newDeploymentList(m *Meta) *command {
	var read readFlags
	return &command{
		meta: m, name: "deployment list", args: "[job]", max: 1, predict: predictJobs,
		synopsis: "List how versions were rolled out",
		prose:    "Lists deployments, the newest first: each is the roll-out of one version of a service. With a job's name, only its own; the last ten of a job are kept.",
		example:  "$ cube deployment list\n$ cube deployment list web",
		flags:    read.declare,
		run: reading(&read, "listing the deployments", func(ctx context.Context, s *session, c api.Cluster, args []string) ([]*api.DeploymentView, error) {
			all, err := ask(ctx, s, &read, c.ListDeployments)
			return slices.DeleteFunc(all, func(d *api.DeploymentView) bool { return len(args) > 0 && d.Job != args[0] }), err
		}, printDeployments),
	}
}

func printDeployments(s *session, f moments, all []*api.DeploymentView) {
	t := newTable("ID", "Job", "Version", "Status", "Healthy", "Created", "Reason")
	t.colourColumn(3, s.style.state)
	for _, d := range all {
		healthy, desired := 0, 0
		for _, task := range d.Tasks {
			healthy, desired = healthy+task.Healthy, desired+task.Desired
		}
		t.add(f.id(d.ID), d.Job, strconv.FormatUint(d.Version, 10), string(d.Status), fmt.Sprintf("%d/%d", healthy, desired), f.ago(d.CreatedAt), d.Reason)
	}
	s.printTable(f, t)
}

func newDeploymentStatus(m *Meta) *command {
	var read readFlags
	return &command{
		meta: m, name: "deployment status", args: "<deployment>", min: 1, max: 1, predict: predictJobs,
		synopsis: "Show a deployment",
		prose:    "Shows how far the roll-out of a version is with each task, what it waits for, and when it fails unless that comes. Takes the ID of a deployment, the first characters of it, or the name of a job, which stands for the job's newest one.",
		example:  "$ cube deployment status web",
		flags:    read.declare,
		run: reading(&read, "reading deployment %q", func(ctx context.Context, s *session, c api.Cluster, args []string) (*api.DeploymentView, error) {
			return ask(ctx, s, &read, func(ctx context.Context, q api.Query) (*api.DeploymentView, api.ReadMeta, error) {
				return c.Deployment(ctx, args[0], q)
			})
		}, printDeployment),
	}
}

func printDeployment(s *session, f moments, d *api.DeploymentView) {
	var b block
	b.add("ID", "%s", f.id(d.ID))
	b.add("Job", "%s", d.Job)
	b.add("Version", "%d", d.Version)
	b.add("Status", "%s", d.Status)
	b.addIf("Reason", d.Reason)
	if d.RevertedTo > 0 {
		b.add("Reverted To", "version %d", d.RevertedTo)
	}
	if !d.Deadline.IsZero() {
		b.add("Fails In", "%s", duration(max(0, d.Deadline.Sub(s.Now()))))
	}
	b.add("Moved By", "%s", d.By)
	b.add("Created", "%s", f.ago(d.CreatedAt))
	s.print(b.render(s.style))
	s.section("Tasks")
	printDeploymentTasks(s, f, d)
}

func printDeploymentTasks(s *session, f moments, d *api.DeploymentView) {
	t := newTable("Task", "Desired", "Placed", "Healthy", "Unhealthy", "Canaries")
	for _, task := range d.Tasks {
		canaries := "none"
		if task.Canaries > 0 {
			canaries = fmt.Sprintf("%d, not promoted", task.Canaries)
			if task.Promoted {
				canaries = fmt.Sprintf("%d, promoted", task.Canaries)
			}
		}
		t.add(task.Task, strconv.Itoa(task.Desired), strconv.Itoa(task.Placed), strconv.Itoa(task.Healthy), strconv.Itoa(task.Unhealthy), canaries)
	}
	s.printTable(f, t)
}

// newDeploymentOrders are the commands that steer a deployment.
func newDeploymentOrders(m *Meta) []*command {
	return []*command{
		newDeploymentOrder(m, api.DeploymentPause, "Have a deployment stand still",
			"Begins no further step of the roll-out until 'cube deployment resume'. What has begun goes on, and an old instance that is lost meanwhile comes back in the old version. After 24 hours a paused deployment fails."),
		newDeploymentOrder(m, api.DeploymentResume, "Have a deployment go on",
			"Lets a paused deployment go on, or tries one again that failed and whose version is still in force. Its deadlines count anew."),
		newDeploymentOrder(m, api.DeploymentPromote, "Find canaries good",
			"Says that the canaries of a deployment are good: their old instances go, and the others follow. All canaries must be healthy."),
		newDeploymentOrder(m, api.DeploymentFail, "Give a deployment up",
			"Ends a deployment as failed. With auto_revert the last stable version is in force again at once; otherwise all stays as it is, but for new instances that run beside old ones, which are stopped."),
	}
}

func newDeploymentOrder(m *Meta, action, synopsis, prose string) *command {
	var reason string
	var read readFlags
	return &command{
		meta: m, name: "deployment " + action, args: "<deployment>", min: 1, max: 1, predict: predictJobs,
		synopsis: synopsis,
		prose:    prose + "\n\nTakes the ID of a deployment, the first characters of it, or the name of a job, which stands for the job's newest one.",
		example:  "$ cube deployment " + action + " web",
		flags: func(f *flag.FlagSet) {
			f.StringVar(&reason, "reason", "", "Why, for the record.")
			read.declare(f)
		},
		run: func(ctx context.Context, s *session, args []string) error {
			if err := read.check(); err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			d, err := write(ctx, s, func(ctx context.Context, w api.WriteMeta) (*api.DeploymentView, error) {
				return cluster.SteerDeployment(ctx, args[0], api.DeploymentOrder{Action: action, Reason: reason}, w)
			})
			if err != nil {
				return failed(err, "asking deployment %q to %s", args[0], action)
			}
			if done, err := read.emit(s, d); done {
				return err
			}
			s.print(fmt.Sprintf("The deployment of version %d of job %q is %s\n", d.Version, d.Job, d.Status))
			return nil
		},
	}
}

// deploymentVerdict is what the deployment of a version says of it, for who waits for the version; the zero verdict if it says
// nothing (yet).
func (g *runGoal) deploymentVerdict(now time.Time) (v verdict, waits bool) {
	d := g.status.Deployment
	if d == nil {
		return verdict{}, false
	}
	if d.Version > g.version && d.Automatic && d.Before == g.version {
		return verdict{outcome: stuck, summary: fmt.Sprintf("version %d of job %q failed, and version %d took its place", g.version, g.name, d.Version),
			reasons: []string{printable(g.status.Job.Origin)}}, false
	}
	if d.Version != g.version {
		return verdict{}, false
	}
	switch d.Status {
	case api.DeploymentFailed, api.DeploymentReverted:
		why := printable(d.Reason)
		more := slices.DeleteFunc(g.reasons(g.slots(now)), func(reason string) bool {
			_, cause, named := strings.Cut(reason, ": ")
			return named && strings.HasSuffix(why, ": "+cause) // what befell an instance is said once
		})
		return verdict{outcome: stuck, summary: fmt.Sprintf("the deployment of version %d of job %q failed", g.version, g.name), reasons: append([]string{why}, more...)}, false
	case api.DeploymentPaused:
		return verdict{outcome: stuck, summary: fmt.Sprintf("the deployment of version %d of job %q is paused", g.version, g.name), reasons: []string{"it goes on with: cube deployment resume " + g.name}}, false
	case api.DeploymentRunning:
		return g.canaryVerdict(d)
	}
	return verdict{}, false
}

// deploying reports whether the version's deployment is under way.
func (g *runGoal) deploying() bool {
	d := g.status.Deployment
	return d != nil && d.Version == g.version && d.Status == api.DeploymentRunning
}

// canaryVerdict is reached when only a person's word is missing. Until a deployment has ended that will be reverted, or promoted by
// itself, its end is what there is to wait for.
func (g *runGoal) canaryVerdict(d *api.DeploymentView) (v verdict, waits bool) {
	canaries, ready := 0, true
	for _, t := range d.Tasks {
		if t.Canaries > 0 && !t.Promoted {
			canaries += min(t.Canaries, t.Desired)
			ready = ready && t.Healthy >= min(t.Canaries, t.Desired)
		}
	}
	automatic := true
	for _, t := range g.status.Job.Tasks {
		automatic = automatic && (t.Update.Canary == 0 || t.Update.AutoPromote)
		waits = waits || t.Update.AutoRevert
	}
	if canaries > 0 && ready && !automatic {
		return verdict{outcome: reached, summary: fmt.Sprintf("Job %q version %d: %s on trial (canary), and healthy; the others follow with: cube deployment promote %s", g.name, g.version, countOf(canaries, "instance"), g.name)}, false
	}
	return verdict{}, waits || canaries > 0
}
