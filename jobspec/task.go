package jobspec

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"

	"cube/api"
)

// nestedKeys are what stands in a block of a task, by the block; for hints only.
func nestedKeys() map[string]string {
	return map[string]string{
		"cpu": "resources", "memory": "resources", "disk": "resources", "device": "resources", "static": "port \"name\"", "to": "port \"name\"",
		"attempts": "restart", "interval": "restart", "delay": "restart", "max_delay": "restart", "mode": "restart",
		"delay_function": "reschedule", "unlimited": "reschedule",
		"share": "device \"type\"", "min_healthy_time": "update", "max_parallel": "update", "order": "update",
		"healthy_deadline": "update", "progress_deadline": "update", "canary": "update", "auto_promote": "update", "auto_revert": "update", "condition": "depends_on \"task\"",
		"file": "dispatch_payload", "payload": "parameterized", "meta_required": "parameterized", "meta_optional": "parameterized", "source": "volume \"name\"", "destination": "volume \"name\"", "access": "volume \"name\"", "sticky": "ephemeral_disk",
		"lost_after": "disconnect", "replace": "disconnect", "reconcile": "disconnect", "stop_on_client_after": "disconnect",
	}
}

// taskKeys are what a task has; for hints only.
func taskKeys() []string {
	return []string{"affinity", "args", "check", "command", "config", "constraint", "count", "depends_on", "disconnect", "dispatch_payload", "driver", "env", "ephemeral_disk", "image", "kill_signal", "kill_timeout", "max_run_duration",
		"migrate", "port", "poststop", "prestart", "reschedule", "resources", "restart", "shutdown_delay", "sidecar", "spread", "update", "user", "volume", "work_dir"}
}

// readTask reads what a task says, checked; nil if something is wrong. It finishes the body.
func (p *parser) readTask(b *body, j *api.Job) *api.Task {
	t := api.DefaultTask(b.block.Labels[0])
	for _, key := range checkKeys() {
		b.hints[key] = "; it belongs into check \"name\" { ... }"
	}
	for key, block := range nestedKeys() {
		b.hints[key] = "; it belongs into " + block + " { ... }"
	}
	if options, ok := api.DriverOptions(t.Driver); ok {
		for _, o := range options {
			b.hints[o.Name] = "; it belongs into config { ... }"
		}
	}
	b.whole("count", &t.Count, 0, api.MaxTaskInstances)
	if a := b.attr("count"); a != nil && j.Type.EveryNode() && t.Count == 1 { // to api it is one that was left out
		b.p.addf(a.Expr.Range(), "count has no meaning in a %s job: it has one instance on every node; leave it out", j.Type)
	}
	b.text("driver", &t.Driver)
	b.textWith("image", &t.Image, runtimeNames)
	b.textWith("command", &t.Command, runtimeNames)
	b.texts("args", &t.Args, runtimeNames)
	t.Sensitive = b.pairs("env", &t.Env, runtimeNames|sensitiveValues)
	b.textWith("user", &t.User, runtimeNames)
	b.textWith("work_dir", &t.WorkDir, runtimeNames)
	b.duration("shutdown_delay", &t.ShutdownDelay)
	b.duration("max_run_duration", &t.MaxRunDuration)
	if a := b.attr("max_run_duration"); a != nil && t.MaxRunDuration == 0 && !b.faulty() { // to api it is one that was left out
		b.p.addf(a.Expr.Range(), "max_run_duration 0s is not from 1s up; leave it out for no bound")
	}
	b.duration("kill_timeout", &t.KillTimeout)
	b.text("kill_signal", &t.KillSignal)
	b.pairs("meta", &t.Meta, 0)
	p.readPorts(b, t)
	b.block1("resources", func(r *body) {
		readResources(r, &t.Resources)
		p.readDevices(r, t)
	})
	b.block1("restart", func(r *body) {
		r.whole("attempts", &t.Restart.Attempts, -1, api.MaxTaskInstances)
		r.duration("interval", &t.Restart.Interval)
		r.duration("delay", &t.Restart.Delay)
		r.duration("max_delay", &t.Restart.MaxDelay)
		r.text("mode", &t.Restart.Mode)
		if r.attr("max_delay") == nil { // who waits longer than the usual ceiling raises it
			t.Restart.MaxDelay = max(t.Restart.MaxDelay, t.Restart.Delay)
		}
	})
	p.readVolumes(b, t)
	readPayload(b, t)
	p.readParts(b, t)
	p.readReschedule(b, t, j.Type)
	p.readChecks(b, t)
	readMigrate(b, t)
	b.block1("disconnect", func(r *body) { p.readDisconnect(r, t, j.Type) })
	b.block1("update", func(r *body) { readUpdate(r, &t.Update) })
	p.readPlacement(b, t)
	readDependencies(b, t)
	b.block1("config", func(c *body) { readConfig(c, t) })
	if b.finish(); b.faulty() {
		return nil
	}
	if err := checkTask(t, j.Type); err != nil {
		b.refuse(err, 1)
		return nil
	}
	return t
}

