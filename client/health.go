package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"cube/api"
	"cube/client/check"
	"cube/client/driver"
)

// vigil is what is known of the health of an allocation's present run, if its task has checks. It is not kept over a
// restart of the agent: Status.Health is, and the checks then begin from what it says, so that a restart of the agent
// changes nobody's health.
type vigil struct {
	version  uint64 // of the job whose checks these are
	restarts uint32 // which run
	checks   []checkup
	well     time.Time // since when all of them pass; zero: one does not
	fell     time.Time // when the instance last became unhealthy
	falls    int       // how often it did, each time soon after the one before
	told     time.Time // when what a check found last became a status
}

// checkup is what is known of one check.
type checkup struct {
	due    time.Time // its next probe
	asked  bool      // a probe is in flight, or waits for its turn
	good   int       // results in a row that passed
	bad    int       // or that did not; one of the two is 0
	health api.HealthStatus
	fault  string // what the latest probe found wrong
}

const (
	// startPace is how long a check that has not passed yet waits between probes within its start period: what has just
	// come up is soon known to be, and a second of a small program's time a second is no load.
	startPace = time.Second
	// startSpread is the time within which a new instance's checks are first probed.
	startSpread = 500 * time.Millisecond
	// faultEvery is how often at most what a check finds before health is decided becomes a status: each is committed.
	faultEvery = 10 * time.Second
	// An instance that falls ill again soon after it was well must be well for longer each time before it is called so, so
	// that a check that flaps becomes two statuses a minute at most. flapCalm without a fall forgets the earlier ones.
	flapHold    = 5 * time.Second
	flapMaxHold = time.Minute
	flapCalm    = 10 * time.Minute
)

// evProbed is the result of a probe of the present run's i-th check.
type evProbed struct {
	Key     driver.Key
	Version uint64
	Check   int
	Began   time.Time
	Fault   string // "": it passed
}

// examine begins and ends the vigil over the present run, and says which of its checks are to be probed now, and when to
// look again (zero: only after an event). What is to be probed counts as asked.
func (a *allocation) examine(p *policy, now time.Time) (probe []int, wake time.Time) {
	if a.Stage != stageRun || p == nil {
		a.vigil = nil
		return nil, wake
	}
	a.watchOver(p, now)
	later := func(t time.Time) {
		if wake.IsZero() || t.Before(wake) {
			wake = t
		}
	}
	if a.vigil == nil {
		if a.Status.Health != api.HealthHealthy {
			later(a.healthyAt(p))
		}
		return nil, wake
	}
	v := *a.vigil
	v.checks = slices.Clone(v.checks)
	for i := range v.checks {
		switch c := &v.checks[i]; {
		case c.asked:
		case now.Before(c.due):
			later(c.due)
		default:
			c.asked = true
			probe = append(probe, i)
		}
	}
	if len(probe) > 0 {
		a.vigil = &v
	}
	return probe, wake
}

// watchOver begins the vigil over a run that has checks, unless it has begun. Checks that replace others begin from the
// health that the instance has.
func (a *allocation) watchOver(p *policy, now time.Time) {
	if len(p.Checks) == 0 {
		a.vigil = nil
		return
	}
	if v := a.vigil; v != nil && v.version == a.Version && v.restarts == a.Status.Restarts {
		return
	}
	v := &vigil{version: a.Version, restarts: a.Status.Restarts, checks: make([]checkup, len(p.Checks))}
	for i := range v.checks {
		c := &v.checks[i]
		c.health = a.Status.Health
		spread := p.Checks[i].Interval // nothing is urgent of what has been judged before
		if c.health == api.HealthUnknown {
			spread = startSpread
		}
		c.due = now.Add(jitterOf(a.ID, i, spread))
	}
	if a.Status.Health == api.HealthHealthy {
		v.well = now
	}
	a.vigil = v
}

// jitterOf spreads the first probes of instances that start together over a time. It is fixed by what they are, so that
// step needs no chance.
func jitterOf(id api.ID, check int, over time.Duration) time.Duration {
	x := (uint64(id)<<4 + uint64(check) + 1) * 0x9e3779b97f4a7c15 // Fibonacci hashing: neighbours fall far apart
	return time.Duration(float64(x>>11) / (1 << 53) * float64(over))
}

// healthyAt is when the instance is healthy if nothing happens before, and a probe passes then; zero: something has to happen.
func (a *allocation) healthyAt(p *policy) time.Time {
	since, ok := a.sidecarsSince(p)
	if !ok {
		return time.Time{}
	}
	if main := time.UnixMilli(a.Status.StartedAt); main.After(since) {
		since = main
	}
	at := since.Add(p.MinHealthy)
	if len(p.Checks) == 0 {
		return at
	}
	if a.vigil == nil || a.vigil.well.IsZero() {
		return time.Time{}
	}
	if ripe := a.vigil.well.Add(a.vigil.hold()); ripe.After(at) {
		return ripe
	}
	return at
}

