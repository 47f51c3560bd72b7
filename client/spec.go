package client

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"

	"cube/api"
	"cube/client/device"
	"cube/client/driver"
	"cube/client/estate"
	"cube/client/payload"
)

// spec is a version of a job as the client keeps it: decoded once, shared by all of its allocations here.
type spec struct {
	job  *api.Job
	err  error // why it could not be read; job is nil then
	kept bool  // the state file has it

	policies []*policy // of the job's tasks, in their order, two each (see policy): made when first asked for, by the runner
}

// task returns the named task, nil if it is not known.
func (s *spec) task(name string) *api.Task {
	if s == nil || s.job == nil {
		return nil
	}
	return s.job.Task(name)
}

// policy returns what step needs, nil if the task is not known. It differs for an instance that takes the place of one
// that is moved. Nobody changes it: it is asked for at every event.
func (s *spec) policy(task string, moved bool) *policy {
	if s == nil || s.job == nil {
		return nil
	}
	if s.policies == nil {
		s.policies = make([]*policy, 2*len(s.job.Tasks))
	}
	for i, t := range s.job.Tasks {
		if t.Name != task {
			continue
		}
		if i *= 2; moved {
			i++
		}
		if s.policies[i] == nil {
			minHealthy := t.Update.MinHealthyTime
			if moved {
				minHealthy, _ = t.Move()
			}
			s.policies[i] = &policy{
				Restart: t.Restart, Batch: s.job.Type.Completes(), Checks: t.Checks, MinHealthy: minHealthy,
				Memory: t.Resources.Memory, Delay: t.ShutdownDelay, MaxRun: t.MaxRunDuration, Alone: t.Disconnect.StopOnClientAfter, Parts: t.Parts,
			}
		}
		return s.policies[i]
	}
	return nil
}

// onHost reports whether a driver's instances share the node's network, so that they bind the host port itself. The driver
// contract has no word for it, since only what the instance is told depends on it.
func onHost(driver string) bool { return driver == "raw_exec" }

// bindPort is the port that an instance listens on inside.
func bindPort(b api.PortBinding, driver string) int {
	if onHost(driver) || b.To == 0 {
		return b.Host
	}
	return b.To
}

// envKey makes the part of an environment variable's name that a label stands for: shells know no '-' in names.
func envKey(label string) string { return strings.ReplaceAll(label, "-", "_") }

// environment returns the CUBE_ variables of an allocation.
func environment(a *allocation, t *api.Task, n *api.Node, id string) map[string]string {
	env := map[string]string{
		"CUBE_ALLOC_ID":    id,
		"CUBE_ALLOC_NAME":  api.InstanceName(a.Job, a.Task, a.Slot),
		"CUBE_ALLOC_INDEX": strconv.FormatUint(uint64(a.Slot), 10),
		"CUBE_JOB_NAME":    a.Job,
		"CUBE_TASK_NAME":   a.Task,
		"CUBE_NODE_ID":     n.ID,
		"CUBE_NODE_NAME":   n.Name,
		"CUBE_DATACENTER":  n.Datacenter,
		"CUBE_CPU":         api.FormatCPU(t.Resources.CPU),            // cores
		"CUBE_MEMORY":      strconv.FormatInt(t.Resources.Memory, 10), // MiB
	}
	for _, b := range a.Ports {
		key := envKey(b.Label)
		env["CUBE_IP_"+key] = n.Address
		env["CUBE_ADDR_"+key] = net.JoinHostPort(n.Address, strconv.Itoa(b.Host))
		env["CUBE_HOST_PORT_"+key] = strconv.Itoa(b.Host)
		env["CUBE_PORT_"+key] = strconv.Itoa(bindPort(b, t.Driver))
	}
	ids := map[string]string{}
	for _, d := range a.Devices {
		key := "CUBE_DEVICE_" + strings.ToUpper(envKey(d.Type))
		ids[key] = strings.TrimPrefix(ids[key]+","+d.ID, ",")
		env[key+"_SHARE"] = api.FormatShare(d.Share)
	}
	for i := range t.Volumes {
		where := t.Volumes[i].Destination
		if v := n.Volume(t.Volumes[i].Source); v != nil && onHost(t.Driver) {
			where = v.Path
		}
		env["CUBE_VOLUME_"+api.VolumeKey(t.Volumes[i].Name)] = where
	}
	maps.Copy(env, ids) // last: a type may be called after another's share
	return env
}

// heldDevices describes what an allocation holds of its node's devices. It fails when one is not there any more.
func heldDevices(a *allocation, n *api.Node) ([]driver.Device, error) {
	var out []driver.Device
	for _, claim := range a.Devices {
		i := slices.IndexFunc(n.Devices, func(g api.DeviceGroup) bool { return g.Type == claim.Type && slices.Contains(g.IDs, claim.ID) })
		if i < 0 {
			return nil, fmt.Errorf("node %s has no %s %s any more", n.Name, claim.Type, claim.ID)
		}
		g := &n.Devices[i]
		out = append(out, driver.Device{DeviceClaim: claim, Vendor: device.Vendor(g), Path: device.Path(g, claim.ID)})
	}
	return out, nil
}

