package docker

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"cube/api"
)

// What a container's log may take on disk, where the task does not say.
const (
	logFileSize = 10 * mib // with the number of files, what a chatty service can take of the engine's disk
	logFiles    = 2        // the older file is whole when the newer one begins, so two are enough to look back
)

// options is a task's config block.
type options struct {
	entrypoint  []string
	forcePull   bool
	hostname    string
	labels      map[string]string
	logMaxSize  int64 // bytes
	logMaxFiles int64
	readOnly    bool
	capDrop     []string
	extraHosts  []string
	tmpfs       map[string]string // mount options by path
}

// parseOptions reads a config block by the driver's table of options, and looks at the values where the table does not.
func parseOptions(values map[string]any) (*options, error) {
	if err := api.CheckOptions(Name, values); err != nil {
		return nil, err
	}
	o := &options{logMaxSize: logFileSize, logMaxFiles: logFiles}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if err := o.set(key, values[key]); err != nil {
			return nil, api.Errorf(api.CodeInvalid, "config: %s: %w", key, err)
		}
	}
	return o, nil
}

// set takes a value whose kind has been checked.
func (o *options) set(key string, value any) (err error) {
	switch key {
	case "entrypoint":
		o.entrypoint, _ = api.OptionStrings(value)
	case "force_pull":
		o.forcePull, _ = value.(bool)
	case "hostname":
		o.hostname, _ = value.(string)
	case "labels":
		o.labels, _ = api.OptionStringMap(value)
		for _, k := range slices.Sorted(maps.Keys(o.labels)) {
			if strings.HasPrefix(k, "cube.") {
				return api.Errorf(api.CodeInvalid, "labels that begin with cube. are Cube's own, such as %q", k)
			}
		}
	case "log_max_size":
		text, _ := value.(string)
		if o.logMaxSize, err = api.ParseBytes(text); err == nil && o.logMaxSize < 1024 {
			err = api.Errorf(api.CodeInvalid, "%q is too small, 1 KiB is the least", text)
		}
	case "log_max_files":
		if o.logMaxFiles, _ = api.OptionInt(value); o.logMaxFiles < 1 || o.logMaxFiles > 100 {
			err = api.Errorf(api.CodeInvalid, "%d is not between 1 and 100", o.logMaxFiles)
		}
	case "read_only":
		o.readOnly, _ = value.(bool)
	case "cap_drop":
		o.capDrop, _ = api.OptionStrings(value)
	case "extra_hosts":
		o.extraHosts, _ = api.OptionStrings(value)
		for _, h := range o.extraHosts {
			if name, address, ok := strings.Cut(h, ":"); !ok || name == "" || address == "" {
				return api.Errorf(api.CodeInvalid, "%q is not name:address", h)
			}
		}
	case "tmpfs":
		paths, _ := api.OptionStrings(value)
		o.tmpfs = make(map[string]string, len(paths))
		for _, p := range paths {
			path, mount, _ := strings.Cut(p, ":")
			if !strings.HasPrefix(path, "/") {
				return api.Errorf(api.CodeInvalid, "%q is not an absolute path", path)
			}
			o.tmpfs[path] = mount
		}
	default:
		return api.Errorf(api.CodeInternal, "the option is in the table, but the driver does not know it")
	}
	return err
}

// logConfig is what the engine's json-file log driver takes.
func (o *options) logConfig() map[string]string {
	return map[string]string{"max-size": strconv.FormatInt(o.logMaxSize, 10), "max-file": strconv.FormatInt(o.logMaxFiles, 10)}
}
