package api

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
)

// Bounds of single values, each far beyond any real one.
const (
	maxText       = 4 << 10  // a command, an argument, a path
	maxValue      = 64 << 10 // the value of an environment variable
	maxKey        = 256
	maxEntries    = 1024 // of a map or list
	maxImageName  = 512
	maxResource   = 1 << 31 // thousandths of a core, MiB
	maxTimeout    = 24 * time.Hour
	maxRun        = 365 * 24 * time.Hour
	minInterval   = time.Second
	maxPercentage = 100
)

// Validate checks a canonical job. The error has CodeInvalid (CodeNotYet for what is understood but not done yet), is one
// line and names the field: task "web": port "http": static 65536 is not from 1 to 65535.
func (j *Job) Validate() error {
	if err := checkName("job name", j.Name); err != nil {
		return err
	}
	err := j.validateHead()
	patterns := 0
	for i, t := range j.Tasks {
		if err != nil {
			break
		}
		if t == nil {
			err = fmt.Errorf("task %d is null", i)
		} else if patterns += t.patternSize(); patterns > MaxPatternSize {
			err = fmt.Errorf("its regular expressions are too large; the number in { } counts")
		} else if i > 0 && j.Tasks[i-1].Name == t.Name {
			err = fmt.Errorf("two tasks are called %q", t.Name)
		} else {
			err = in(fmt.Sprintf("task %q", t.Name), cmp.Or(t.validate(), t.validateKind(j.Type), in("update", t.Update.validateFor(j.Type))))
		}
	}
	if err == nil {
		err = j.validateDependencies()
	}
	if err == nil {
		return nil
	}
	code := CodeInvalid
	if CodeOf(err) == CodeNotYet {
		code = CodeNotYet
	}
	return Errorf(code, "job %q: %w", j.Name, err)
}

// Fault is what is wrong with one value of a job, and the way to it: the blocks that it stands in, outermost first, then
// its key, as a task file writes them, such as task "web", port "http", static. Validate wraps one, so that who knows
// where each value came from can point there.
type Fault struct {
	Path []string
	Err  error
}

// Error names the blocks; the key is part of what Err says.
func (f *Fault) Error() string {
	return strings.Join(append(slices.Clone(f.Path[:len(f.Path)-1]), f.Err.Error()), ": ")
}

func (f *Fault) Unwrap() error { return f.Err }

// faultf says what is wrong with the value of key.
func faultf(key, format string, args ...any) error {
	return &Fault{[]string{key}, fmt.Errorf(format, args...)}
}

// in says that err, if any, is about something inside block.
func in(block string, err error) error {
	var f *Fault
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return &Fault{append([]string{block}, f.Path...), f.Err}
	}
	return &Fault{[]string{block, ""}, err}
}

func (j *Job) validateHead() error {
	switch j.Type {
	case JobService, JobBatch, JobSystem, JobSysbatch:
	default:
		return faultf("type", "type %.40q is none of service, batch, system, sysbatch", j.Type)
	}
	if j.Priority < MinPriority || j.Priority > MaxPriority {
		return faultf("priority", "priority %d is not from %d to %d", j.Priority, MinPriority, MaxPriority)
	}
	if j.Scheduler != "" && !slices.Contains(Algorithms(), j.Scheduler) {
		return faultf("scheduler", "scheduler %q is none of %s", j.Scheduler, strings.Join(Algorithms(), ", "))
	}
	if j.Scheduler != "" && j.Type.EveryNode() {
		return faultf("scheduler", "scheduler has no meaning in a %s job: nothing is chosen where every node has an instance", j.Type)
	}
	if len(j.Datacenters) > maxEntries {
		return faultf("datacenters", "%d datacenters are more than %d", len(j.Datacenters), maxEntries)
	}
	for _, dc := range j.Datacenters {
		if dc == "" || len(dc) > maxKey || !printable(dc) {
			return faultf("datacenters", "datacenter %.80q is not a name", dc)
		}
	}
	if len(j.Tasks) == 0 {
		return faultf("", "there is no task in it")
	}
	if len(j.Tasks) > MaxJobTasks {
		return faultf("", "%d tasks are more than %d", len(j.Tasks), MaxJobTasks)
	}
	return cmp.Or(checkPairs("meta", j.Meta), j.validateLaunches(), j.validateParameterized())
}

// checkName checks what becomes part of container names and DNS names: a DNS label (RFC 1123).
func checkName(what, name string) error {
	if err := CheckName(name); err != nil {
		return Errorf(CodeInvalid, "%s %.80q %w", what, name, err)
	}
	return nil
}

// CheckName says what is wrong with the name of a job, task or port, as the end of a sentence that begins with it.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("is empty")
	case len(name) > MaxNameLength:
		return fmt.Errorf("has %d characters; at most %d are allowed", len(name), MaxNameLength)
	}
	for i := range len(name) {
		c := name[i]
		alphanumeric := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alphanumeric && (c != '-' || i == 0 || i == len(name)-1) {
			return fmt.Errorf("is not a name: lower-case letters, digits and, inside, hyphens are allowed")
		}
	}
	return nil
}

