package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/c9s/goprocinfo/linux"
	"golang.org/x/sys/unix"

	"cube/api"
)

// fingerprintTimeout bounds a driver's fingerprint. It is below adoptWait: an engine that hangs is reported as such in the
// first registration.
const fingerprintTimeout = 3 * time.Second

// unhealthyOften is how many times as often as a healthy driver an unhealthy one is asked.
const unhealthyOften = 6

// fingerprintMachine measures what does not change while the agent runs.
func (c *Client) fingerprintMachine() error {
	attributes, total, err := c.cfg.Machine.Facts(c.cfg.DataDir)
	if err != nil {
		return fmt.Errorf("measure this machine: %w", err)
	}
	c.attributes = attributes
	c.total = total.Sub(c.cfg.Reserved)
	c.total.CPU, c.total.Memory, c.total.Disk = max(0, c.total.CPU), max(0, c.total.Memory), max(0, c.total.Disk)
	return nil
}

// fingerprintDrivers asks the drivers whose latest answer due picks, side by side, and makes the node say what they said.
func (c *Client) fingerprintDrivers(ctx context.Context, due func(api.DriverInfo) bool) {
	c.mu.Lock()
	list, made, infos := c.drivers, c.made, maps.Clone(c.infos)
	c.mu.Unlock()
	if infos == nil {
		infos = map[string]api.DriverInfo{}
	}
	ctx, cancel := context.WithTimeout(ctx, fingerprintTimeout)
	defer cancel()
	var asked sync.WaitGroup
	var mu sync.Mutex // guards infos
	for _, d := range list {
		if !due(infos[d.Name()]) {
			continue
		}
		asked.Go(func() {
			info := d.Fingerprint(ctx)
			mu.Lock()
			defer mu.Unlock()
			infos[d.Name()] = info
		})
	}
	asked.Wait()
	c.mu.Lock()
	if c.made == made { // else these drivers were closed meanwhile
		c.infos = infos
	}
	c.mu.Unlock()
	c.refresh()
}

// offers are what a node has for tasks besides its resources.
type offers struct {
	devices devices
	volumes volumes
	looking sync.Mutex // held while volumes are looked for, so that what was found later is what is kept
	telling sync.Mutex // held from reading what is known to saying it, for the same reason
}

// devices are what was found of them at the latest look.
type devices struct {
	groups  []api.DeviceGroup
	trouble string // what is not offered, and why
}

// volumes are what was found of them at the latest look.
type volumes struct {
	list    []api.NodeVolume
	trouble string // what is not offered, and why
}

// fingerprintVolumes looks what volumes there are. The next refresh makes the node say so.
func (c *Client) fingerprintVolumes() {
	if c.cfg.Volumes == nil {
		return
	}
	c.offers.looking.Lock()
	defer c.offers.looking.Unlock()
	var found volumes
	var err error
	if found.list, err = c.cfg.Volumes.Find(); err != nil {
		found.trouble = err.Error()
	}
	c.mu.Lock()
	before := c.offers.volumes.trouble
	c.offers.volumes = found
	c.mu.Unlock()
	if found.trouble != "" && found.trouble != before {
		c.log.Warn("a volume is not offered to tasks", "reason", found.trouble)
	}
}

// fingerprintDevices looks what devices there are, if all or something was amiss with them. The next refresh makes the node
// say so.
func (c *Client) fingerprintDevices(all bool) {
	c.mu.Lock()
	before := c.offers.devices.trouble
	c.mu.Unlock()
	if c.cfg.Devices == nil || !all && before == "" {
		return
	}
	var found devices
	var err error
	if found.groups, err = c.cfg.Devices(); err != nil {
		found.trouble = err.Error()
	}
	c.mu.Lock()
	c.offers.devices = found
	c.mu.Unlock()
	if found.trouble != "" && found.trouble != before {
		c.log.Warn("a device is not offered to tasks", "reason", found.trouble)
	}
}

