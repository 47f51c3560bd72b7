package api

import (
	"fmt"
	"slices"
	"strings"
	"time"
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
	for i, t := range j.Tasks {
		if err != nil {
			break
		}
		if t == nil {
			err = fmt.Errorf("task %d is null", i)
		} else if i > 0 && j.Tasks[i-1].Name == t.Name {
			err = fmt.Errorf("two tasks are called %q", t.Name)
		} else if err = t.validate(j.Type); err != nil {
			err = fmt.Errorf("task %q: %w", t.Name, err)
		}
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

func (j *Job) validateHead() error {
	switch j.Type {
	case JobService, JobBatch:
	case JobSystem, JobSysbatch:
		return Errorf(CodeNotYet, "type %q is not there yet; service and batch are", j.Type)
	default:
		return fmt.Errorf("type %q is neither service nor batch", j.Type)
	}
	if j.Priority < MinPriority || j.Priority > MaxPriority {
		return fmt.Errorf("priority %d is not from %d to %d", j.Priority, MinPriority, MaxPriority)
	}
	if j.Scheduler != "" && !slices.Contains(Algorithms(), j.Scheduler) {
		return fmt.Errorf("scheduler %q is none of %s", j.Scheduler, strings.Join(Algorithms(), ", "))
	}
	if len(j.Datacenters) > maxEntries {
		return fmt.Errorf("%d datacenters are more than %d", len(j.Datacenters), maxEntries)
	}
	for _, dc := range j.Datacenters {
		if dc == "" || len(dc) > maxKey || !printable(dc) {
			return fmt.Errorf("datacenter %.80q is not a name", dc)
		}
	}
	if len(j.Tasks) == 0 {
		return fmt.Errorf("there is no task in it")
	}
	if len(j.Tasks) > MaxJobTasks {
		return fmt.Errorf("%d tasks are more than %d", len(j.Tasks), MaxJobTasks)
	}
	return checkPairs("meta", j.Meta)
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

func (t *Task) validate(kind JobType) error {
	if err := CheckName(t.Name); err != nil {
		return fmt.Errorf("its name %w", err)
	}
	if t.Count < 0 || t.Count > MaxTaskInstances {
		return fmt.Errorf("count %d is not from 0 to %d", t.Count, MaxTaskInstances)
	}
	for _, check := range []func() error{
		t.validateProgram, t.validateEnvironment, t.validatePorts, t.validateResources, t.Restart.validate, t.validateEnd,
		t.validatePlacement,
	} {
		if err := check(); err != nil {
			return err
		}
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
		return fmt.Errorf("image is missing; the docker driver needs one")
	case t.Driver == "raw_exec" && t.Command == "":
		return fmt.Errorf("command is missing; the raw_exec driver needs one")
	case t.Driver == "raw_exec" && t.Image != "":
		return fmt.Errorf("image has no meaning for the raw_exec driver")
	case len(t.Image) > maxImageName || strings.HasPrefix(t.Image, "-") || strings.ContainsAny(t.Image, " \t") || !printable(t.Image):
		return fmt.Errorf("image %.80q is not the name of an image", t.Image)
	case len(t.Args) > maxEntries:
		return fmt.Errorf("%d args are more than %d", len(t.Args), maxEntries)
	}
	for _, text := range append([]string{t.Command, t.User, t.WorkDir}, t.Args...) {
		if len(text) > maxText || strings.ContainsRune(text, 0) {
			return fmt.Errorf("command, args, user and work_dir take at most %d bytes each and no NUL: %.40q", maxText, text)
		}
	}
	return nil
}

func (t *Task) validateEnvironment() error {
	if len(t.Env) > maxEntries {
		return fmt.Errorf("%d environment variables are more than %d", len(t.Env), maxEntries)
	}
	for _, key := range sortedKeys(t.Env) {
		switch {
		case key == "" || len(key) > maxKey || strings.ContainsAny(key, "=\x00\n") || !printable(key):
			return fmt.Errorf("env: %.80q is not the name of a variable", key)
		case len(t.Env[key]) > maxValue || strings.ContainsRune(t.Env[key], 0):
			return fmt.Errorf("env: %s takes at most %d bytes and no NUL", key, maxValue)
		}
	}
	for _, key := range t.Sensitive {
		if _, ok := t.Env[key]; !ok {
			return fmt.Errorf("sensitive: env has no %.80q", key)
		}
	}
	return checkPairs("meta", t.Meta)
}

func checkPairs(what string, m map[string]string) error {
	if len(m) > maxEntries {
		return fmt.Errorf("%s has more than %d entries", what, maxEntries)
	}
	for _, key := range sortedKeys(m) {
		if key == "" || len(key) > maxKey || !printable(key) {
			return fmt.Errorf("%s: %.80q is not a key", what, key)
		}
		if len(m[key]) > maxText {
			return fmt.Errorf("%s: %s takes at most %d bytes", what, key, maxText)
		}
	}
	return nil
}

func (t *Task) validatePorts() error {
	if len(t.Ports) > MaxNameLength {
		return fmt.Errorf("%d ports are more than %d", len(t.Ports), MaxNameLength)
	}
	taken := map[int]string{}
	for i, p := range t.Ports {
		if err := CheckName(strings.ReplaceAll(strings.ToLower(p.Label), "_", "-")); err != nil {
			return fmt.Errorf("port label %.80q %w", p.Label, err)
		}
		if i > 0 && t.Ports[i-1].Label == p.Label {
			return fmt.Errorf("two ports are called %q", p.Label)
		}
		if p.Static < 0 || p.Static > 65535 {
			return fmt.Errorf("port %q: static %d is not from 1 to 65535", p.Label, p.Static)
		}
		if p.To < 0 || p.To > 65535 {
			return fmt.Errorf("port %q: to %d is not from 1 to 65535", p.Label, p.To)
		}
		if p.Static >= MinDynamicPort && p.Static <= MaxDynamicPort {
			return fmt.Errorf("port %q: static %d is one of the dynamic ports, %d to %d; leave static out or choose another", p.Label, p.Static, MinDynamicPort, MaxDynamicPort)
		}
		if other, ok := taken[p.Static]; ok && p.Static != 0 {
			return fmt.Errorf("ports %q and %q both want %d on the host", other, p.Label, p.Static)
		}
		taken[p.Static] = p.Label
	}
	return nil
}

func (t *Task) validateResources() error {
	r := t.Resources
	switch {
	case r.CPU < 1 || r.CPU > maxResource:
		return fmt.Errorf("resources: cpu %s is not from 0.001 cores up", FormatCPU(r.CPU))
	case r.Memory < MinMemory || r.Memory > maxResource:
		return fmt.Errorf("resources: memory %d MiB is not from %d MiB up", r.Memory, MinMemory)
	case r.Disk < 0 || r.Disk > maxResource:
		return fmt.Errorf("resources: disk %d MiB is not from 0 up", r.Disk)
	}
	return nil
}

func (r Restart) validate() error {
	switch {
	case r.Attempts < -1 || r.Attempts > MaxTaskInstances:
		return fmt.Errorf("restart: attempts %d is neither a number of restarts nor -1 for no limit", r.Attempts)
	case r.Mode != RestartDelay && r.Mode != RestartFail:
		return fmt.Errorf("restart: mode %.40q is neither delay nor fail", r.Mode)
	case r.Interval < minInterval || r.Interval > 365*maxTimeout:
		return fmt.Errorf("restart: interval %s is not from %s to a year", r.Interval, minInterval)
	case r.Delay < 0 || r.Delay > maxTimeout:
		return fmt.Errorf("restart: delay %s is not from 0 to %s", r.Delay, maxTimeout)
	case r.MaxDelay < r.Delay || r.MaxDelay > maxTimeout:
		return fmt.Errorf("restart: max_delay %s is not from delay (%s) to %s", r.MaxDelay, r.Delay, maxTimeout)
	case r.Attempts == 0 && r.Mode == RestartDelay:
		return fmt.Errorf("restart: attempts 0 with mode delay would wait for ever; use mode fail")
	}
	return nil
}

// KillSignals lists the signals a task may be asked to end with.
func KillSignals() []string {
	return []string{"SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGABRT", "SIGALRM", "SIGWINCH", "SIGKILL"}
}

func (t *Task) validateEnd() error {
	if t.KillTimeout < 0 || t.KillTimeout > maxTimeout {
		return fmt.Errorf("kill_timeout %s is not from 0 to %s", t.KillTimeout, maxTimeout)
	}
	if !slices.Contains(KillSignals(), t.KillSignal) {
		return fmt.Errorf("kill_signal %.40q is none of %s", t.KillSignal, strings.Join(KillSignals(), ", "))
	}
	return nil
}

// printable reports whether s holds no character a terminal would act on.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x202e || r == 0xfffd })
}
