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

// PartKind says when a part of a task runs.
type PartKind string

const (
	PartPrestart PartKind = "prestart" // to its end, before each start of the main container, one after the other
	PartSidecar  PartKind = "sidecar"  // beside the main container, in its network; it ends with it
	PartPoststop PartKind = "poststop" // once, after the instance's main container has ended for good
)

// PartKinds lists the kinds in the order in which an instance goes through them.
func PartKinds() []PartKind { return []PartKind{PartPrestart, PartSidecar, PartPoststop} }

// Part is a further container of a task. It belongs to the instance: it is placed, reported and counted with it, and has no
// row of its own. Its ports are the task's.
type Part struct {
	Name      string
	Kind      PartKind
	Image     string            `json:",omitempty"`
	Command   string            `json:",omitempty"`
	Args      []string          `json:",omitempty"`
	Env       map[string]string `json:",omitempty"`
	User      string            `json:",omitempty"`
	WorkDir   string            `json:",omitempty"`
	Resources Resources
	// Volumes are those of the task's volumes that it is given, where and as the task has them. Sorted.
	Volumes []string `json:",omitempty"`
	// Timeout bounds how long a prestart or poststop may run, from its start; 0: no bound, which only a prestart can have.
	Timeout   time.Duration  `json:",omitempty"`
	Config    map[string]any `json:",omitempty"` // as the task's
	Sensitive []string       `json:",omitempty"` // as the task's
}

const (
	// MaxTaskParts bounds the parts of one task, far beyond any real need.
	MaxTaskParts = 16
	// DefaultPoststopTimeout is what a poststop has to get done in. Whoever waits for the instance's room waits for it.
	DefaultPoststopTimeout = time.Minute
)

// DefaultPart is a part in which only what has no default is left empty.
func DefaultPart(kind PartKind, name string) Part {
	p := Part{Name: name, Kind: kind, Resources: Resources{CPU: DefaultCPU, Memory: DefaultMemory}}
	if kind == PartPoststop {
		p.Timeout = DefaultPoststopTimeout
	}
	return p
}

// UnmarshalJSON fills in the defaults for what the text leaves out. Unknown fields are errors.
func (p *Part) UnmarshalJSON(b []byte) error {
	type plain Part // without this method
	v := plain(DefaultPart("", ""))
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return err
	}
	*p = Part(v)
	return nil
}

// Part returns the part of that name, nil if there is none.
func (t *Task) Part(name string) *Part {
	i := slices.IndexFunc(t.Parts, func(p Part) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &t.Parts[i]
}

// Holds is what an instance of the task holds on its node: enough for the main container with its sidecars, and for each
// prestart and each poststop, which run while those do not.
func (t *Task) Holds() Resources {
	if len(t.Parts) == 0 {
		return t.Resources
	}
	return t.holdsParts()
}

func (t *Task) holdsParts() Resources {
	held := t.Resources
	for i := range t.Parts {
		if p := &t.Parts[i]; p.Kind == PartSidecar {
			held = held.Add(p.Resources)
		}
	}
	for i := range t.Parts {
		if p := &t.Parts[i]; p.Kind != PartSidecar {
			held = Resources{max(held.CPU, p.Resources.CPU), max(held.Memory, p.Resources.Memory), max(held.Disk, p.Resources.Disk)}
		}
	}
	return held
}

// canonicalizeParts orders parts by what comes first in an instance's life; the order of its prestarts and poststops is the
// writer's.
func (t *Task) canonicalizeParts() {
	slices.SortStableFunc(t.Parts, func(a, b Part) int {
		kinds := PartKinds()
		byKind := cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind))
		if byKind == 0 && a.Kind == PartSidecar {
			return cmp.Compare(a.Name, b.Name)
		}
		return byKind
	})
	for i := range t.Parts {
		p := &t.Parts[i]
		slices.Sort(p.Volumes)
		slices.Sort(p.Sensitive)
		if p.Kind == PartPoststop && p.Timeout == 0 {
			p.Timeout = DefaultPoststopTimeout
		}
	}
}