// hold is how long all checks must have passed before the instance is called healthy (again).
func (v *vigil) hold() time.Duration {
	if v.falls < 2 {
		return 0
	}
	return backoff(flapHold, flapMaxHold, v.falls-2)
}

// judgeHealth makes what is known of the instance's health its status. Where there are checks, only a result makes it healthy:
// what passed some time ago may have ended since, without word of it.
func (a *allocation) judgeHealth(event any, p *policy, now time.Time) {
	if a.Stage != stageRun || p == nil {
		return
	}
	critical, fault := a.findings(p)
	_, asked := event.(evProbed)
	switch at := a.healthyAt(p); {
	case critical:
		if a.Status.Health != api.HealthUnhealthy {
			a.fall(now)
			a.tell(func(s *api.AllocationStatus) { s.Health, s.Message = api.HealthUnhealthy, fault })
		}
	case a.Status.Health != api.HealthHealthy && !at.IsZero() && !now.Before(at) && (asked || len(p.Checks) == 0):
		a.tell(func(s *api.AllocationStatus) { s.Health, s.Message = api.HealthHealthy, a.Note })
	case a.Status.Health == api.HealthUnknown && fault != "" && fault != a.Status.Message && now.Sub(a.vigil.told) >= faultEvery:
		v := *a.vigil
		v.told = now
		a.vigil = &v
		a.tell(func(s *api.AllocationStatus) { s.Message = fault })
	}
}

// findings says whether a sidecar is down or a check is critical, and what that says, or what the first check that does not pass
// has found, the critical ones first.
func (a *allocation) findings(p *policy) (critical bool, fault string) {
	if fault := a.sidecarFault(); fault != "" {
		return true, fault
	}
	if a.vigil == nil || len(a.vigil.checks) != len(p.Checks) {
		return false, ""
	}
	for i, c := range a.vigil.checks {
		ill := c.health == api.HealthUnhealthy
		if c.health != api.HealthHealthy && c.fault != "" && (fault == "" || ill && !critical) {
			fault = "check " + p.Checks[i].Name + ": " + c.fault
		}
		critical = critical || ill
	}
	return critical, fault
}

// checks says how the present run's checks stand, for people.
func (a *allocation) checks(p *policy) []api.CheckStatus {
	if a.vigil == nil || p == nil || len(a.vigil.checks) != len(p.Checks) {
		return nil
	}
	all := make([]api.CheckStatus, len(p.Checks))
	for i, c := range a.vigil.checks {
		all[i] = api.CheckStatus{Name: p.Checks[i].Name, Type: p.Checks[i].Type, Every: p.Checks[i].Interval, Health: c.health, Message: c.fault}
	}
	return all
}

// fall notes that the instance has become unhealthy.
func (a *allocation) fall(now time.Time) {
	if a.vigil == nil {
		return // it has no checks that could flap
	}
	v := *a.vigil
	if now.Sub(v.fell) > flapCalm {
		v.falls = 0
	}
	v.fell, v.falls = now, v.falls+1
	a.vigil = &v
}

// probed takes the result of a probe.
func (a *allocation) probed(e evProbed, p *policy, now time.Time) {
	if a.Stage != stageRun || p == nil || a.vigil == nil || e.Key != a.key() || e.Version != a.vigil.version ||
		a.vigil.version != a.Version || e.Check >= len(p.Checks) {
		return // of another run, or of checks that were replaced
	}
	v := *a.vigil
	v.checks = slices.Clone(v.checks)
	a.vigil = &v
	spec, c := &p.Checks[e.Check], &v.checks[e.Check]
	ripe := !now.Before(time.UnixMilli(a.Status.StartedAt).Add(spec.StartPeriod))
	c.take(spec, e.Fault, ripe)
	pace := spec.Interval
	if c.health == api.HealthUnknown && !ripe {
		pace = min(pace, startPace)
	}
	if c.due = e.Began.Add(pace); c.due.Before(now) {
		c.due = now
	}
	passes := func(c checkup) bool { return c.health == api.HealthHealthy }
	switch all := !slices.ContainsFunc(v.checks, func(c checkup) bool { return !passes(c) }); {
	case !all:
		v.well = time.Time{}
	case v.well.IsZero():
		v.well = now
	}
	if at := a.healthyAt(p); a.Status.Health != api.HealthHealthy && at.After(now) {
		if soon := e.Began.Add(min(pace, startPace)); at.Before(soon) {
			at = soon
		}
		if at.Before(c.due) {
			c.due = at // then its word is awaited
		}
	}
	if spec.RestartAfter > 0 && c.bad >= spec.RestartAfter {
		a.oust(fmt.Sprintf("check %s failed %s in a row: %s", spec.Name, times(c.bad), c.fault), p, now)
	}
}