// checkTask has api check one task by itself, so that a fault is reported where it is.
func checkTask(t *api.Task, kind api.JobType) error {
	c := *t
	j := &api.Job{Name: "x", Type: kind, Priority: api.DefaultPriority, Tasks: []*api.Task{&c}}
	c.Ports, c.Sensitive, c.Devices = slices.Clone(t.Ports), slices.Clone(t.Sensitive), slices.Clone(t.Devices)
	c.Volumes, c.Parts = slices.Clone(t.Volumes), slices.Clone(t.Parts)
	c.Checks, c.DependsOn, c.DispatchPayload = slices.Clone(t.Checks), nil, nil // what the job knows of, the job checks
	c.Constraints, c.Affinities, c.Spreads = slices.Clone(t.Constraints), slices.Clone(t.Affinities), slices.Clone(t.Spreads)
	if !kind.Completes() && !kind.EveryNode() {
		j.Type = api.JobService // what else it may be is the job's fault, not the task's
	}
	j.Canonicalize()
	return j.Validate()
}

func readPayload(b *body, t *api.Task) {
	b.block1("dispatch_payload", func(r *body) {
		t.DispatchPayload = &api.DispatchPayload{}
		r.text("file", &t.DispatchPayload.File)
	})
}

// readDependencies reads what the task waits for. Whether that is there, the job knows.
func readDependencies(b *body, t *api.Task) {
	b.each("depends_on", 1, func(r *body) {
		d := api.Dependency{Task: r.block.Labels[0]}
		r.text("condition", &d.Condition)
		r.duration("timeout", &d.Timeout)
		if a := r.attr("timeout"); a != nil && d.Timeout == 0 && !r.faulty() { // to api it is one that was left out
			r.p.addf(a.Expr.Range(), "timeout 0s is not from 1s up; leave it out to wait for as long as it takes")
		}
		t.DependsOn = append(t.DependsOn, d)
	})
}

const maxPort = 65535

func (p *parser) readPorts(b *body, t *api.Task) {
	labels, static := map[string]string{}, map[int]string{}
	b.each("port", 1, func(r *body) {
		port := api.Port{Label: r.block.Labels[0]}
		place := r.block.LabelRanges[0]
		if other, ok := labels[port.Label]; ok {
			p.addf(place, "port %q is there already, at %s", port.Label, other)
		}
		labels[port.Label] = p.place(place)
		r.whole("to", &port.To, 1, maxPort)
		r.whole("static", &port.Static, 1, maxPort)
		if other, ok := static[port.Static]; ok && port.Static != 0 {
			p.addf(r.attr("static").Expr.Range(), "port %q has %d on the host already", other, port.Static)
		}
		static[port.Static] = port.Label
		t.Ports = append(t.Ports, port)
	})
}

