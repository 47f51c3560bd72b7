package docker

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-connections/nat"

	"cube/client/driver"
)

// Labels say what a container is to Cube. They outlive the agent and its files.
const (
	labelCluster  = "cube.cluster"
	labelNode     = "cube.node"
	labelJob      = "cube.job"
	labelTask     = "cube.task"
	labelAlloc    = "cube.alloc"
	labelSlot     = "cube.slot"
	labelVersion  = "cube.version"
	labelRestarts = "cube.restarts"
	labelPart     = "cube.part" // of a part of the task only
	labelRun      = "cube.run"  // of a part: the run of the main container that it belongs to
)

// marks are the labels that must agree for a container to be adopted.
var marks = [...]string{labelCluster, labelNode, labelJob, labelTask, labelAlloc, labelVersion, labelRestarts, labelPart, labelRun}

const (
	mib = 1 << 20
	// sharesOfCore is the weight of one core: Docker's default for a container, so that shares compare with others'.
	sharesOfCore = 1024
	minShares    = 2 // the kernel takes no less
	// pidsLimit keeps a fork bomb in one container from taking the machine's process table. Servers with a thread a
	// connection stay below it.
	pidsLimit = 4096
)

// droppedCaps are taken from every container though Docker gives them: raw sockets let one container forge the packets
// of its neighbours on the bridge (CVE-2020-14386 and others began there), device nodes are nothing a task makes.
var droppedCaps = [...]string{"NET_RAW", "MKNOD"}

func (d *Driver) name(k driver.Key) string {
	if k.Part != "" {
		return fmt.Sprintf("cube-%s-%d-%s-%d", d.text.Format(k.Allocation), k.Of, k.Part, k.Restarts)
	}
	return fmt.Sprintf("cube-%s-%d", d.text.Format(k.Allocation), k.Restarts)
}

func (d *Driver) labels(c *driver.Config, o *options) map[string]string {
	l := maps.Clone(o.labels)
	if l == nil {
		l = map[string]string{}
	}
	l[labelCluster] = d.owner.ClusterID
	l[labelNode] = d.owner.NodeID
	l[labelJob] = c.Job
	l[labelTask] = c.Task
	l[labelAlloc] = d.text.Format(c.Key.Allocation)
	l[labelSlot] = strconv.FormatUint(uint64(c.Slot), 10)
	l[labelVersion] = strconv.FormatUint(c.Version, 10)
	l[labelRestarts] = strconv.FormatUint(uint64(c.Key.Restarts), 10)
	if c.Key.Part != "" {
		l[labelPart], l[labelRun] = c.Key.Part, strconv.FormatUint(uint64(c.Key.Of), 10)
	}
	return l
}

// containerConfig is what runs inside.
func (d *Driver) containerConfig(c *driver.Config, o *options) *container.Config {
	var env []string
	set := environment(c)
	for _, k := range slices.Sorted(maps.Keys(set)) {
		env = append(env, k+"="+set[k])
	}
	var command []string
	if c.Command != "" {
		command = append(command, c.Command)
	}
	exposed := nat.PortSet{}
	for _, p := range c.Ports {
		exposed[inside(p.Host, p.To)] = struct{}{}
	}
	return &container.Config{
		Image:        c.Image,
		Entrypoint:   o.entrypoint,
		Cmd:          append(command, c.Args...),
		Env:          env,
		User:         c.User,
		WorkingDir:   c.WorkDir,
		Hostname:     o.hostname,
		ExposedPorts: exposed,
		Labels:       d.labels(c, o),
	}
}

// hostConfig is what the container gets of the machine. It sets what a task may have and nothing else: no privileges, no
// namespaces of the host or of others but the network of the instance that it is a part of, no directories of the host but volumes, no devices but those that were placed with it.
func hostConfig(c *driver.Config, o *options) *container.HostConfig {
	memory, pids := c.Held.Memory*mib, int64(pidsLimit)
	network := container.NetworkMode("") // the engine's bridge
	if c.Beside != "" {
		network = container.NetworkMode("container:" + c.Beside)
	}
	return &container.HostConfig{
		NetworkMode:    network,
		PortBindings:   portBindings(c),
		RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyDisabled}, // Cube restarts, by the task's policy
		LogConfig:      container.LogConfig{Type: "json-file", Config: o.logConfig()},
		CapDrop:        append(slices.Clone(droppedCaps[:]), o.capDrop...),
		SecurityOpt:    []string{"no-new-privileges"},
		ReadonlyRootfs: o.readOnly,
		ExtraHosts:     o.extraHosts,
		Tmpfs:          o.tmpfs,
		Mounts:         mounts(c),
		Resources: container.Resources{
			CPUShares:  max(minShares, c.Held.CPU*sharesOfCore/1000),
			Memory:     memory,
			MemorySwap: memory, // of both together: no swap
			PidsLimit:  &pids,

			Devices:        deviceFiles(c),
			DeviceRequests: deviceRequests(c),
		},
	}
}

// mounts are the volumes. What is mounted in them, on the node or in the container, stays on its side. A directory that is not
// there fails the start: the engine must not make one.
func mounts(c *driver.Config) []mount.Mount {
	var out []mount.Mount
	for _, v := range c.Volumes {
		out = append(out, mount.Mount{Type: mount.TypeBind, Source: v.Path, Target: v.Destination, ReadOnly: v.ReadOnly,
			BindOptions: &mount.BindOptions{Propagation: mount.PropagationRPrivate}})
	}
	return out
}

func portBindings(c *driver.Config) nat.PortMap {
	host := c.Address
	if a, err := netip.ParseAddr(host); err == nil && a.IsUnspecified() {
		host = "" // all addresses, of both families
	}
	m := nat.PortMap{}
	for _, p := range c.Ports {
		in := inside(p.Host, p.To)
		m[in] = append(m[in], nat.PortBinding{HostIP: host, HostPort: strconv.Itoa(p.Host)})
	}
	return m
}

// inside is the port that the program listens on.
func inside(host, to int) nat.Port {
	if to == 0 {
		to = host
	}
	return nat.Port(strconv.Itoa(to) + "/tcp")
}