// take counts a result. Before the start period is over (ripe), failures of a check that has not passed yet do not count.
func (c *checkup) take(spec *api.Check, fault string, ripe bool) {
	c.asked, c.fault = false, fault
	switch {
	case fault == "":
		c.good, c.bad = c.good+1, 0
		if c.good >= spec.SuccessBeforePassing {
			c.health = api.HealthHealthy
		}
	case c.health == api.HealthUnknown && !ripe:
		c.good = 0
	default:
		c.good, c.bad = 0, c.bad+1
		if c.bad >= spec.FailuresBeforeCritical {
			c.health = api.HealthUnhealthy
		}
	}
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// oust ends the present run for the sake of the next one. Nothing is started before it has ended; if no restart is left, the
// allocation fails when it has.
func (a *allocation) oust(text string, p *policy, now time.Time) {
	a.Ousted = true
	a.tell(func(s *api.AllocationStatus) { s.Failure = api.FailureCheck })
	a.retry(p, now.Sub(time.UnixMilli(a.Status.StartedAt)), false, text, now)
}

// probesAtOnce bounds the probes that a node has in flight: enough for hundreds of instances whose checks all hang until
// their timeouts, few enough that a node with thousands does not spend itself on asking.
const probesAtOnce = 64

// inquiry is a probe that is due.
type inquiry struct {
	key     driver.Key
	version uint64 // of the job whose checks these are
	check   int
}

// probe has a check of the allocation probed, now or when there is room.
func (r *runner) probe(a *allocation, i int) {
	q := inquiry{key: a.key(), version: a.Version, check: i}
	if r.probing == probesAtOnce {
		r.inquiries = append(r.inquiries, q)
		return
	}
	r.inquire(a, q)
}

// inquire probes beside the runner and posts the result. A check has one probe in flight at most, and none while nothing is
// asked: a check at rest owns an alarm and no goroutine.
func (r *runner) inquire(a *allocation, q inquiry) {
	task := r.spec(a).task(a.Task)
	if task == nil || q.check >= len(task.Checks) {
		return
	}
	c, target, probe := &task.Checks[q.check], r.target(a, &task.Checks[q.check]), r.c.probe
	r.probing++
	r.ops.Go(func() {
		began := time.Now()
		ctx, cancel := context.WithTimeout(r.calls, c.Timeout)
		fault := probe(ctx, c, target)
		cancel()
		r.post(func() {
			r.probing--
			r.probed(evProbed{Key: q.key, Version: q.version, Check: q.check, Began: began, Fault: fault})
			r.inquireNext()
		})
	})
}

// inquireNext gives the place of a probe that is over to one that waits, unless its run has ended meanwhile.
func (r *runner) inquireNext() {
	for len(r.inquiries) > 0 && r.probing < probesAtOnce {
		q := r.inquiries[0]
		r.inquiries = r.inquiries[1:]
		if a := r.allocs[q.key.Allocation]; a != nil && a.Stage == stageRun && a.key() == q.key && a.Version == q.version {
			r.inquire(a, q)
		}
	}
}

// probed takes a result. Most change nothing that others are to know: then nothing is written down either.
func (r *runner) probed(e evProbed) {
	if a := r.allocs[e.Key.Allocation]; a != nil {
		r.quietly(a, e)
	}
}

// quietly advances an allocation by an event that comes again and again and seldom has a consequence.
func (r *runner) quietly(a *allocation, ev any) {
	seq, stage, why, crew := a.Status.Seq, a.Stage, a.Why, a.Crew
	*a = step(*a, ev, r.policy(a), time.Now())
	if a.Status.Seq == seq && a.Stage == stage && a.Why == why && sameCrew(a.Crew, crew) {
		r.advance(a)
		return
	}
	r.settle(a, seq)
}

// target is where the allocation's check asks.
func (r *runner) target(a *allocation, c *api.Check) (t check.Target) {
	if d := r.drivers[a.Driver]; d != nil && c.Type == api.CheckExec {
		t.Exec = execIn(d.Driver, a.Run)
	}
	for _, b := range a.Ports {
		if b.Label == c.Port {
			t.Address = net.JoinHostPort(r.c.cfg.Address, strconv.Itoa(b.Host))
		}
	}
	return t
}

// execIn runs commands beside one run of an instance.
func execIn(d driver.Driver, h driver.Handle) check.Exec {
	return func(ctx context.Context, command []string, out io.Writer) (int, error) {
		return d.Exec(ctx, h, &driver.ExecRequest{Command: command, Stdout: out, Stderr: out})
	}
}