// heldVolumes are the directories of the node that the task's instances are given. It fails when one is not there any more, or
// is not to be written to any more.
func heldVolumes(t *api.Task, n *api.Node) ([]driver.Volume, error) {
	var out []driver.Volume
	for i := range t.Volumes {
		v := &t.Volumes[i]
		if reason := n.LacksVolume(v); reason != "" {
			return nil, fmt.Errorf("on node %s: %s", n.Name, reason)
		}
		out = append(out, driver.Volume{Name: v.Name, Path: n.Volume(v.Source).Path, Destination: v.Destination, ReadOnly: v.Reads()})
	}
	return out, nil
}

// ofPart makes of a task what it is for one of its parts.
func ofPart(t *api.Task, p *api.Part) *api.Task {
	c := *t
	c.Image, c.Command, c.Args, c.Env, c.User, c.WorkDir = p.Image, p.Command, p.Args, p.Env, p.User, p.WorkDir
	c.Resources, c.Config, c.Volumes = p.Resources, p.Config, nil
	for _, v := range t.Volumes {
		if slices.Contains(p.Volumes, v.Name) {
			c.Volumes = append(c.Volumes, v)
		}
	}
	return &c
}

// configurePart makes what a driver needs to start the next instance of a part. It knows the ports of the allocation, which
// stay those of the main instance; a sidecar is beside that.
func configurePart(j *api.Job, a, m *allocation, t *api.Task, p *api.Part, n *api.Node, o driver.Owner, id, dir string) (*driver.Config, error) {
	as := *m
	as.Ports = a.Ports
	c, err := configure(j, &as, ofPart(t, p), n, o, id, dir)
	if err != nil {
		return nil, err
	}
	c.Ports, c.Env["CUBE_PART_NAME"] = nil, p.Name
	if p.Kind == api.PartSidecar {
		c.Beside = a.Run.Data
	}
	return c, nil
}

// filler replaces the run-time ${names} and remembers those that nothing is known of.
type filler struct {
	lookup  func(string) (string, bool)
	unknown []string
}

func (f *filler) text(s string) string {
	out, unknown := api.Interpolate(s, f.lookup)
	f.unknown = append(f.unknown, unknown...)
	return out
}

// value fills in the strings of a driver's config block, however deep. It copies what it goes into.
func (f *filler) value(v any) any {
	switch v := v.(type) {
	case string:
		return f.text(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = f.value(v[i])
		}
		return out
	case []string:
		return f.list(v)
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = f.value(v[k])
		}
		return out
	case map[string]string:
		out := make(map[string]string, len(v))
		for k := range v {
			out[k] = f.text(v[k])
		}
		return out
	}
	return v
}

func (f *filler) list(in []string) []string {
	if len(in) == 0 {
		return nil
	}
	out := make([]string, len(in))
	for i := range in {
		out[i] = f.text(in[i])
	}
	return out
}

// configure makes what a driver needs to start the next instance of an allocation of the job. n is the node, id the allocation as people
// see it. It fails on a ${name} that nothing is known of.
func configure(j *api.Job, a *allocation, t *api.Task, n *api.Node, o driver.Owner, id, dir string) (*driver.Config, error) {
	env := environment(a, t, n, id)
	maps.Copy(env, j.DispatchEnv())
	f := filler{lookup: func(name string) (string, bool) {
		if v, ok := env[envKey(name)]; ok {
			return v, true
		}
		return n.Attribute(name)
	}}
	held, err := heldDevices(a, n)
	if err != nil {
		return nil, err
	}
	volumes, err := heldVolumes(t, n)
	if err != nil {
		return nil, err
	}
	if d := t.EphemeralDisk; d != nil && dir != "" {
		own := estate.Own(dir)
		env["CUBE_ALLOC_DIR"] = cmp.Or(d.Destination, own)
		if d.Destination != "" {
			volumes = append(volumes, driver.Volume{Name: "ephemeral_disk", Path: own, Destination: d.Destination})
		}
	}
	if p := t.DispatchPayload; p != nil && j.Dispatched != nil && dir != "" {
		where := payload.Directory(dir)
		if !onHost(t.Driver) {
			volumes = append(volumes, driver.Volume{Name: "dispatch", Path: where, Destination: api.PayloadDirectory, ReadOnly: true})
			where = api.PayloadDirectory
		}
		env[payload.Variable] = path.Join(where, p.File)
	}
	c := &driver.Config{
		Owner: o, Key: a.key(), Text: id, Job: a.Job, Task: a.Task, Slot: a.Slot, Version: a.Version,
		Image: f.text(t.Image), Command: f.text(t.Command), Args: f.list(t.Args), User: f.text(t.User), WorkDir: f.text(t.WorkDir),
		Network: driver.Network{Address: n.Address, Ports: a.Ports}, Devices: held, Volumes: volumes, Held: t.Resources, Dir: dir,
		Env: make(map[string]string, len(env)+len(t.Env)),
	}
	for k, v := range t.Env {
		c.Env[k] = f.text(v)
	}
	for k, v := range env {
		c.Env[k] = v
	}
	if len(t.Config) > 0 {
		c.Options = f.value(t.Config).(map[string]any)
	}
	if len(f.unknown) > 0 {
		slices.Sort(f.unknown)
		return nil, fmt.Errorf("node %s does not know ${%s}", n.Name, strings.Join(slices.Compact(f.unknown), "}, ${"))
	}
	return c, nil
}