func (t *Task) validateParts() error {
	if len(t.Parts) > MaxTaskParts {
		return faultf("", "%d sidecars, prestarts and poststops are more than %d", len(t.Parts), MaxTaskParts)
	}
	for i := range t.Parts {
		p := &t.Parts[i]
		block := fmt.Sprintf("%s %q", p.Kind, p.Name)
		if !slices.Contains(PartKinds(), p.Kind) {
			return in(fmt.Sprintf("part %q", p.Name), faultf("kind", "kind %.40q is none of prestart, sidecar, poststop", string(p.Kind)))
		}
		if err := CheckName(p.Name); err != nil {
			return in(block, faultf("", "its name %w", err))
		}
		if slices.ContainsFunc(t.Parts[:i], func(o Part) bool { return o.Name == p.Name }) {
			return in(block, faultf("", "another part of the task is called %q", p.Name))
		}
		if t.Driver == "raw_exec" {
			return in(block, faultf("", "a %s needs a driver with containers; what raw_exec runs shares the node's network as it is", p.Kind))
		}
		if err := p.validate(t); err != nil {
			return in(block, err)
		}
	}
	if held := t.Holds(); len(t.Parts) > 0 && (held.CPU > maxResource || held.Memory > maxResource || held.Disk > maxResource) {
		return faultf("resources", "the task and its sidecars ask for more than any machine has")
	}
	return nil
}

func (p *Part) validate(t *Task) error {
	// What it has in common with a task is checked as one.
	c := &Task{Driver: t.Driver, Image: p.Image, Command: p.Command, Args: p.Args, Env: p.Env, User: p.User, WorkDir: p.WorkDir, Config: p.Config, Sensitive: p.Sensitive}
	for _, check := range []func() error{c.validateProgram, c.validateEnvironment} {
		if err := check(); err != nil {
			return err
		}
	}
	for i, name := range p.Volumes {
		switch {
		case !slices.ContainsFunc(t.Volumes, func(v VolumeRequest) bool { return v.Name == name }):
			return faultf("volumes", "volumes: the task has no volume %.80q", name)
		case i > 0 && p.Volumes[i-1] == name:
			return faultf("volumes", "volumes: %q is there twice", name)
		}
	}
	switch {
	case p.Kind == PartSidecar && p.Timeout != 0:
		return faultf("timeout", "timeout has no meaning for a sidecar: it runs for as long as its main container")
	case p.Kind != PartSidecar && p.Timeout != 0 && (p.Timeout < time.Second || p.Timeout > maxTimeout):
		return faultf("timeout", "timeout %s is not from 1s to %s", p.Timeout, maxTimeout)
	}
	if p.Kind == PartSidecar {
		for _, name := range []string{"extra_hosts", "hostname"} {
			if _, ok := p.Config[name]; ok {
				return in("config", faultf(name, "%s belongs to the task: a sidecar has the network of its main container, and the names in it", name))
			}
		}
	}
	return in("resources", p.Resources.validate())
}

// PartStatus is how a part of an instance stands, as its node tells it when somebody asks. It is never stored and never
// replicated.
type PartStatus struct {
	Name       string
	Kind       PartKind
	Phase      Phase
	Restarts   int       `json:",omitempty"`
	ExitCode   *int      `json:",omitempty"` // of the latest end
	Signal     int       `json:",omitempty"`
	OOM        bool      `json:",omitempty"`
	Message    string    `json:",omitempty"`
	StartedAt  time.Time // zero: never
	FinishedAt time.Time // zero: not yet
}

// PartText says what became of a part, as messages about its instance do: "sidecar proxy: exit code 139 (SIGSEGV)".
func PartText(kind PartKind, name, text string) string {
	return fmt.Sprintf("%s %s: %s", kind, name, text)
}

// PartOf returns the name of the part that a message begins with, as PartText writes it; "" if it is about the instance.
func PartOf(message string) string {
	kind, rest, _ := strings.Cut(message, " ")
	name, _, ok := strings.Cut(rest, ": ")
	if !ok || !slices.Contains(PartKinds(), PartKind(kind)) || CheckName(name) != nil {
		return ""
	}
	return name
}

// redactedEnv is an environment as people may see it.
func redactedEnv(env map[string]string, sensitive []string) map[string]string {
	if len(sensitive) == 0 {
		return env
	}
	out := make(map[string]string, len(env))
	for k, v := range env {
		out[k] = v
	}
	for _, k := range sensitive {
		if _, ok := out[k]; ok {
			out[k] = RedactedValue
		}
	}
	return out
}
