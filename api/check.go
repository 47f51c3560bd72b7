package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// HealthStatus is how well an instance does, as its client finds out (see Check). Only an instance that runs has one: any
// other phase is HealthUnknown.
type HealthStatus uint8

const (
	HealthUnknown   HealthStatus = iota // it does not run, or not for long enough, or its checks have not decided yet
	HealthHealthy                       // it has run for min_healthy_time and all of its checks pass
	HealthUnhealthy                     // a check is critical: it is not to be sent work
)

var healthNames = [...]string{"unknown", "healthy", "unhealthy"}

func (h HealthStatus) String() string { return enumString(h, healthNames[:]) }

// MarshalText writes the names people see.
func (h HealthStatus) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *HealthStatus) UnmarshalText(b []byte) error {
	return enumParse(h, b, healthNames[:], "health")
}

// HealthOf is what is to be made of a health that was told together with a phase: only what runs has one.
func HealthOf(p Phase, h HealthStatus) HealthStatus {
	if p != PhaseRunning || h > HealthUnhealthy {
		return HealthUnknown
	}
	return h
}

// ImpliedHealth is the health that goes without saying. Whoever tells a phase and no health, as clients did before there were
// checks, means it, and where it holds it needs no place in logs and snapshots: what runs is well.
func ImpliedHealth(p Phase) HealthStatus {
	if p == PhaseRunning {
		return HealthHealthy
	}
	return HealthUnknown
}

// CheckType is how a check asks.
type CheckType string

const (
	CheckHTTP CheckType = "http" // a request; an answer from 200 to 399 passes
	CheckTCP  CheckType = "tcp"  // a connection that is accepted passes
	CheckGRPC CheckType = "grpc" // grpc.health.v1.Health/Check of the whole server; SERVING passes
	CheckExec CheckType = "exec" // a command inside the instance; exit code 0 passes
)

// CheckTypes lists the types of checks that there are.
func CheckTypes() []CheckType { return []CheckType{CheckHTTP, CheckTCP, CheckGRPC, CheckExec} }

// Check is a question that the client puts to each instance of a task, again and again. All checks together decide whether
// the instance is healthy (readiness). One with RestartAfter also has it restarted (liveness).
type Check struct {
	Name    string
	Type    CheckType
	Port    string            `json:",omitempty"` // label; canonical: the task's only port where none is named
	Path    string            `json:",omitempty"` // of an http check
	Method  string            `json:",omitempty"` // likewise
	Headers map[string]string `json:",omitempty"` // likewise
	Body    string            `json:",omitempty"` // likewise
	Command []string          `json:",omitempty"` // of an exec check: a program and its arguments

	Interval time.Duration // from the beginning of one probe to that of the next
	Timeout  time.Duration // of one probe; canonical: the lesser of DefaultCheckTimeout and Interval where it is 0
	// StartPeriod is how long after a start failures do not count. Until a probe passes, they then follow each other by
	// a second, so that an instance which is up is soon known to be.
	StartPeriod            time.Duration
	SuccessBeforePassing   int // results in a row
	FailuresBeforeCritical int // results in a row
	RestartAfter           int // failures in a row after which the instance is restarted; 0: it never is
}

// Defaults of a check, each with its reason.
const (
	DefaultCheckInterval          = 10 * time.Second // what orchestrators have used so long that programs are written for it
	DefaultCheckTimeout           = 2 * time.Second  // a health answer takes milliseconds: room for a pause of the program
	DefaultCheckStartPeriod       = 10 * time.Second // most programs listen within it; who needs longer knows
	DefaultSuccessBeforePassing   = 1
	DefaultFailuresBeforeCritical = 3 // one lost packet or one slow answer is no illness
)

// MaxChecks bounds the checks of one task.
const MaxChecks = 16

// DefaultCheck is a check in which only what has no default is left empty.
func DefaultCheck(name string) Check {
	return Check{
		Name: name, Interval: DefaultCheckInterval, StartPeriod: DefaultCheckStartPeriod,
		SuccessBeforePassing: DefaultSuccessBeforePassing, FailuresBeforeCritical: DefaultFailuresBeforeCritical,
	}
}

// UnmarshalJSON fills in the defaults for what the text leaves out. Unknown fields are errors.
func (c *Check) UnmarshalJSON(b []byte) error {
	type plain Check // without this method
	p := plain(DefaultCheck(""))
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return err
	}
	*c = Check(p)
	return nil
}

// canonicalizeChecks fills in what checks left out.
func (t *Task) canonicalizeChecks() {
	slices.SortFunc(t.Checks, func(a, b Check) int { return cmp.Compare(a.Name, b.Name) })
	for i := range t.Checks {
		c := &t.Checks[i]
		if c.Port == "" && len(t.Ports) == 1 && c.Type != CheckExec {
			c.Port = t.Ports[0].Label
		}
		if c.Type == CheckHTTP {
			c.Path, c.Method = cmp.Or(c.Path, "/"), strings.ToUpper(cmp.Or(c.Method, "GET"))
		}
		if c.Timeout == 0 {
			c.Timeout = min(DefaultCheckTimeout, c.Interval)
		}
	}
}

