// Package driver says how an instance is run, whatever runs it. The implementations are docker, raw_exec and fake, each
// in a package of its own; drivertest holds the contract that all of them pass.
package driver

import (
	"context"
	"io"
	"time"

	"cube/api"
)

// Owner marks what belongs to one client. Several clients may share an engine, so every list filters by both.
type Owner struct {
	ClusterID string
	NodeID    string
}

// Key names one run of one allocation: each restart is a new instance with the next Restarts. A part of its task (a sidecar,
// a prestart, a poststop) is an instance of its own that belongs to the run Of of the main one, and counts its own restarts.
type Key struct {
	Allocation api.ID
	Restarts   uint32
	Of         uint32 `json:",omitempty"` // with Part
	Part       string `json:",omitempty"` // "": the main instance
}

// Config is everything a driver needs to start an instance. Every ${} is filled in already.
type Config struct {
	Owner   Owner
	Key     Key
	Text    string // the allocation's ID as people see it, for names and labels
	Job     string
	Task    string
	Slot    uint32
	Version uint64
	Image   string
	Command string
	Args    []string
	Env     map[string]string // CUBE_* and the task's own
	User    string
	WorkDir string
	Network
	Devices []Device
	Volumes []Volume
	Held    api.Resources
	Options map[string]any // the task's config block, already checked by CheckOptions
	Dir     string         // a directory on the node that is this allocation's own; it exists
}

// Network is how an instance is reached.
type Network struct {
	Address string // of the node: ports are published on it
	Ports   []api.PortBinding
	// Beside is the running instance whose network a part is in, as its Handle's Data says; "": the network is its own.
	Beside string
}

// Device is a device of the node that an instance holds.
type Device struct {
	api.DeviceClaim
	Vendor string // "nvidia": its toolkit hands the device to containers, by ID
	Path   string // the file on the node that it is, such as /dev/kvm; "": it is none
}

// Volume is a directory of the node that an instance is given.
type Volume struct {
	Name        string
	Path        string // on the node
	Destination string // inside a container
	ReadOnly    bool
}

// Handle is how a driver finds an instance again after the agent has started anew. It is kept in the client's state file
// and must survive a round trip through it.
type Handle struct {
	Key  Key
	Data string // the driver's own: a container ID, a PID with its start time
}

// Instance is an instance that a driver found.
type Instance struct {
	Handle    Handle
	Job, Task string
	Version   uint64
	Running   bool
	StartedAt time.Time
	Exit      *Exit // set when it is not running and its end is known
}

// Exit is how an instance ended.
type Exit struct {
	Code       int
	Signal     int // the signal that ended it, 0 for none
	OOM        bool
	Message    string // one line more, where the driver knows one
	FinishedAt time.Time
}

// Usage is what an instance with all its processes has used.
type Usage struct {
	CPU    time.Duration // time on a CPU since it began; it only grows
	Memory int64         // bytes it holds now, without the copies of files that the kernel can give up
	At     time.Time     // when it was counted
}

// Progress tells how far a start has come, for people: "pulling redis:7: 12 of 40 MiB".
type Progress func(message string)

// StartError is a start that failed for a reason worth telling apart.
type StartError struct {
	Failure   api.Failure // FailureStart or FailurePortTaken
	Port      int         // the host port, with FailurePortTaken
	Permanent bool        // trying again can not help until the task or the machine changes; it is tried again all the same, slowly
	Err       error
}

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// Driver runs instances. All methods are safe for concurrent use; calls for different keys do not wait for each other.
// Every method honours its context, and none blocks for ever when what it drives hangs: a deadline of the driver's own
// stands behind each call to it.
type Driver interface {
	// Name is what a task's driver field says.
	Name() string
	// Fingerprint says whether and how the driver works on this machine. It does not fail: trouble is in the answer.
	Fingerprint(ctx context.Context) api.DriverInfo
	// CheckOptions validates a task's config block, without I/O.
	CheckOptions(options map[string]any) error
	// Start starts an instance and returns when it runs. It is idempotent: if the instance of that key exists it is
	// adopted when its marks (cluster, node, allocation, job, task, version) agree, and replaced when they do not. A
	// failed Start leaves nothing behind.
	Start(ctx context.Context, c *Config, progress Progress) (Handle, time.Time, error)
	// Stop asks the instance to end with the signal, and kills it after the timeout. It returns once the instance has
	// ended, and nil also if it had ended before or is gone.
	Stop(ctx context.Context, h Handle, signal string, timeout time.Duration) error
	// Remove deletes what is left of an ended instance, after keeping the tail of its output where Logs finds it.
	// Removing what is gone is no error.
	Remove(ctx context.Context, h Handle) error
	// List returns all of the owner's instances, running or ended.
	List(ctx context.Context) ([]Instance, error)
	// Watch calls ended for each instance of the owner that ends, at least once each, until ctx is done; it costs no
	// goroutine an instance. What ended before Watch began is reported too. ended must not block.
	Watch(ctx context.Context, ended func(Handle, Exit)) error
	// Logs streams the output of an allocation's instances, the kept tails of former ones first: of the main ones, or of
	// those of the part that is asked for.
	Logs(ctx context.Context, allocation api.ID, r api.LogRequest) (io.ReadCloser, error)
	// Usage counts what a running instance uses now. CodeConflict when it does not run, and
	// CodeNotYet when this machine has no means to count.
	Usage(ctx context.Context, h Handle) (Usage, error)
	// Exec runs a command beside a running instance and returns its exit code once it has ended and all it wrote has been
	// passed on; 128 and the number for one that a signal ended. When ctx ends, so does the command, with what it has
	// started, and Exec returns ctx's error. The command also ends when the instance does.
	//
	// With an error the code says no more than that: ExecNotFound and ExecNotRunnable for a command that could not be
	// started, -1 for everything else. An instance that does not run is CodeConflict.
	Exec(ctx context.Context, h Handle, r *ExecRequest) (code int, err error)
	// Close releases what the driver holds. Instances go on running.
	Close() error
}