// refresh makes the node say what is known now.
func (c *Client) refresh() {
	c.offers.telling.Lock()
	defer c.offers.telling.Unlock()
	c.mu.Lock()
	infos, devices, volumes := c.infos, c.offers.devices, c.offers.volumes
	c.mu.Unlock()
	attributes := maps.Clone(c.attributes)
	if attributes == nil {
		attributes = map[string]string{}
	}
	for name, info := range infos {
		if !info.Healthy {
			continue
		}
		attributes["driver."+name] = "true"
		for key, value := range info.Attributes {
			if !strings.HasPrefix(key, "driver.") {
				key = "driver." + name + "." + key
			}
			attributes[key] = value
		}
	}
	if c.save != nil {
		if err := c.save.failing(); err != nil {
			attributes["client.trouble"] = "the client's state is not saved: " + err.Error()
		}
	}
	if devices.trouble != "" {
		attributes["device.trouble"] = devices.trouble
	}
	if volumes.trouble != "" {
		attributes["volume.trouble"] = volumes.trouble
	}
	node := &api.Node{
		ID: c.id, Name: c.cfg.Name, Datacenter: c.cfg.Datacenter, Address: c.cfg.Address, HTTPAddr: c.cfg.HTTPAddr,
		Version: c.cfg.Version, Attributes: attributes, Meta: c.cfg.Meta, Resources: c.total, Drivers: infos,
		Devices: devices.groups, Volumes: volumes.list, Incarnation: c.incarnation,
	}
	if old := c.node.Load(); old == nil || !reflect.DeepEqual(old, node) {
		c.node.Store(node)
	}
}

// describe returns what the node says of itself. It is shared: callers do not change it.
func (c *Client) describe() *api.Node { return c.node.Load() }

// watchDrivers asks the drivers for their fingerprint from time to time, and looks at the devices and volumes, until ctx is
// done, and has the node registered anew when something has changed.
func (c *Client) watchDrivers(ctx context.Context) {
	tick := time.NewTicker(max(c.cfg.Tuning.Fingerprint/unhealthyOften, time.Millisecond))
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		all := n%unhealthyOften == 0
		c.fingerprintDevices(all)
		c.fingerprintVolumes()
		c.fingerprintDrivers(ctx, func(i api.DriverInfo) bool { return all || !i.Healthy })
		if ctx.Err() == nil {
			c.link.outOfDate(c.describe())
		}
	}
}

// load measures the machine, nil if that is not possible now.
func (c *Client) load() *api.NodeLoad {
	load, err := c.cfg.Machine.Load(c.cfg.DataDir)
	if err != nil {
		c.log.Debug("the machine's load is not measured", "error", err)
		return nil
	}
	return load
}

const mib = 1 << 20

var _ Machine = (*procMachine)(nil)

// procMachine is the machine that this process runs on, read from /proc by goprocinfo.
type procMachine struct {
	root string // "/"; tests put another tree here

	mu   sync.Mutex    // guards what follows
	load *api.NodeLoad // the latest; nil: none yet
	at   time.Time     // of it
	cpu  linux.CPUStat // then: CPU use is a difference
}

func (m *procMachine) path(p string) string { return filepath.Join(m.root, p) }

// read calls one of goprocinfo's parsers, which index into lines without looking at their length: a line it does not
// expect is an error here, not the end of the agent.
func read[T any](parse func(string) (*T, error), path string) (out *T, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("read %s: a line is not as expected: %v", path, p)
		}
	}()
	if out, err = parse(path); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return out, nil
}

// Facts reads what does not change while the agent runs. Free disk is what the file system had for us at this moment.
func (m *procMachine) Facts(diskPath string) (map[string]string, api.Resources, error) {
	attrs := map[string]string{"cpu.arch": runtime.GOARCH, "kernel.name": runtime.GOOS}
	var total api.Resources
	stat, err := read(linux.ReadStat, m.path("proc/stat"))
	if err != nil {
		return nil, total, err
	}
	cores := max(1, len(stat.CPUStats))
	attrs["cpu.cores"] = strconv.Itoa(cores)
	memory, err := read(linux.ReadMemInfo, m.path("proc/meminfo"))
	if err != nil {
		return nil, total, err
	}
	_, free, err := diskMiB(diskPath)
	if err != nil {
		return nil, total, err
	}
	if free >= 10<<10 {
		free = free >> 10 << 10 // whole GiB: two starts one after the other say the same
	}
	total = api.Resources{CPU: int64(cores) * 1000, Memory: int64(memory.MemTotal >> 10), Disk: free}
	m.name(attrs)
	return attrs, total, nil
}

