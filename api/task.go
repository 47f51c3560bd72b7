package api

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"
)

// Task is the unit a person writes. A Task in the state is canonical: every default is filled in, so readers need no
// second look. Absent and zero differ: DefaultTask holds what absent means.
type Task struct {
	Name        string
	Count       int
	Driver      string
	Image       string            `json:",omitempty"`
	Command     string            `json:",omitempty"`
	Args        []string          `json:",omitempty"`
	Env         map[string]string `json:",omitempty"`
	User        string            `json:",omitempty"`
	WorkDir     string            `json:",omitempty"`
	Ports       []Port            `json:",omitempty"` // sorted by label
	Resources   Resources
	Devices     []DeviceRequest `json:",omitempty"` // sorted by type
	Volumes     []VolumeRequest `json:",omitempty"` // sorted by name
	Restart     Restart
	Reschedule  Reschedule        `json:",omitzero"`  // zero: the job type's, see Rescheduling
	Checks      []Check           `json:",omitempty"` // sorted by name
	Update      Update            `json:",omitzero"`  // left out where it is the default
	Constraints []Constraint      `json:",omitempty"`
	Affinities  []Affinity        `json:",omitempty"`
	DependsOn   []Dependency      `json:",omitempty"` // sorted by task
	Spreads     []Spread          `json:",omitempty"`
	KillTimeout time.Duration     // between the signal and SIGKILL
	KillSignal  string            // "SIGTERM"
	Meta        map[string]string `json:",omitempty"`
	Config      map[string]any    `json:",omitempty"` // what only the driver knows; its schema is the driver's

	// ShutdownDelay is how long an instance that is to stop is out of rotation before it is asked to end.
	ShutdownDelay time.Duration `json:",omitempty"`
	// MaxRunDuration bounds how long an instance that runs to completion may take, from its start. One that takes longer is
	// stopped and has failed; it is started again only if Restart bounds its attempts and has some left. 0: no bound.
	MaxRunDuration time.Duration `json:",omitempty"`

	Migrate    Migrate    `json:",omitzero"` // left out where it is the default
	Disconnect Disconnect `json:",omitzero"` // likewise

	EphemeralDisk   *EphemeralDisk   `json:",omitempty"` // nil: instances have no directory of their own
	DispatchPayload *DispatchPayload `json:",omitempty"` // nil: they do not see what their job was dispatched with

	// Parts are the further containers of each instance, in the order of PartKinds.
	Parts []Part `json:",omitempty"`

	// Sensitive names the env keys whose values came from a sensitive variable. Their values are never shown: Redacted
	// replaces them.
	Sensitive []string `json:",omitempty"`
}

// Defaults of a task, each with its reason.
const (
	DefaultDriver      = "docker"
	DefaultCPU         = 100             // a tenth of a core: enough for a small service, so that a first try fits anywhere
	DefaultMemory      = 128             // MiB
	DefaultKillTimeout = 5 * time.Second // what Nomad users expect; Docker's own is 10
	DefaultKillSignal  = "SIGTERM"
)

// DefaultTask is a task in which only what has no default is left empty.
func DefaultTask(name string) *Task {
	return &Task{
		Name:        name,
		Count:       1,
		Driver:      DefaultDriver,
		Resources:   Resources{CPU: DefaultCPU, Memory: DefaultMemory},
		Restart:     DefaultRestart(),
		Update:      DefaultUpdate(),
		Migrate:     DefaultMigrate(),
		Disconnect:  DefaultDisconnect(),
		KillTimeout: DefaultKillTimeout,
		KillSignal:  DefaultKillSignal,
	}
}

// UnmarshalJSON fills in the defaults for what the text leaves out, so that absent and zero differ in JSON too. Unknown
// fields are errors.
func (t *Task) UnmarshalJSON(b []byte) error {
	type plain Task // without this method
	p := plain(*DefaultTask(""))
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return err
	}
	*t = Task(p)
	return nil
}

// Port returns the port with that label.
func (t *Task) Port(label string) (Port, bool) {
	for _, p := range t.Ports {
		if p.Label == label {
			return p, true
		}
	}
	return Port{}, false
}

// Port is a port a task listens on.
type Port struct {
	Label  string
	To     int `json:",omitempty"` // inside the instance; 0: the same as the host port
	Static int `json:",omitempty"` // on the host; 0: a dynamic one
}

// PortBinding is a port an allocation holds on its node.
type PortBinding struct {
	Label string
	Host  int // on the node
	To    int // inside the instance
}

// Restart modes: what happens when Attempts within Interval are used up.
const (
	RestartDelay = "delay" // wait for the next interval and go on, for ever
	RestartFail  = "fail"  // the allocation has failed
)

// Restart is how an instance that ends is started again in place. The delay doubles with each restart that follows soon,
// up to MaxDelay, and starts again from Delay after an instance has run for Interval.
type Restart struct {
	Attempts int           // restarts allowed within Interval; -1: no limit
	Interval time.Duration // the window Attempts counts in
	Delay    time.Duration // before the first restart
	MaxDelay time.Duration // the backoff's ceiling
	Mode     string
}

// DefaultRestart restarts in place for ever, from one second up to five minutes apart: long enough not to hammer a
// broken dependency, short enough that a person who fixes it sees it come back.
func DefaultRestart() Restart {
	return Restart{Attempts: -1, Interval: 10 * time.Minute, Delay: time.Second, MaxDelay: 5 * time.Minute, Mode: RestartDelay}
}

// RedactedValue stands where a sensitive value is not shown.
const RedactedValue = "<sensitive>"

// Redacted returns the job as people may see it: the values of sensitive env keys replaced. It copies what it changes
// and returns j itself when nothing is sensitive.
func (j *Job) Redacted() *Job {
	var out *Job
	for i, t := range j.Tasks {
		secret := func(p Part) bool { return len(p.Sensitive) > 0 }
		if len(t.Sensitive) == 0 && !slices.ContainsFunc(t.Parts, secret) {
			continue
		}
		if out == nil {
			c := *j
			c.Tasks = append([]*Task(nil), j.Tasks...)
			out = &c
		}
		tc := *t
		tc.Env = redactedEnv(t.Env, t.Sensitive)
		tc.Parts = slices.Clone(t.Parts)
		for n := range tc.Parts {
			tc.Parts[n].Env = redactedEnv(tc.Parts[n].Env, tc.Parts[n].Sensitive)
		}
		out.Tasks[i] = &tc
	}
	if out == nil {
		return j
	}
	return out
}
