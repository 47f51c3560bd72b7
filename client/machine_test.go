package client

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/c9s/goprocinfo/linux"
	"golang.org/x/sys/unix"
)

func TestThisMachine(t *testing.T) {
	m := &procMachine{root: "/"}
	dir := t.TempDir()
	attrs, total, err := m.Facts(filepath.Join(dir, "not", "there", "yet"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"kernel.name", "kernel.version", "cpu.arch", "cpu.cores", "hostname"} {
		if attrs[key] == "" {
			t.Errorf("no %s among %v", key, attrs)
		}
	}
	if total.CPU < 1000 || total.CPU%1000 != 0 || total.Memory < 100 || total.Disk <= 0 {
		t.Errorf("the machine has %+v", total)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if bavail := int64(fs.Bavail) * int64(fs.Bsize) / mib; total.Disk > bavail+1024 {
		t.Errorf("%d MiB of disk are offered, and %d are there for us", total.Disk, bavail)
	}
	load, err := m.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if load.CPUTotal != total.CPU || load.MemoryTotal != total.Memory || load.Memory <= 0 || load.Memory > load.MemoryTotal ||
		load.CPU < 0 || load.CPU > load.CPUTotal || load.Disk < 0 || load.Disk > load.DiskTotal || load.Uptime <= 0 {
		t.Errorf("its load is %+v", load)
	}
}

// tree makes a machine of files.
func tree(t *testing.T, files map[string]string) *procMachine {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &procMachine{root: root}
}

const (
	procStat = "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 50 0 50 400 0 0 0 0 0 0\ncpu1 50 0 50 400 0 0 0 0 0 0\nbtime 1700000000\n"
	procMem  = "MemTotal:        8388608 kB\nMemFree:         1048576 kB\nMemAvailable:    6291456 kB\n"
)

func TestFactsOfFiles(t *testing.T) {
	m := tree(t, map[string]string{
		"proc/stat": procStat, "proc/meminfo": procMem, "proc/sys/kernel/osrelease": "6.1.0\n", "proc/sys/kernel/hostname": "box\n",
		"proc/cpuinfo":   "processor\t: 0\nmodel name\t: Quick 9000\n\nprocessor\t: 1\nmodel name\t: Quick 9000\n\n",
		"etc/os-release": "ID=debian\nVERSION_ID=\"12\"\nNAME=x\n", "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
	})
	attrs, total, err := m.Facts(m.root)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"cpu.cores": "2", "cpu.model": "Quick 9000", "kernel.version": "6.1.0", "hostname": "box",
		"os.name": "debian", "os.version": "12", "cgroup.version": "2"} {
		if attrs[key] != want {
			t.Errorf("%s is %q, want %q", key, attrs[key], want)
		}
	}
	if total.CPU != 2000 || total.Memory != 8192 {
		t.Errorf("the machine has %+v", total)
	}
	load, err := m.Load(m.root)
	if err != nil {
		t.Fatal(err)
	}
	if load.Memory != 2048 || load.CPU != 400 {
		t.Errorf("its load is %+v; want 2048 MiB and a fifth of two cores", load)
	}
}

func TestCgroupVersions(t *testing.T) {
	for want, files := range map[string]map[string]string{
		"":  {"proc/stat": procStat},
		"1": {"sys/fs/cgroup/memory/memory.usage_in_bytes": "1", "sys/fs/cgroup/unified/cgroup.controllers": ""},
		"2": {"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory"},
	} {
		if got := tree(t, files).cgroupVersion(); got != want {
			t.Errorf("%v: version %q, want %q", files, got, want)
		}
	}
}

// TestMalformedProcIsAnError holds for what makes goprocinfo index past the end of a line.
func TestMalformedProcIsAnError(t *testing.T) {
	for name, text := range map[string]string{"proc/stat": "x\n", "proc/meminfo": "MemTotal:\n"} {
		files := map[string]string{"proc/stat": procStat, "proc/meminfo": procMem}
		files[name] = text
		m := tree(t, files)
		if _, _, err := m.Facts(m.root); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s holds %q: %v", name, text, err)
		}
	}
	if _, _, err := tree(t, nil).Facts("/"); err == nil {
		t.Error("a machine without /proc can be measured")
	}
}

func TestBusyShare(t *testing.T) {
	s := func(user, idle, iowait uint64) linux.CPUStat {
		return linux.CPUStat{User: user, Idle: idle, IOWait: iowait}
	}
	for _, c := range []struct {
		before, after linux.CPUStat
		want          int64
	}{
		{s(0, 0, 0), s(50, 50, 0), 1000},
		{s(100, 100, 0), s(100, 200, 0), 0},
		{s(100, 100, 0), s(200, 100, 0), 2000},
		{s(100, 100, 100), s(150, 125, 125), 1000},
		{s(100, 100, 0), s(100, 100, 0), 0},
		{s(200, 100, 0), s(100, 100, 0), 0}, // counters that go back
	} {
		if got := busyShare(c.before, c.after, 2000); got != c.want {
			t.Errorf("from %+v to %+v: %d, want %d", c.before, c.after, got, c.want)
		}
	}
}

func TestLoadIsMeasuredOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := tree(t, map[string]string{"proc/meminfo": procMem})
		cpu := func(user int) int64 {
			t.Helper()
			stat := fmt.Sprintf("cpu %d 0 0 50 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\n", user)
			if err := os.WriteFile(m.path("proc/stat"), []byte(stat), 0o644); err != nil {
				t.Fatal(err)
			}
			load, err := m.Load(m.root)
			if err != nil {
				t.Fatal(err)
			}
			return load.CPU
		}
		first := cpu(50)
		time.Sleep(loadSample / 2)
		soon := cpu(150)
		time.Sleep(loadSample / 2)
		later := cpu(150)
		if first != 1000 || soon != 1000 || later != 2000 {
			t.Errorf("CPU use is %d, %d, %d; want 1000, 1000, 2000", first, soon, later)
		}
	})
}