func readResources(b *body, r *api.Resources) {
	if v, place, ok := b.value("cpu", 0); ok {
		n, err := milliCores(v)
		if err != nil {
			b.p.addf(place, "%s", err)
		}
		r.CPU = n
	}
	for _, amount := range []struct {
		name string
		to   *int64
	}{{"memory", &r.Memory}, {"disk", &r.Disk}} {
		if v, place, ok := b.value(amount.name, 0); ok {
			n, err := mebibytes(v)
			if err != nil {
				b.p.addf(place, "%s %s", amount.name, err)
			}
			*amount.to = n
		}
	}
}

// milliCores reads cores, such as 0.25, or thousandths of one in quotes, such as "250m".
func milliCores(v cty.Value) (int64, error) {
	number := v
	factor := big.NewFloat(1000)
	if v.Type() == cty.String {
		digits, ok := strings.CutSuffix(v.AsString(), "m")
		n, err := numberFromText(digits)
		if !ok || err != nil {
			return 0, fmt.Errorf(`cpu takes cores, such as 0.25, or thousandths of one, such as "250m", not %.40q`, v.AsString())
		}
		number, factor = n, big.NewFloat(1)
	}
	if number.Type() != cty.Number {
		return 0, fmt.Errorf(`cpu takes cores, such as 0.25, or thousandths of one, such as "250m", not %s`, kindName(v.Type()))
	}
	milli, _ := new(big.Float).Mul(number.AsBigFloat(), factor).Float64()
	if milli > 1<<40 || milli < -1<<40 {
		return 0, fmt.Errorf("cpu %s is more than a machine has", number.AsBigFloat().Text('g', 6))
	}
	if milli < 0 {
		milli -= 0.5
	} else {
		milli += 0.5
	}
	return int64(milli), nil
}

// mebibytes reads MiB, or a size in quotes, such as "1.5GiB". A part of a MiB counts as one.
func mebibytes(v cty.Value) (int64, error) {
	switch v.Type() {
	case cty.Number:
		n, exact := v.AsBigFloat().Int64()
		if exact != big.Exact {
			return 0, fmt.Errorf(`takes a whole number of MiB, or a size such as "512MiB", not %s`, v.AsBigFloat().Text('f', -1))
		}
		return n, nil
	case cty.String:
		if strings.Trim(v.AsString(), "0123456789. ") == "" {
			return 0, fmt.Errorf(`takes MiB as a number without quotes, or a size with its unit, such as "512MiB", not %.40q`, v.AsString())
		}
		n, err := api.ParseBytes(v.AsString())
		return (n + 1<<20 - 1) >> 20, err
	}
	return 0, fmt.Errorf(`takes MiB, or a size such as "512MiB", not %s`, kindName(v.Type()))
}

// readUpdate reads how a new version takes the place of the old one. Who gives an instance longer than usual to be healthy raises
// the deadlines that follow from it, unless they are given, too.
func readUpdate(r *body, u *api.Update) {
	r.whole("max_parallel", &u.MaxParallel, 1, api.MaxTaskInstances)
	r.text("order", &u.Order)
	r.duration("min_healthy_time", &u.MinHealthyTime)
	r.duration("healthy_deadline", &u.HealthyDeadline)
	r.duration("progress_deadline", &u.ProgressDeadline)
	r.whole("canary", &u.Canary, 0, api.MaxTaskInstances)
	r.flag("auto_promote", &u.AutoPromote)
	r.flag("auto_revert", &u.AutoRevert)
	if r.attr("healthy_deadline") == nil {
		u.HealthyDeadline = max(u.HealthyDeadline, 2*u.MinHealthyTime)
	}
	if r.attr("progress_deadline") == nil {
		u.ProgressDeadline = max(u.ProgressDeadline, 2*u.HealthyDeadline)
	}
}