func (t *Task) validate() error {
	if err := CheckName(t.Name); err != nil {
		return faultf("", "its name %w", err)
	}
	if t.Count < 0 || t.Count > MaxTaskInstances {
		return faultf("count", "count %d is not from 0 to %d", t.Count, MaxTaskInstances)
	}
	for _, check := range []func() error{
		t.validateProgram, t.validateEnvironment, t.validatePorts, t.validateChecks, t.validateVolumes, t.validateEphemeralDisk, t.validateParts, t.validateEnd, t.validatePlacement,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return cmp.Or(in("resources", t.Resources.validate()), in("resources", t.validateDevices()), in("restart", t.Restart.validate()),
		in("reschedule", t.Reschedule.validate(t)), in("update", t.Update.validate()), in("migrate", t.validateMigrate()),
		in("disconnect", t.Disconnect.validate()))
}

// validateKind refuses what has no meaning in a job of the kind.
func (t *Task) validateKind(kind JobType) error {
	switch d := t.MaxRunDuration; {
	case d == 0:
	case !kind.Completes():
		return faultf("max_run_duration", "max_run_duration is for batch and sysbatch jobs: instances of a %s job run until they are stopped", kind)
	case d < time.Second || d > maxRun:
		return faultf("max_run_duration", "max_run_duration %s is not from 1s to %s", d, maxRun)
	}
	if err := t.Disconnect.validateFor(kind); err != nil {
		return in("disconnect", err)
	}
	if !kind.EveryNode() {
		return nil
	}
	switch {
	case t.Count != 1: // what a task that leaves it out has
		return faultf("count", "count has no meaning in a %s job: it has one instance on every node; leave it out", kind)
	case len(t.Affinities) > 0:
		return faultf("affinity", "affinity has no meaning in a %s job: it has one instance on every node, and constraints say on which", kind)
	case len(t.DependsOn) > 0:
		return in(fmt.Sprintf("depends_on %q", t.DependsOn[0].Task),
			faultf("", "%w", Errorf(CodeNotYet, "depends_on is not there yet in a %s job", kind)))
	case len(t.Spreads) > 0:
		return faultf("spread", "spread has no meaning in a %s job: it has one instance on every node", kind)
	}
	return nil
}

// validateProgram checks what runs, and with which driver.
func (t *Task) validateProgram() error {
	if err := CheckOptions(t.Driver, t.Config); err != nil {
		return err
	}
	switch {
	case t.Driver == "docker" && t.Image == "":
		return faultf("image", "image is missing; the docker driver needs one")
	case t.Driver == "raw_exec" && t.Command == "":
		return faultf("command", "command is missing; the raw_exec driver needs one")
	case t.Driver == "raw_exec" && t.Image != "":
		return faultf("image", "image has no meaning for the raw_exec driver")
	case len(t.Image) > maxImageName || strings.HasPrefix(t.Image, "-") || strings.ContainsAny(t.Image, " \t") || !printable(t.Image):
		return faultf("image", "image %.80q is not the name of an image", t.Image)
	case t.Driver == "docker" && t.WorkDir != "" && t.WorkDir[0] != '/' && !strings.HasPrefix(t.WorkDir, "${"):
		return faultf("work_dir", "work_dir %.80q does not begin with /", t.WorkDir)
	case len(t.Args) > maxEntries:
		return faultf("args", "%d args are more than %d", len(t.Args), maxEntries)
	}
	if !strings.Contains(t.Image, "${") && t.Image != "" { // what the node fills in is checked there
		if _, err := reference.ParseAnyReference(t.Image); err != nil {
			return faultf("image", "image %.80q is not the name of an image: %w", t.Image, err)
		}
	}
	for _, text := range t.Args {
		if err := checkText("args", text); err != nil {
			return err
		}
	}
	return cmp.Or(checkText("command", t.Command), checkText("user", t.User), checkText("work_dir", t.WorkDir))
}

func checkText(key, text string) error {
	if len(text) > maxText || strings.ContainsRune(text, 0) {
		return faultf(key, "%s: %.40q has more than %d bytes, or a NUL", key, text, maxText)
	}
	return nil
}

func (t *Task) validateEnvironment() error {
	if len(t.Env) > maxEntries {
		return faultf("env", "%d environment variables are more than %d", len(t.Env), maxEntries)
	}
	for _, key := range sortedKeys(t.Env) {
		switch {
		case key == "" || len(key) > maxKey || strings.ContainsAny(key, "=\x00\n") || !printable(key):
			return faultf("env", "env: %.80q is not the name of a variable", key)
		case len(t.Env[key]) > maxValue || strings.ContainsRune(t.Env[key], 0):
			return in("env", faultf(key, "%s takes at most %d bytes and no NUL", key, maxValue))
		}
	}
	for _, key := range t.Sensitive {
		if _, ok := t.Env[key]; !ok {
			return faultf("env", "sensitive: env has no %.80q", key)
		}
	}
	return checkPairs("meta", t.Meta)
}

func checkPairs(what string, m map[string]string) error {
	if len(m) > maxEntries {
		return faultf(what, "%s has more than %d entries", what, maxEntries)
	}
	for _, key := range sortedKeys(m) {
		if key == "" || len(key) > maxKey || !printable(key) {
			return faultf(what, "%s: %.80q is not a key", what, key)
		}
		if len(m[key]) > maxText {
			return in(what, faultf(key, "%s takes at most %d bytes", key, maxText))
		}
	}
	return nil
}

func (t *Task) validatePorts() error {
	if len(t.Ports) > MaxNameLength {
		return faultf("", "%d ports are more than %d", len(t.Ports), MaxNameLength)
	}
	taken := map[int]string{}
	for i, p := range t.Ports {
		if err := CheckName(strings.ReplaceAll(strings.ToLower(p.Label), "_", "-")); err != nil {
			return faultf(fmt.Sprintf("port %q", p.Label), "port label %.80q %w", p.Label, err)
		}
		if i > 0 && t.Ports[i-1].Label == p.Label {
			return faultf(fmt.Sprintf("port %q", p.Label), "two ports are called %q", p.Label)
		}
		if err := p.validate(); err != nil {
			return in(fmt.Sprintf("port %q", p.Label), err)
		}
		if other, ok := taken[p.Static]; ok && p.Static != 0 {
			return in(fmt.Sprintf("port %q", p.Label), faultf("static", "static %d belongs to port %q already", p.Static, other))
		}
		taken[p.Static] = p.Label
	}
	return nil
}

func (p Port) validate() error {
	switch {
	case p.Static < 0 || p.Static > 65535:
		return faultf("static", "static %d is not from 1 to 65535", p.Static)
	case p.To < 0 || p.To > 65535:
		return faultf("to", "to %d is not from 1 to 65535", p.To)
	case p.Static >= MinDynamicPort && p.Static <= MaxDynamicPort:
		return faultf("static", "static %d is one of the dynamic ports, %d to %d; leave static out or choose another", p.Static, MinDynamicPort, MaxDynamicPort)
	}
	return nil
}

func (r Resources) validate() error {
	switch {
	case r.CPU < 1 || r.CPU > maxResource:
		return faultf("cpu", "cpu %s is not from 0.001 cores up", FormatCPU(r.CPU))
	case r.Memory < MinMemory || r.Memory > maxResource:
		return faultf("memory", "memory %d MiB is not from %d MiB up", r.Memory, MinMemory)
	case r.Disk < 0 || r.Disk > maxResource:
		return faultf("disk", "disk %d MiB is not from 0 up", r.Disk)
	}
	return nil
}

func (r Restart) validate() error {
	switch {
	case r.Attempts < -1 || r.Attempts > MaxTaskInstances:
		return faultf("attempts", "attempts %d is neither a number of restarts nor -1 for no limit", r.Attempts)
	case r.Mode != RestartDelay && r.Mode != RestartFail:
		return faultf("mode", "mode %.40q is neither delay nor fail", r.Mode)
	case r.Interval < minInterval || r.Interval > 365*maxTimeout:
		return faultf("interval", "interval %s is not from %s to a year", r.Interval, minInterval)
	case r.Delay < 0 || r.Delay > maxTimeout:
		return faultf("delay", "delay %s is not from 0 to %s", r.Delay, maxTimeout)
	case r.MaxDelay < r.Delay || r.MaxDelay > maxTimeout:
		return faultf("max_delay", "max_delay %s is not from delay (%s) to %s", r.MaxDelay, r.Delay, maxTimeout)
	case r.Attempts == 0 && r.Mode == RestartDelay:
		return faultf("attempts", "attempts 0 with mode delay would wait for ever; use mode fail")
	case r.Attempts < 0 && r.Mode == RestartFail:
		return faultf("mode", "mode fail needs attempts: how many restarts are allowed within interval")
	}
	return nil
}

// KillSignals lists the signals a task may be asked to end with.
func KillSignals() []string {
	return []string{"SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGABRT", "SIGALRM", "SIGWINCH", "SIGKILL"}
}

func (t *Task) validateEnd() error {
	if t.KillTimeout < 0 || t.KillTimeout > maxTimeout {
		return faultf("kill_timeout", "kill_timeout %s is not from 0 to %s", t.KillTimeout, maxTimeout)
	}
	if t.ShutdownDelay < 0 || t.ShutdownDelay > maxTimeout {
		return faultf("shutdown_delay", "shutdown_delay %s is not from 0 to %s", t.ShutdownDelay, maxTimeout)
	}
	if !slices.Contains(KillSignals(), t.KillSignal) {
		return faultf("kill_signal", "kill_signal %.40q is none of %s", t.KillSignal, strings.Join(KillSignals(), ", "))
	}
	return nil
}

// printable reports whether s holds no character a terminal would act on.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x202e || r == 0xfffd })
}
