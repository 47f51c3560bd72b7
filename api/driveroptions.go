package api

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// OptionKind is what a key of a task's config block takes.
type OptionKind string

const (
	OptionString   OptionKind = "string"
	OptionBool     OptionKind = "bool"
	OptionNumber   OptionKind = "whole number"
	OptionList     OptionKind = "list of strings"
	OptionMap      OptionKind = "map of strings"
	OptionDuration OptionKind = `duration such as "10s"`
	OptionSize     OptionKind = `size such as "10MiB"`
)

// DriverOption is one key of a task's config block.
type DriverOption struct {
	Name string
	Kind OptionKind
	Doc  string // one sentence
}

// driverOptions is the one list that task files, drivers and the documentation go by.
var driverOptions = map[string][]DriverOption{
	"docker": {
		{"cap_drop", OptionList, "Linux capabilities to take away, such as NET_RAW, or ALL."},
		{"entrypoint", OptionList, "Replaces the image's entry point."},
		{"extra_hosts", OptionList, "Lines for /etc/hosts, each name:address."},
		{"force_pull", OptionBool, "Pull the image even if the engine has it."},
		{"hostname", OptionString, "Host name inside the instance."},
		{"labels", OptionMap, "Labels for the container; those that begin with cube. are Cube's own."},
		{"log_max_files", OptionNumber, "How many log files the engine keeps, 1 to 100."},
		{"log_max_size", OptionSize, "Size at which the engine begins a new log file."},
		{"read_only", OptionBool, "Make the root file system read-only."},
		{"tmpfs", OptionList, "Paths to mount an empty memory file system on."},
	},
	"raw_exec": nil,
	"fake": {
		{"exit_code", OptionNumber, "What the instance ends with."},
		{"ignore_signal", OptionBool, "Only a kill ends the instance."},
		{"lines", OptionNumber, "How many lines the instance writes to stdout, and to stderr, when it starts."},
		{"oom", OptionBool, "The instance ends as if it had run out of memory."},
		{"run_for", OptionDuration, "How long the instance runs; absent: until it is stopped."},
		{"start_delay", OptionDuration, "How long a start takes."},
		{"start_error", OptionString, "Why a start fails."},
		{"use_cpu", OptionNumber, "How many thousandths of a core it uses."},
		{"use_memory", OptionNumber, "How many MiB of memory it uses."},
	},
}

// DriverOptions lists what a driver's config block may hold, by name, and whether the driver is one Cube knows. The caller does not
// change the list.
func DriverOptions(driver string) (options []DriverOption, known bool) {
	options, known = driverOptions[driver]
	return options, known
}

// Drivers lists the drivers a task may name.
func Drivers() []string { return []string{"docker", "raw_exec"} }

// CheckOptions checks a task's config block against what its driver takes. The error names the key.
func CheckOptions(driver string, options map[string]any) error {
	known, ok := DriverOptions(driver)
	if !ok {
		return Errorf(CodeInvalid, "%w", faultf("driver", "driver %.40q is none of %s", driver, strings.Join(Drivers(), ", ")))
	}
	for _, name := range sortedKeys(options) {
		i := slices.IndexFunc(known, func(o DriverOption) bool { return o.Name == name })
		if i < 0 {
			return Errorf(CodeInvalid, "%w", in("config", faultf(name, "the %s driver has no option %.40q", driver, name)))
		}
		if err := known[i].check(options[name]); err != nil {
			return Errorf(CodeInvalid, "%w", in("config", faultf(name, "%s: %w", name, err)))
		}
	}
	return nil
}

func (o DriverOption) check(v any) error {
	ok := false
	switch o.Kind {
	case OptionString:
		_, ok = v.(string)
	case OptionBool:
		_, ok = v.(bool)
	case OptionNumber:
		_, ok = OptionInt(v)
	case OptionList:
		_, ok = OptionStrings(v)
	case OptionMap:
		_, ok = OptionStringMap(v)
	case OptionDuration:
		s, isString := v.(string)
		d, err := time.ParseDuration(s)
		ok = isString && err == nil && d >= 0
	case OptionSize:
		s, isString := v.(string)
		if isString {
			_, err := ParseBytes(s)
			return err
		}
	}
	if !ok {
		return fmt.Errorf("a %s is expected, not %.80q", o.Kind, fmt.Sprint(v))
	}
	return nil
}

// OptionInt reads a whole number however HCL, JSON or msgpack gave it.
func OptionInt(v any) (int64, bool) {
	switch n := v.(type) {
	case int:
		return int64(n), true
	case int64:
		return n, true
	case uint64:
		return int64(n), n <= math.MaxInt64
	case float64:
		return int64(n), n == math.Trunc(n) && math.Abs(n) < 1<<53
	}
	return 0, false
}

// OptionStrings reads a list of strings however HCL, JSON or msgpack gave it.
func OptionStrings(v any) ([]string, bool) {
	switch l := v.(type) {
	case []string:
		return l, true
	case []any:
		out := make([]string, len(l))
		for i, e := range l {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			out[i] = s
		}
		return out, true
	}
	return nil, false
}

// OptionStringMap reads a map of strings however HCL, JSON or msgpack gave it.
func OptionStringMap(v any) (map[string]string, bool) {
	switch m := v.(type) {
	case map[string]string:
		return m, true
	case map[string]any:
		out := make(map[string]string, len(m))
		for k, e := range m {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			out[k] = s
		}
		return out, true
	}
	return nil, false
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