// readMigrate reads how instances leave a node that is drained. Data that moves with them cannot be in two places, so they go
// stop-first unless that is said otherwise.
func readMigrate(b *body, t *api.Task) {
	if t.MovesData() {
		t.Migrate.Order = api.OrderStopFirst
	}
	b.block1("migrate", func(r *body) {
		r.whole("max_parallel", &t.Migrate.MaxParallel, 1, api.MaxTaskInstances)
		r.text("order", &t.Migrate.Order)
		readMoveHealth(r, &t.Migrate)
	})
}

// readMoveHealth reads when what takes the place of an instance that is moved is healthy, where that is not what update says.
func readMoveHealth(r *body, m *api.Migrate) {
	for _, at := range []struct {
		name string
		to   *time.Duration
	}{{"min_healthy_time", &m.MinHealthyTime}, {"healthy_deadline", &m.HealthyDeadline}} {
		r.duration(at.name, at.to)
		if a := r.attr(at.name); a != nil && *at.to == 0 && !r.faulty() { // to api it is one that was left out
			r.p.addf(a.Expr.Range(), "%s 0s is not above 0; leave it out for what update says", at.name)
		}
	}
}

// rescheduleInterval is what a limit of attempts counts in where nothing is said.
const rescheduleInterval = 24 * time.Hour

// readReschedule reads what becomes of an instance that failed for good. What is left out is the job type's.
func (p *parser) readReschedule(b *body, t *api.Task, kind api.JobType) {
	b.block1("reschedule", func(r *body) {
		policy := api.DefaultReschedule(kind)
		unlimited := policy.Attempts < 0
		r.flag("unlimited", &unlimited)
		attempts := r.attr("attempts")
		if a := r.attr("unlimited"); a != nil && unlimited == (attempts != nil) && !r.faulty() {
			says := "unlimited = false needs attempts: how often an instance is placed again within interval"
			if unlimited {
				says = "unlimited and attempts contradict each other; use one"
			}
			p.addf(a.NameRange, "%s", says)
		}
		switch {
		case attempts != nil:
			policy.Interval = rescheduleInterval
			r.whole("attempts", &policy.Attempts, 0, api.MaxTaskInstances)
		case unlimited:
			policy.Attempts, policy.Interval = -1, 0
		}
		r.duration("interval", &policy.Interval)
		r.duration("delay", &policy.Delay)
		r.duration("max_delay", &policy.MaxDelay)
		r.text("delay_function", &policy.DelayFunction)
		if r.attr("max_delay") == nil {
			policy.MaxDelay = max(policy.MaxDelay, policy.Delay)
		}
		t.Reschedule = policy
	})
}

// readDisconnect reads what becomes of instances whose node is not heard of. What would have no meaning is refused where it stands,
// also where it says what is so anyway.
func (p *parser) readDisconnect(r *body, t *api.Task, kind api.JobType) {
	d := &t.Disconnect
	r.duration("lost_after", &d.LostAfter)
	r.flag("replace", &d.Replace)
	r.text("reconcile", &d.Reconcile)
	r.duration("stop_on_client_after", &d.StopOnClientAfter)
	for _, key := range []string{"replace", "reconcile"} {
		switch a := r.attr(key); {
		case a == nil || r.faulty():
		case kind.EveryNode():
			p.addf(a.NameRange, "%s has no meaning in a %s job: its instances belong to their nodes; leave it out", key, kind)
		case d.LostAfter == 0:
			p.addf(a.NameRange, "%s has no meaning without lost_after: an instance is lost with its node, and replaced", key)
		}
	}
	for _, of := range []struct {
		key string
		d   time.Duration
	}{{"lost_after", d.LostAfter}, {"stop_on_client_after", d.StopOnClientAfter}} {
		if a := r.attr(of.key); a != nil && of.d == 0 && !r.faulty() { // to api it is one that was left out
			p.addf(a.Expr.Range(), "%s 0s is no time; leave it out", of.key)
		}
	}
	if d.LostAfter == 0 && d.StopOnClientAfter == 0 && !r.faulty() {
		p.addf(r.block.DefRange(), "disconnect says nothing: give lost_after, stop_on_client_after or both")
	}
}