func (t *Task) validateChecks() error {
	if len(t.Checks) > MaxChecks {
		return faultf("", "%d checks are more than %d", len(t.Checks), MaxChecks)
	}
	for i := range t.Checks {
		c := &t.Checks[i]
		block := fmt.Sprintf("check %q", c.Name)
		if err := CheckName(c.Name); err != nil {
			return faultf(block, "check name %.80q %w", c.Name, err)
		}
		if i > 0 && t.Checks[i-1].Name == c.Name {
			return faultf(block, "two checks are called %q", c.Name)
		}
		for _, check := range []func() error{c.validateType, func() error { return c.validatePort(t) }, c.validateRequest, c.validateTimes} {
			if err := check(); err != nil {
				return in(block, err)
			}
		}
	}
	return nil
}

func (c *Check) validateType() error {
	switch {
	case c.Type == "":
		return faultf("type", "type is missing; it is one of %s", typeNames())
	case !slices.Contains(CheckTypes(), c.Type):
		return faultf("type", "type %.40q is none of %s", c.Type, typeNames())
	case c.Type == CheckExec && len(c.Command) == 0:
		return faultf("command", "command is missing; an exec check needs one, such as [\"pg_isready\"]")
	}
	// What only other types know, in the order of the documentation.
	for _, field := range []struct {
		key  string
		set  bool
		owns CheckType
	}{
		{"path", c.Path != "", CheckHTTP}, {"method", c.Method != "", CheckHTTP}, {"headers", len(c.Headers) > 0, CheckHTTP},
		{"body", c.Body != "", CheckHTTP}, {"command", len(c.Command) > 0, CheckExec},
	} {
		if field.set && c.Type != field.owns {
			return faultf(field.key, "%s has no meaning for a check of type %s", field.key, c.Type)
		}
	}
	return nil
}

func typeNames() string {
	names := make([]string, 0, len(CheckTypes()))
	for _, t := range CheckTypes() {
		names = append(names, string(t))
	}
	return strings.Join(names, ", ")
}

func (c *Check) validatePort(t *Task) error {
	labels := make([]string, 0, len(t.Ports))
	for _, p := range t.Ports {
		labels = append(labels, p.Label)
	}
	_, known := t.Port(c.Port)
	switch {
	case c.Type == CheckExec && c.Port != "":
		return faultf("port", "port has no meaning for a check of type exec")
	case c.Type == CheckExec || known:
		return nil
	case len(t.Ports) == 0:
		return faultf("port", "a check of type %s needs a port, and the task has none", c.Type)
	case c.Port == "":
		return faultf("port", "port is missing; it is one of %s", strings.Join(labels, ", "))
	}
	return faultf("port", "the task has no port %.80q; it has %s", c.Port, strings.Join(labels, ", "))
}

func (c *Check) validateRequest() error {
	const token = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" // RFC 9110, section 5.6.2
	foreign := func(s string) bool { return s == "" || len(s) > maxKey || strings.Trim(s, token) != "" }
	switch {
	case len(c.Command) > maxEntries:
		return faultf("command", "command has more than %d words", maxEntries)
	case len(c.Command) > 0 && c.Command[0] == "":
		return faultf("command", "command begins with an empty word")
	case len(c.Headers) > maxEntries:
		return faultf("headers", "%d headers are more than %d", len(c.Headers), maxEntries)
	case len(c.Body) > maxValue:
		return faultf("body", "body takes at most %d bytes", maxValue)
	}
	for _, word := range c.Command {
		if err := checkText("command", word); err != nil {
			return err
		}
	}
	if c.Type != CheckHTTP {
		return nil
	}
	switch {
	case !strings.HasPrefix(c.Path, "/") || len(c.Path) > maxText || !printable(c.Path) || strings.ContainsAny(c.Path, " #"):
		return faultf("path", "path %.80q is not a path such as /health", c.Path)
	case foreign(c.Method):
		return faultf("method", "method %.40q is not one of HTTP", c.Method)
	}
	for _, name := range sortedKeys(c.Headers) {
		switch value := c.Headers[name]; {
		case foreign(name):
			return faultf("headers", "headers: %.80q is not the name of a header", name)
		case len(value) > maxText || !printable(value):
			return in("headers", faultf(name, "%s takes at most %d printable bytes", name, maxText))
		}
	}
	return nil
}

func (c *Check) validateTimes() error {
	const most = 1000 // results in a row
	switch {
	case c.Interval < minInterval || c.Interval > maxTimeout:
		return faultf("interval", "interval %s is not from %s to %s", c.Interval, minInterval, maxTimeout)
	case c.Timeout <= 0:
		return faultf("timeout", "timeout %s is not above 0", c.Timeout)
	case c.Timeout > c.Interval:
		return faultf("timeout", "timeout %s is longer than interval (%s)", c.Timeout, c.Interval)
	case c.StartPeriod < 0 || c.StartPeriod > maxTimeout:
		return faultf("start_period", "start_period %s is not from 0 to %s", c.StartPeriod, maxTimeout)
	}
	for _, n := range []struct {
		key   string
		value int
		least int
	}{{"success_before_passing", c.SuccessBeforePassing, 1}, {"failures_before_critical", c.FailuresBeforeCritical, 1}, {"restart_after", c.RestartAfter, 0}} {
		if n.value < n.least || n.value > most {
			return faultf(n.key, "%s %d is not from %d to %d", n.key, n.value, n.least, most)
		}
	}
	return nil
}
