package rawexec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cube/client/driver"
)

// Files of a run's directory. The supervisor writes them, each at once and in full.
const (
	stateFile = "state.json" // the run has begun
	exitFile  = "exit.json"  // it has ended
	errorFile = "supervisor.log"
)

// marks say what a run is to Cube.
type marks struct {
	Owner   driver.Owner
	Key     driver.Key
	Job     string
	Task    string
	Version uint64
}

func marksOf(c *driver.Config) marks {
	return marks{Owner: c.Owner, Key: c.Key, Job: c.Job, Task: c.Task, Version: c.Version}
}

// spec is what a supervisor is told, on its standard input: the environment may hold secrets, which no file needs.
type spec struct {
	Marks   marks
	Name    string // unique on the machine, for the cgroup
	Command string
	Args    []string
	Env     map[string]string
	User    string
	WorkDir string
	CPU     int64 // thousandths of a core
	Memory  int64 // MiB
	LogSize int   // of a file of output, in bytes
	Logs    int   // how many files of output
}

// state is what a supervisor writes once the program runs.
type state struct {
	Marks      marks
	Boot       string
	Supervisor identity
	Program    identity
	Cgroups    []string
	User       string
	WorkDir    string
	StartedAt  time.Time
}

// data is the driver's part of a handle: enough to find and end the run's processes without any file.
func (s *state) data() string {
	return fmt.Sprintf("%s/%d/%d/%d/%d", s.Boot, s.Supervisor.PID, s.Supervisor.Start, s.Program.PID, s.Program.Start)
}

// parseData reads what data made.
func parseData(data string) (s state, err error) {
	parts := strings.Split(data, "/")
	if len(parts) != 5 {
		return state{}, fmt.Errorf("%q is no handle of a raw_exec instance", data)
	}
	s.Boot = parts[0]
	var numbers [4]uint64
	for i := range numbers {
		if numbers[i], err = strconv.ParseUint(parts[i+1], 10, 64); err != nil {
			return state{}, fmt.Errorf("%q is no handle of a raw_exec instance: %w", data, err)
		}
	}
	s.Supervisor = identity{int(numbers[0]), numbers[1]}
	s.Program = identity{int(numbers[2]), numbers[3]}
	return s, nil
}

// report is what a supervisor answers to its start.
type report struct {
	Error     string
	Permanent bool
	State     state
}

const runPrefix = "run-"

func runDir(allocationDir string, restarts uint32) string {
	return filepath.Join(allocationDir, runPrefix+strconv.FormatUint(uint64(restarts), 10))
}

// readState returns nil when the run has not begun, or is gone.
func readState(dir string) (*state, error) {
	var s state
	ok, err := readJSON(filepath.Join(dir, stateFile), &s)
	if !ok {
		return nil, err
	}
	return &s, nil
}

// readExit returns nil when the end of the run is not written.
func readExit(dir string) (*driver.Exit, error) {
	var x driver.Exit
	ok, err := readJSON(filepath.Join(dir, exitFile), &x)
	if !ok {
		return nil, err
	}
	return &x, nil
}

func readJSON(path string, v any) (ok bool, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read what the supervisor wrote: %w", err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return false, fmt.Errorf("read what the supervisor wrote in %s: %w", path, err)
	}
	return true, nil
}

// writeJSON writes a file at once and in full, and returns when it is on the disk.
func writeJSON(dir *os.Root, name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	temporary := name + ".new"
	f, err := dir.OpenFile(temporary, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := dir.Rename(temporary, name); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	itself, err := dir.Open(".")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := errors.Join(itself.Sync(), itself.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
