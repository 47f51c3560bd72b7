// Package cgroup reads what the kernel counts of a control group, for drivers whose instances have one each.
package cgroup

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cube/client/driver"
)

// Root is where the kernel's control groups are mounted.
const Root = "/sys/fs/cgroup"

// Group is a control group: one directory for all in version 2, one for each controller in version 1.
type Group struct {
	Memory string // the directory that counts memory
	CPU    string // the directory that counts time on CPUs
}

// Of returns the group that a process is in, by a file such as /proc/1/cgroup and where groups are mounted. ok is false
// where that cannot be told.
func Of(file, root string) (g Group, ok bool) {
	f, err := os.Open(file)
	if err != nil {
		return g, false
	}
	defer f.Close()
	unified := ""
	for s := bufio.NewScanner(f); s.Scan(); {
		parts := strings.SplitN(s.Text(), ":", 3) // ID:controllers:path
		if len(parts) != 3 {
			continue
		}
		if parts[1] == "" {
			unified = filepath.Join(root, parts[2])
		}
		for c := range strings.SplitSeq(parts[1], ",") {
			switch c {
			case "memory":
				g.Memory = filepath.Join(root, c, parts[2])
			case "cpuacct":
				g.CPU = filepath.Join(root, c, parts[2])
			}
		}
	}
	if g == (Group{}) && unified != "" { // a machine may have both, and then version 1 has the controllers
		g = Group{Memory: unified, CPU: unified}
	}
	return g, g.Memory != "" && g.CPU != ""
}

// Usage reads the counters; ok is false where there are none, or none any more. Of the copies of files that count as memory,
// those that were not used lately are taken off: the kernel gives them up first.
func (g Group) Usage() (u driver.Usage, ok bool) {
	u.At = time.Now()
	if g.Memory == "" || g.CPU == "" {
		return u, false
	}
	if held, ok := counter(g.Memory, "memory.current", ""); ok {
		files, _ := counter(g.Memory, "memory.stat", "inactive_file")
		used, counted := counter(g.CPU, "cpu.stat", "usage_usec")
		u.CPU, u.Memory = time.Duration(used)*time.Microsecond, max(0, held-files)
		return u, counted
	}
	held, counted := counter(g.Memory, "memory.usage_in_bytes", "")
	files, _ := counter(g.Memory, "memory.stat", "total_inactive_file")
	used, counts := counter(g.CPU, "cpuacct.usage", "")
	u.CPU, u.Memory = time.Duration(used), max(0, held-files)
	return u, counted && counts
}

// counter reads a number from a group's file: all that is in it, or the line of that name.
func counter(dir, file, name string) (n int64, ok bool) {
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		value := strings.TrimSpace(line)
		if name != "" {
			var found bool
			if value, found = strings.CutPrefix(value, name+" "); !found {
				continue
			}
		}
		n, err := strconv.ParseInt(value, 10, 64)
		return n, err == nil
	}
	return 0, false
}
