package docker

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"

	"cube/client/driver"
)

// vendorNvidia is the vendor whose devices are asked for by ID: the engine has NVIDIA's toolkit put them into the container.
const vendorNvidia = "nvidia"

// visibleNvidia is the variable by which images and NVIDIA's runtime agree on what a container sees.
const visibleNvidia = "NVIDIA_VISIBLE_DEVICES"

// fileAccess is what a container may do with a device that is a file: not make such files, which MKNOD is dropped for too.
const fileAccess = "rw"

// deviceRequests asks the engine for the nvidia devices that an instance holds.
func deviceRequests(c *driver.Config) []container.DeviceRequest {
	ids := nvidiaIDs(c)
	if len(ids) == 0 {
		return nil
	}
	return []container.DeviceRequest{{Driver: vendorNvidia, DeviceIDs: ids, Capabilities: [][]string{{"gpu"}}}}
}

func nvidiaIDs(c *driver.Config) []string {
	var ids []string
	for _, d := range c.Devices {
		if d.Vendor == vendorNvidia {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

// environment is what the program is told: also which of NVIDIA's devices it is to see, whatever its image says.
func environment(c *driver.Config) map[string]string {
	ids := nvidiaIDs(c)
	if len(ids) == 0 {
		return c.Env
	}
	env := map[string]string{}
	maps.Copy(env, c.Env)
	env[visibleNvidia] = strings.Join(ids, ",")
	return env
}

// deviceFiles maps the devices that are files to the same place in the container, each once: several places on one file
// may have been taken.
func deviceFiles(c *driver.Config) []container.DeviceMapping {
	var files []container.DeviceMapping
	for _, d := range c.Devices {
		if d.Vendor == vendorNvidia || d.Path == "" {
			continue
		}
		m := container.DeviceMapping{PathOnHost: d.Path, PathInContainer: d.Path, CgroupPermissions: fileAccess}
		if !slices.Contains(files, m) {
			files = append(files, m)
		}
	}
	return files
}

// deviceTrouble says what to do when the engine could not hand over a device; "" if its text is about something else.
func deviceTrouble(c *driver.Config, text string) string {
	ids := nvidiaIDs(c)
	toolkit := strings.Index(text, "nvidia-container-") // -cli or -runtime: before it stand the names of the layers under the engine
	switch {
	case len(ids) > 0 && strings.Contains(text, "could not select device driver"):
		return fmt.Sprintf("Docker cannot hand over %s: it has no nvidia runtime; install NVIDIA's container toolkit (nvidia-ctk runtime configure --runtime=docker) and restart Docker", strings.Join(ids, ", "))
	case len(ids) > 0 && toolkit >= 0:
		return fmt.Sprintf("NVIDIA's container toolkit cannot hand over %s: %s", strings.Join(ids, ", "), text[toolkit:])
	case strings.Contains(text, "error gathering device information"):
		for _, f := range deviceFiles(c) {
			if strings.Contains(text, fmt.Sprintf("%q", f.PathOnHost)) {
				return fmt.Sprintf("Docker cannot hand over the device %s: %s", f.PathOnHost, text)
			}
		}
	}
	return ""
}
