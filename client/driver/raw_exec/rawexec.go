// Package rawexec runs instances as plain processes of the machine, with no isolation.
//
// A supervisor process stands between the agent and each program, so that the agent may come and go: it is the
// program's parent, keeps its output, and writes down how it ended. Everything that is known of a run stands in files of
// its allocation's directory and in /proc.
package rawexec

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"cube/api"
	"cube/client/driver"
	"cube/client/driver/cgroup"
	"cube/client/driver/transcript"
)

// Name is what a task's driver field says.
const Name = "raw_exec"

const (
	logFileBytes = 10 << 20 // a file of output
	logFiles     = 5        // of them: enough to look back, bounded on the disk
)

// Config is what a Driver is made of.
type Config struct {
	Owner driver.Owner
	// Dir is where allocations are found again after the agent started anew. It belongs to this owner's driver alone.
	Dir string
	// Executable is started as `EXECUTABLE supervise DIRECTORY` and must then call Supervise. Default: this program.
	Executable string
	Logger     hclog.Logger
}

// Driver is the raw_exec driver. Make it with New.
type Driver struct {
	owner      driver.Owner
	text       api.IDText
	executable string
	archive    *transcript.Archive
	log        hclog.Logger
	lanes      driver.Lanes

	logSize int // logFileBytes, but in tests of rotation

	mu       sync.Mutex
	watchers map[*watcher]bool // guarded by mu
}

var _ driver.Driver = (*Driver)(nil)

// New makes a driver.
func New(c Config) (*Driver, error) {
	archive, err := transcript.OpenArchive(c.Dir)
	if err != nil {
		return nil, err
	}
	executable := c.Executable
	if executable == "" {
		if executable, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find this program's file, which raw_exec starts again: %w", err)
		}
	}
	log := c.Logger
	if log == nil {
		log = hclog.NewNullLogger()
	}
	return &Driver{
		owner: c.Owner, text: api.NewIDText(c.Owner.ClusterID), executable: executable, archive: archive, log: log,
		logSize: logFileBytes, watchers: map[*watcher]bool{},
	}, nil
}

// Name returns "raw_exec".
func (d *Driver) Name() string { return Name }

// CheckOptions validates a task's config block against the driver's table, which is empty.
func (d *Driver) CheckOptions(options map[string]any) error { return api.CheckOptions(Name, options) }

// Fingerprint says what the machine lets the driver do. Its attribute cgroup is v1, v2 or none; with none nothing limits
// an instance's memory and CPU.
func (d *Driver) Fingerprint(context.Context) api.DriverInfo {
	cgroup := cgroupVersion(cgroup.Root)
	if cgroup == "" {
		cgroup = "none"
	}
	info := api.DriverInfo{Detected: true, Attributes: map[string]string{"cgroup": cgroup}}
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		info.Reason = "the kernel has no pidfd_open; raw_exec needs Linux 5.4 or later"
		return info
	}
	unix.Close(fd)
	if _, err := os.Stat(d.executable); err != nil {
		info.Reason = fmt.Sprintf("the program that supervises instances is gone: %v; start the agent anew", err)
		return info
	}
	info.Healthy = true
	return info
}

// Close has nothing to release. Instances go on running.
func (d *Driver) Close() error { return nil }
