package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what the kernel counts of a process.
type Usage struct {
	CPU      time.Duration // user and system time since its start, in steps of 10 ms
	RSS      int64         // bytes resident now
	PeakRSS  int64         // the most it ever was
	Threads  int
	OpenFDs  int
	Switches int64 // context switches of its main thread, voluntary and not
}

// ReadUsage reads /proc of a process that runs.
func ReadUsage(pid int) (Usage, error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return Usage{}, fmt.Errorf("read what process %d has used: %w", pid, err)
	}
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return Usage{}, fmt.Errorf("read what process %d has used: %w", pid, err)
	}
	u, err := parseUsage(string(stat), string(status))
	if err != nil {
		return Usage{}, fmt.Errorf("read what process %d has used: %w", pid, err)
	}
	if fds, err := os.ReadDir(dir + "fd"); err == nil {
		u.OpenFDs = len(fds)
	}
	return u, nil
}

// parseUsage reads /proc/PID/stat (utime and stime, in ticks of 10 ms on every Linux that Go runs on) and /proc/PID/status.
func parseUsage(stat, status string) (u Usage, err error) {
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:]) // the name before it may hold anything
	if len(fields) < 13 {
		return u, fmt.Errorf("stat has %d fields after the name", len(fields))
	}
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, err
		}
		u.CPU += time.Duration(n) * 10 * time.Millisecond
	}
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		words := strings.Fields(value)
		if len(words) == 0 {
			continue
		}
		n, err := strconv.ParseInt(words[0], 10, 64)
		if err != nil {
			continue // a line of another kind
		}
		switch key {
		case "VmRSS":
			u.RSS = n << 10
		case "VmHWM":
			u.PeakRSS = n << 10
		case "Threads":
			u.Threads = int(n)
		case "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches":
			u.Switches += n
		}
	}
	if u.RSS == 0 || u.PeakRSS == 0 {
		return u, fmt.Errorf("status has no VmRSS or no VmHWM: it has ended")
	}
	return u, nil
}
