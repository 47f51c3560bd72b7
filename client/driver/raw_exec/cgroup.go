package rawexec

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"cube/client/driver/cgroup"
)

// group is a control group of one run: a directory in version 2, one for each controller in version 1. The zero value
// is none: then nothing is limited, and the processes are found as the supervisor's descendants.
type group struct {
	root    string
	unified bool     // version 2
	dirs    []string // memory first
}

// controllers of version 1 that a run is put under: two that limit, and one that counts.
var controllers = [...]string{"memory", "cpu", "cpuacct"}

// cgroupVersion says which control groups can be written under root: "v2", "v1" or "".
func cgroupVersion(root string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(root, &s); err != nil {
		return ""
	}
	if s.Type == unix.CGROUP2_SUPER_MAGIC {
		if unix.Access(root, unix.W_OK) == nil {
			return "v2"
		}
		return ""
	}
	for _, c := range controllers {
		if unix.Access(filepath.Join(root, c), unix.W_OK) != nil {
			return ""
		}
	}
	return "v1"
}

// newGroup makes a control group with limits. Where the machine does not let us, the group is the zero value, and the
// error says why.
func newGroup(root, name string, s *spec) (group, error) {
	var g group
	switch cgroupVersion(root) {
	case "v2":
		g = group{root: root, unified: true, dirs: []string{filepath.Join(root, "cube", name)}}
		// Controllers are handed down level by level. What the kernel refuses here is missed when a limit is set.
		for _, d := range []string{root, filepath.Join(root, "cube")} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return group{}, fmt.Errorf("make the control group: %w", err)
			}
			for _, c := range controllers {
				_ = os.WriteFile(filepath.Join(d, "cgroup.subtree_control"), []byte("+"+c), 0)
			}
		}
	case "v1":
		g.root = root
		for _, c := range controllers {
			g.dirs = append(g.dirs, filepath.Join(root, c, "cube", name))
		}
	default:
		return group{}, errors.New("the machine's control groups cannot be written")
	}
	for _, d := range g.dirs {
		if err := os.MkdirAll(d, 0o755); err != nil {
			g.remove()
			return group{}, fmt.Errorf("make the control group: %w", err)
		}
	}
	return g, g.limit(s)
}

// limit sets memory hard, with no swap, and CPU as a share. An error says which limit does not hold.
func (g group) limit(s *spec) error {
	set := func(dir int, file string, value int64) error {
		err := os.WriteFile(filepath.Join(g.dirs[dir], file), []byte(strconv.FormatInt(value, 10)), 0)
		if err != nil {
			return fmt.Errorf("set %s: %w", file, err)
		}
		return nil
	}
	shares := max(2, s.CPU*1024/1000)
	bytes := s.Memory << 20
	if bytes <= 0 {
		return errors.New("the task asks for no memory, so that none can be its limit")
	}
	if g.unified {
		// Shares of 2 to 262144 are weights of 1 to 10000, as runc converts them.
		weight := 1 + (shares-2)*9999/262142
		return errors.Join(set(0, "memory.max", bytes), set(0, "memory.swap.max", 0), set(0, "cpu.weight", weight))
	}
	err := errors.Join(set(0, "memory.limit_in_bytes", bytes), set(1, "cpu.shares", shares))
	// Of memory and swap together; the kernel does not count swap everywhere.
	if swap := set(0, "memory.memsw.limit_in_bytes", bytes); swap != nil && !errors.Is(swap, fs.ErrNotExist) {
		err = errors.Join(err, swap)
	}
	return err
}

// enter makes the calling thread's next child begin in the group, and returns how to undo that. The thread must be
// locked. Version 2 does it in the clone call itself (see attributes).
func (g group) enter() (leave func() error, err error) {
	if g.unified || len(g.dirs) == 0 {
		return func() error { return nil }, nil
	}
	// In version 1 a thread can be in another group than its process, and a child begins where its thread is.
	homes, err := currentGroups(g.root)
	if err != nil {
		return nil, err
	}
	thread := []byte(strconv.Itoa(unix.Gettid()))
	leave = func() error {
		var all error
		for _, c := range controllers {
			if err := os.WriteFile(filepath.Join(homes[c], "tasks"), thread, 0); err != nil {
				all = errors.Join(all, fmt.Errorf("leave the control group: %w", err))
			}
		}
		return all
	}
	for _, d := range g.dirs {
		if err := os.WriteFile(filepath.Join(d, "tasks"), thread, 0); err != nil {
			return nil, errors.Join(fmt.Errorf("enter the control group: %w", err), leave())
		}
	}
	return leave, nil
}

// attributes makes a child begin in a group of version 2. done is called after the start.
func (g group) attributes(a *syscall.SysProcAttr) (done func(), err error) {
	if !g.unified {
		return func() {}, nil
	}
	d, err := os.Open(g.dirs[0])
	if err != nil {
		return nil, fmt.Errorf("open the control group: %w", err)
	}
	a.UseCgroupFD, a.CgroupFD = true, int(d.Fd())
	return func() { d.Close() }, nil
}

// currentGroups returns the directories of the groups that this process is in, by controller (version 1).
func currentGroups(root string) (map[string]string, error) {
	f, err := os.Open("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find our own control groups: %w", err)
	}
	defer f.Close()
	homes := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		parts := strings.SplitN(s.Text(), ":", 3) // ID:controllers:path
		if len(parts) != 3 {
			continue
		}
		for c := range strings.SplitSeq(parts[1], ",") {
			homes[c] = filepath.Join(root, c, parts[2])
		}
	}
	for _, c := range controllers {
		if homes[c] == "" {
			return nil, fmt.Errorf("find our own control groups: none for %s", c)
		}
	}
	return homes, nil
}

// outOfMemory reports whether the kernel killed a process of the group at its memory limit.
func (g group) outOfMemory() bool {
	if len(g.dirs) == 0 {
		return false
	}
	file := "memory.oom_control"
	if g.unified {
		file = "memory.events"
	}
	text, err := os.ReadFile(filepath.Join(g.dirs[0], file))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if name, n, _ := strings.Cut(strings.TrimSpace(line), " "); name == "oom_kill" && n != "0" {
			return true
		}
	}
	return false
}

// counted is the group as far as it counts. It is empty where the group is of a supervisor from before there was a
// controller for that.
func (g group) counted() cgroup.Group {
	switch len(g.dirs) {
	case 1:
		return cgroup.Group{Memory: g.dirs[0], CPU: g.dirs[0]}
	case len(controllers):
		return cgroup.Group{Memory: g.dirs[0], CPU: g.dirs[2]}
	}
	return cgroup.Group{}
}

// kill kills every process of the group.
func (g group) kill() {
	for _, d := range g.dirs {
		if os.WriteFile(filepath.Join(d, "cgroup.kill"), []byte("1"), 0) == nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(d, "cgroup.procs"))
		if err != nil {
			continue // the group is gone
		}
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
}

// remove deletes the group, whose processes have ended. One that is in use still is left for the next one of its name.
func (g group) remove() {
	for _, d := range g.dirs {
		_ = unix.Rmdir(d)
	}
}
