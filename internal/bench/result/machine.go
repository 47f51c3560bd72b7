package result

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// Machine is where a figure was measured: without it the figure says nothing.
type Machine struct {
	CPUs   int    `json:"cpus"`
	Memory int64  `json:"memory_bytes"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Commit string `json:"commit"` // of the checkout, with + when files differ from it; "unknown" outside one
}

func (m Machine) String() string {
	return fmt.Sprintf("%d CPUs, %.1f GiB, %s, %s, commit %s", m.CPUs, float64(m.Memory)/(1<<30), m.Kernel, m.Go, m.Commit)
}

// here describes this machine. What cannot be found out stays empty: a result is worth keeping without it.
func here() Machine {
	m := Machine{CPUs: runtime.NumCPU(), Kernel: runtime.GOOS, Go: runtime.Version(), Commit: "unknown"}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel += " " + strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		m.Memory = memTotal(string(b))
	}
	if b, err := exec.Command("git", "rev-parse", "--short=10", "HEAD").Output(); err == nil {
		m.Commit = strings.TrimSpace(string(b))
		if exec.Command("git", "diff", "--quiet", "HEAD").Run() != nil {
			m.Commit += "+"
		}
	}
	return m
}

// memTotal is the line MemTotal of /proc/meminfo in bytes, 0 if there is none.
func memTotal(meminfo string) int64 {
	for line := range strings.Lines(meminfo) {
		if v, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			if n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64); err == nil {
				return n << 10
			}
		}
	}
	return 0
}
