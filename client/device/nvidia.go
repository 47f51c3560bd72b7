package device

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"cube/api"
)

// nvidiaFiles is where NVIDIA's kernel module tells of itself.
const nvidiaFiles = "proc/driver/nvidia"

// card is one GPU as its information file describes it.
type card struct {
	model    string
	id       string // GPU-5d3c...
	minor    string // /dev/nvidiaMINOR
	excluded bool   // by the driver's own configuration
}

// nvidia finds the GPUs that the kernel module drives, grouped by model. faults say which are not offered, and why. Where the
// module is not loaded there are none, and nothing is wrong.
func nvidia(root string) (groups []api.DeviceGroup, faults []string) {
	dir := filepath.Join(root, nvidiaFiles)
	files, err := filepath.Glob(filepath.Join(dir, "gpus", "*", "information")) // by their place on the bus, such as 0000:07:00.0
	if err != nil || len(files) == 0 {
		return nil, nil
	}
	version := driverVersion(filepath.Join(dir, "version"))
	for _, file := range files {
		c, err := readCard(file)
		if err == nil {
			err = c.usable(dir)
		}
		switch {
		case err != nil:
			faults = append(faults, fmt.Sprintf("GPU %s: %s", filepath.Base(filepath.Dir(file)), err))
			continue
		case c.excluded:
			continue
		}
		i := 0
		for i < len(groups) && groups[i].Model != c.model {
			i++
		}
		if i == len(groups) {
			attributes := map[string]string{attributeVendor: VendorNvidia}
			if version != "" {
				attributes["driver_version"] = version
			}
			groups = append(groups, api.DeviceGroup{Type: "gpu", Model: c.model, Attributes: attributes})
		}
		groups[i].IDs = append(groups[i].IDs, c.id)
	}
	return groups, faults
}

// readCard reads lines such as "GPU UUID: \t GPU-5d3c...".
func readCard(file string) (c card, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return c, fmt.Errorf("read what the driver says of it: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); strings.TrimSpace(key) {
		case "Model":
			c.model = strings.TrimPrefix(value, "NVIDIA ") // the vendor has an attribute of its own
		case "GPU UUID":
			c.id = value
		case "Device Minor":
			c.minor = value
		case "GPU Excluded":
			c.excluded = value == "Yes"
		}
	}
	return c, nil
}

// usable says why a card cannot be handed out whole.
func (c *card) usable(dir string) error {
	switch {
	case c.excluded:
		return nil
	case c.id == "":
		return fmt.Errorf("the driver does not tell its UUID")
	case strings.Contains(c.id, "?"): // what the driver writes before it has first talked to the card
		return fmt.Errorf("it is not initialized, so it has no UUID yet; run nvidia-persistenced, or nvidia-smi once")
	case c.model == "":
		return fmt.Errorf("the driver does not tell its model")
	}
	if c.minor == "" {
		return nil
	}
	parts, err := filepath.Glob(filepath.Join(dir, "capabilities", "gpu"+c.minor, "mig", "gi*"))
	if err == nil && len(parts) > 0 {
		return fmt.Errorf("it is divided into MIG partitions, which are not found by themselves; name them in the configuration")
	}
	return nil
}

// driverVersion finds the version in a line such as
// "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.82.01  Wed Oct 27 21:21:55 UTC 2021"; "" if there is none.
func driverVersion(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	number := regexp.MustCompile(`^[0-9]+(\.[0-9]+)+$`)
	first, _, _ := strings.Cut(string(text), "\n")
	for word := range strings.FieldsSeq(first) {
		if number.MatchString(word) {
			return word
		}
	}
	return ""
}