// name adds the attributes that a machine may lack.
func (m *procMachine) name(attrs map[string]string) {
	if info, err := read(linux.ReadCPUInfo, m.path("proc/cpuinfo")); err == nil && len(info.Processors) > 0 && info.Processors[0].ModelName != "" {
		attrs["cpu.model"] = info.Processors[0].ModelName
	}
	if b, err := os.ReadFile(m.path("proc/sys/kernel/osrelease")); err == nil {
		attrs["kernel.version"] = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile(m.path("proc/sys/kernel/hostname")); err == nil {
		attrs["hostname"] = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile(m.path("etc/os-release")); err == nil {
		for line := range strings.Lines(string(b)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			switch value = strings.Trim(value, `"'`); key {
			case "ID":
				attrs["os.name"] = value
			case "VERSION_ID":
				attrs["os.version"] = value
			}
		}
	}
	if v := m.cgroupVersion(); v != "" {
		attrs["cgroup.version"] = v
	}
}

// cgroupVersion is "2" where the unified hierarchy holds the controllers, "1" where they are mounted one by one, also when
// an empty unified hierarchy stands beside them, and "" where there are none.
func (m *procMachine) cgroupVersion() string {
	if b, err := os.ReadFile(m.path("sys/fs/cgroup/cgroup.controllers")); err == nil && len(strings.Fields(string(b))) > 0 {
		return "2"
	}
	for _, controller := range []string{"memory", "cpu", "cpu,cpuacct"} {
		if _, err := os.Stat(m.path("sys/fs/cgroup/" + controller)); err == nil {
			return "1"
		}
	}
	return ""
}

// diskMiB measures the file system that holds path: its size, and what an unprivileged process may still write. That is
// bavail: bfree, which goprocinfo reads, counts the blocks kept for root too.
func diskMiB(path string) (total, available int64, err error) {
	for {
		var fs unix.Statfs_t
		err := unix.Statfs(path, &fs)
		if err == nil {
			block := uint64(fs.Bsize)
			return int64(fs.Blocks * block / mib), int64(fs.Bavail * block / mib), nil
		}
		// what is not there yet will stand on its parent's file system
		if parent := filepath.Dir(path); errors.Is(err, unix.ENOENT) && parent != path {
			path = parent
			continue
		}
		return 0, 0, fmt.Errorf("measure the file system of %s: %w", path, err)
	}
}

// loadSample is the shortest time between two measurements: less tells of the measuring itself, which a node that reports
// often would do often.
const loadSample = time.Second

// Load measures the machine, unless it did so less than loadSample ago. CPU use is the mean since the measurement before.
func (m *procMachine) Load(diskPath string) (*api.NodeLoad, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.load == nil || now.Sub(m.at) >= loadSample {
		load, cpu, err := m.measure(diskPath)
		if err != nil {
			return nil, err
		}
		load.CPU = busyShare(m.cpu, *cpu, load.CPUTotal)
		m.load, m.cpu, m.at = load, *cpu, now
	}
	load := *m.load
	return &load, nil
}

// measure tells all but the CPU use, which is a difference.
func (m *procMachine) measure(diskPath string) (*api.NodeLoad, *linux.CPUStat, error) {
	stat, err := read(linux.ReadStat, m.path("proc/stat"))
	if err != nil {
		return nil, nil, err
	}
	memory, err := read(linux.ReadMemInfo, m.path("proc/meminfo"))
	if err != nil {
		return nil, nil, err
	}
	load := &api.NodeLoad{
		CPUTotal:    int64(max(1, len(stat.CPUStats))) * 1000,
		MemoryTotal: int64(memory.MemTotal >> 10),
		Memory:      int64((memory.MemTotal - min(memory.MemAvailable, memory.MemTotal)) >> 10),
	}
	total, available, err := diskMiB(diskPath)
	if err != nil {
		return nil, nil, err
	}
	load.Disk, load.DiskTotal = total-available, total
	if avg, err := read(linux.ReadLoadAvg, m.path("proc/loadavg")); err == nil {
		load.Load1, load.Load5 = avg.Last1Min, avg.Last5Min
	}
	if up, err := read(linux.ReadUptime, m.path("proc/uptime")); err == nil {
		load.Uptime = up.GetTotalDuration()
	}
	return load, &stat.CPUStatAll, nil
}

// busyShare is the part of total that was busy between two samples. Guest time is part of user time in /proc/stat.
func busyShare(before, after linux.CPUStat, total int64) int64 {
	busy := func(s linux.CPUStat) uint64 { return s.User + s.Nice + s.System + s.IRQ + s.SoftIRQ + s.Steal }
	b := int64(busy(after)) - int64(busy(before))
	idle := int64(after.Idle+after.IOWait) - int64(before.Idle+before.IOWait)
	if b <= 0 || b+idle <= 0 || idle < 0 {
		return 0
	}
	return total * b / (b + idle)
}
