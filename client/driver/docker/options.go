package docker

import (
	"fmt"
	"strconv"
	"strings"

	"cube/api"
)

// What a container's log may take on disk, where the task does not say.
const (
	logFileMiB = 10 // a file; with the number of files, what a chatty service can take of the engine's disk
	logFiles   = 2  // the last file is read in full before it is rotated away, so two are enough to look back
)

// options is a task's config block.
type options struct {
	entrypoint  []string
	forcePull   bool
	hostname    string
	labels      map[string]string
	logMaxSize  int // MiB
	logMaxFiles int
	readOnly    bool
	capDrop     []string
	extraHosts  []string
	tmpfs       map[string]string
}

func parseOptions(values map[string]any) (*options, error) {
	o := &options{logMaxSize: logFileMiB, logMaxFiles: logFiles}
	for key, value := range values {
		if err := o.set(key, value); err != nil {
			return nil, api.Errorf(api.CodeInvalid, "config of a docker task: %s: %w", key, err)
		}
	}
	return o, nil
}

func (o *options) set(key string, value any) (err error) {
	switch key {
	case "entrypoint":
		o.entrypoint, err = stringList(value)
	case "force_pull":
		o.forcePull, err = boolean(value)
	case "hostname":
		o.hostname, err = text(value)
	case "labels":
		o.labels, err = stringMap(value)
		for k := range o.labels {
			if strings.HasPrefix(k, "cube.") {
				return fmt.Errorf("labels that begin with cube. are Cube's own: %q", k)
			}
		}
	case "log_max_size":
		o.logMaxSize, err = positive(value)
	case "log_max_files":
		o.logMaxFiles, err = positive(value)
	case "read_only":
		o.readOnly, err = boolean(value)
	case "cap_drop":
		o.capDrop, err = stringList(value)
	case "extra_hosts":
		o.extraHosts, err = stringList(value)
	case "tmpfs":
		var paths []string
		paths, err = stringList(value)
		o.tmpfs = make(map[string]string, len(paths))
		for _, p := range paths {
			path, options, _ := strings.Cut(p, ":")
			if !strings.HasPrefix(path, "/") {
				return fmt.Errorf("%q is not an absolute path", path)
			}
			o.tmpfs[path] = options
		}
	default:
		return fmt.Errorf("there is no such option")
	}
	return err
}

func (o *options) logConfig() map[string]string {
	return map[string]string{"max-size": strconv.Itoa(o.logMaxSize) + "m", "max-file": strconv.Itoa(o.logMaxFiles)}
}

func text(v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("want a string, have %T", v)
	}
	return s, nil
}

func boolean(v any) (bool, error) {
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("want true or false, have %T", v)
	}
	return b, nil
}

// positive reads a number as it comes out of HCL or of JSON.
func positive(v any) (int, error) {
	var n int
	switch v := v.(type) {
	case int:
		n = v
	case int64:
		n = int(v)
	case float64:
		n = int(v)
		if float64(n) != v {
			return 0, fmt.Errorf("want a whole number, have %v", v)
		}
	default:
		return 0, fmt.Errorf("want a number, have %T", v)
	}
	if n < 1 {
		return 0, fmt.Errorf("want a number above 0, have %d", n)
	}
	return n, nil
}

func stringList(v any) ([]string, error) {
	switch v := v.(type) {
	case []string:
		return v, nil
	case []any:
		list := make([]string, len(v))
		for i, one := range v {
			s, ok := one.(string)
			if !ok {
				return nil, fmt.Errorf("want a list of strings, have a %T in it", one)
			}
			list[i] = s
		}
		return list, nil
	}
	return nil, fmt.Errorf("want a list of strings, have %T", v)
}

func stringMap(v any) (map[string]string, error) {
	switch v := v.(type) {
	case map[string]string:
		return v, nil
	case map[string]any:
		m := make(map[string]string, len(v))
		for k, one := range v {
			s, ok := one.(string)
			if !ok {
				return nil, fmt.Errorf("want strings in it, have a %T for %q", one, k)
			}
			m[k] = s
		}
		return m, nil
	}
	return nil, fmt.Errorf("want a map of strings, have %T", v)
}
