package convert

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"cube/api"
)

// readDeploy reads how many, where and with how much.
func (s *service) readDeploy(e entry) {
	for _, d := range e.value.entries {
		switch {
		case d.value.isNull():
		case d.key == "replicas":
			s.readCount(d, "deploy.replicas")
		case d.key == "mode": // see kindOf
		case d.key == "resources":
			s.readResources(d)
		case d.key == "restart_policy":
			s.readRestartPolicy(d)
		case d.key == "update_config":
			s.readUpdate(d)
		case d.key == "labels":
			s.task.pairs("meta", s.labels(d), d.line)
		case d.key == "placement":
			s.readPlacement(d)
		case d.key == "rollback_config":
			s.find(d.line, "deploy.rollback_config", "left out: going back is an update like any other", "")
		default:
			s.find(d.line, "deploy."+short(d.key), "left out: it is not known", "")
		}
	}
}

func (s *service) readResources(e entry) {
	limits, reserved := e.value.get("limits"), e.value.get("reservations")
	for _, source := range []struct {
		key  string
		tree *tree
	}{{"limits", limits}, {"reservations", reserved}} {
		for _, r := range source.tree.pairsOf() {
			path := "deploy.resources." + source.key + "." + short(r.key)
			switch {
			case r.key == "cpus" && (source.key == "reservations" || reserved.get("cpus") == nil):
				s.writeCPU(r, path)
			case r.key == "memory" && (source.key == "limits" || limits.get("memory") == nil):
				s.writeMemory(r, path)
			case r.key == "cpus" || r.key == "memory": // the other one counts
			case r.key == "devices":
				s.readDevices(r)
			default:
				s.find(r.line, path, "left out", refusedKeys()["pids_limit"])
			}
		}
	}
}

func (s *service) readCPU(e entry)    { s.writeCPU(e, "cpus") }
func (s *service) readMemory(e entry) { s.writeMemory(e, "mem_limit") }
func (s *service) readReservation(e entry) {
	if s.body.get("mem_limit") == nil {
		s.writeMemory(e, "mem_reservation")
	}
}

func (s *service) writeCPU(e entry, key string) {
	v, ok := s.plain(e.value, s.path+"."+key)
	if !ok {
		return
	}
	n, valid := new(big.Float).SetString(v)
	if !valid || len(v) > 12 || n.Sign() <= 0 {
		s.find(e.line, key, "left out: "+short(v)+" is no number of cores", "")
		return
	}
	s.task.one("resources", e.line).attr("cpu", n.Text('f', -1), e.line).what = s.path + "." + key
}

func (s *service) writeMemory(e entry, key string) {
	if v, ok := s.plain(e.value, s.path+"."+key); ok {
		s.task.one("resources", e.line).attr("memory", quote(binarySize(v)), e.line).what = s.path + "." + key
	}
}

// binarySize writes a size as Cube does: Compose's units are powers of 1024, whatever they are called.
func binarySize(v string) string {
	lower := strings.ToLower(strings.TrimSpace(v))
	digits := strings.TrimRight(lower, "bkmgti ")
	unit := strings.TrimSpace(lower[len(digits):])
	switch strings.TrimSuffix(strings.TrimSuffix(unit, "b"), "i") {
	case "":
		if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
			return fmt.Sprintf("%dKiB", n>>10)
		}
	case "k":
		return digits + "KiB"
	case "m":
		return digits + "MiB"
	case "g":
		return digits + "GiB"
	case "t":
		return digits + "TiB"
	}
	return v // Cube's reader says what is wrong with it
}

// readDevices: GPUs are the devices that Compose files ask for.
func (s *service) readDevices(e entry) {
	for _, d := range e.value.items {
		gpu := false
		for _, capability := range d.get("capabilities").itemsOf() {
			gpu = gpu || capability.text == "gpu"
		}
		if driver := d.get("driver"); !gpu && (driver == nil || driver.text != "nvidia") {
			s.find(d.line, "deploy.resources.reservations.devices", "left out: only GPUs are known by themselves", refusedKeys()["devices"])
			continue
		}
		s.writeGPU(d.line, d.get("count"), d.get("device_ids"))
	}
}

func (t *tree) itemsOf() []*tree {
	if t == nil {
		return nil
	}
	return t.items
}

func (s *service) writeGPU(line int, count, ids *tree) {
	resources := s.task.one("resources", line)
	if resources.find("device") != nil {
		return
	}
	device := resources.block("device", "gpu", line)
	device.what = s.path + ".deploy.resources.reservations.devices"
	switch {
	case count != nil && count.text != "all":
		if n, ok := s.number(count, device.what+".count"); ok && n != "1" {
			device.attr("count", n, line)
		}
	case ids != nil:
		s.decide(device, line, "deploy.resources.reservations.devices.device_ids", "Cube chooses which devices", "")
		if len(ids.items) > 1 {
			device.attr("count", strconv.Itoa(len(ids.items)), line)
		}
	default:
		s.decide(device, line, "deploy.resources.reservations.devices.count", "Cube gives a number of devices, not all", "write count")
	}
}

func (s *service) readGPUs(e entry) {
	if e.value.isScalar() {
		s.writeGPU(e.line, e.value, nil)
		return
	}
	for _, d := range e.value.items {
		s.writeGPU(d.line, d.get("count"), d.get("device_ids"))
	}
}

// readRestart: what is not said is Cube's own way, which is that of "always" and "unless-stopped".
func (s *service) readRestart(e entry) {
	if s.body.get("deploy").get("restart_policy") != nil {
		return
	}
	v, ok := s.plain(e.value, s.path+".restart")
	if !ok {
		return
	}
	condition, attempts, _ := strings.Cut(v, ":")
	switch condition {
	case "always", "unless-stopped":
		if s.once {
			s.find(e.line, "restart", "an instance that ends with 0 is not started again: the service runs to completion", "")
		}
	case "no", "false":
		s.never(e.line, "restart")
	case "on-failure":
		s.onFailure(e.line, "restart")
		if n, err := strconv.Atoi(attempts); err == nil && n > 0 {
			s.attempts(strconv.Itoa(n), e.line)
		}
	default:
		s.find(e.line, "restart", "left out: "+short(v)+" is not known", "")
	}
}

// never writes that an instance is not started again.
func (s *service) never(line int, key string) {
	restart := s.task.one("restart", line)
	restart.attr("attempts", "0", line)
	restart.attr("mode", `"fail"`, line)
	if !s.once {
		s.decide(restart, line, key, "an instance of a service that ends has failed, even with 0", `give the job type = "batch" if it runs to completion`)
	}
}

func (s *service) onFailure(line int, key string) {
	if !s.once {
		s.find(line, key, "an instance of a service is started again even if it ends with 0", `give the job type = "batch" if it runs to completion`)
	}
}

func (s *service) attempts(n string, line int) {
	restart := s.task.one("restart", line)
	restart.attr("attempts", n, line)
	restart.attr("mode", `"fail"`, line)
}

func (s *service) readRestartPolicy(e entry) {
	const key = "deploy.restart_policy"
	condition := "any"
	if t := e.value.get("condition"); t != nil {
		condition, _ = s.plain(t, s.path+"."+key+".condition")
	}
	switch condition {
	case "none":
		s.never(e.line, key)
		return
	case "on-failure":
		s.onFailure(e.line, key)
	}
	for _, r := range e.value.entries {
		switch r.key {
		case "condition":
		case "delay":
			if d, ok := s.duration(r.value, key+".delay"); ok {
				s.task.one("restart", r.line).attr("delay", d, r.line)
			}
		case "max_attempts":
			if n, ok := s.number(r.value, s.path+"."+key+".max_attempts"); ok && n != "0" {
				s.attempts(n, r.line)
			}
		case "window":
			if d, ok := s.duration(r.value, key+".window"); ok && longEnough(d) {
				s.task.one("restart", r.line).attr("interval", d, r.line)
			}
		default:
			s.find(r.line, key+"."+short(r.key), "left out: it is not known", "")
		}
	}
}

// longEnough reports whether a quoted duration can be an interval.
func longEnough(d string) bool {
	n, err := time.ParseDuration(strings.Trim(d, `"`))
	return err == nil && n >= time.Second
}

// readUpdate reads how instances are replaced.
func (s *service) readUpdate(e entry) {
	const key = "deploy.update_config"
	for _, u := range e.value.entries {
		what := key + "." + short(u.key)
		v, ok := s.plain(u.value, s.path+"."+what)
		if !ok {
			continue
		}
		switch {
		case u.key == "monitor":
			if d, ok := s.duration(u.value, key+".monitor"); ok {
				s.task.one("update", u.line).attr("min_healthy_time", d, u.line).what = s.path + "." + what
			}
		case u.key == "parallelism" && v == "0":
			s.find(u.line, what, "left out: there is no number for all at once", "write max_parallel, as many as count")
		case u.key == "parallelism" && v != "1":
			if n, ok := s.number(u.value, s.path+"."+what); ok {
				s.task.one("update", u.line).attr("max_parallel", n, u.line).what = s.path + "." + what
			}
		case u.key == "order" && v == api.OrderStartFirst:
			s.task.one("update", u.line).attr("order", quote(v), u.line).what = s.path + "." + what
		case u.key == "failure_action" && v == "rollback":
			s.task.one("update", u.line).attr("auto_revert", "true", u.line).what = s.path + "." + what
		case u.key == "parallelism", u.key == "order" && v == api.OrderStopFirst, u.key == "failure_action" && v == "pause":
		case u.key == "delay":
			s.find(u.line, what, "left out: the next instance follows when the new one is healthy", "set min_healthy_time")
		case u.key == "failure_action":
			s.find(u.line, what, "left out: a roll-out in which an instance does not get healthy fails and stays where it is", "")
		default:
			s.find(u.line, what, "left out: "+short(v)+" has no counterpart", "")
		}
	}
}

// readPlacement reads where Swarm would put the service.
func (s *service) readPlacement(e entry) {
	for _, p := range e.value.entries {
		key := "deploy.placement." + short(p.key)
		switch p.key {
		case "constraints":
			for _, c := range p.value.items {
				s.readConstraint(c, key)
			}
		case "preferences":
			for _, preference := range p.value.items {
				attribute, ok := swarmAttribute(preference.get("spread").scalar())
				if !ok {
					s.find(preference.line, key, "left out: "+short(preference.get("spread").scalar())+" is no attribute of nodes here", "")
					continue
				}
				s.task.block("spread", "", preference.line).attr("attribute", quote(attribute), preference.line)
			}
		case "max_replicas_per_node":
			if v, _ := s.plain(p.value, s.path+"."+key); v == "1" {
				s.task.block("constraint", "", p.line).attr("distinct_hosts", "true", p.line)
				continue
			}
			s.find(p.line, key, "left out: Cube bounds the instances of a node to one, or not at all", "")
		default:
			s.find(p.line, key, "left out: it is not known", "")
		}
	}
}

func (t *tree) scalar() string {
	if t == nil {
		return ""
	}
	return t.text
}

func (s *service) readConstraint(t *tree, key string) {
	v, ok := s.plain(t, s.path+"."+key)
	if !ok {
		return
	}
	operator := api.OpEqual
	name, value, found := strings.Cut(v, "==")
	if !found {
		operator = api.OpNotEqual
		name, value, found = strings.Cut(v, "!=")
	}
	attribute, known := swarmAttribute(strings.TrimSpace(name))
	if !found || !known {
		s.find(t.line, key, "left out: "+short(v)+" is no condition on nodes here", "name the nodes with meta in their configuration")
		return
	}
	b := s.task.block("constraint", "", t.line)
	b.what = s.path + "." + key
	b.attr("attribute", quote(attribute), t.line)
	if operator != api.OpEqual {
		b.attr("operator", quote(operator), t.line)
	}
	b.attr("value", quote(strings.TrimSpace(value)), t.line)
	if strings.HasPrefix(attribute, "meta.") {
		s.find(t.line, key, "a label of a node became "+attribute, "write it into meta of the nodes' configuration")
	}
}

// swarmAttribute is what Cube calls an attribute of a Swarm node.
func swarmAttribute(name string) (string, bool) {
	for _, prefix := range []string{"node.labels.", "engine.labels."} {
		if label, ok := strings.CutPrefix(name, prefix); ok && label != "" {
			return "meta." + label, true
		}
	}
	switch name {
	case "node.hostname":
		return "node.name", true
	case "node.id":
		return "node.id", true
	case "node.platform.arch":
		return "attr.cpu.arch", true
	case "node.platform.os":
		return "attr.kernel.name", true
	}
	return "", false
}

// mount is one of a service's volumes as its short or its long form says it.
type mount struct {
	source, target, kind, options string
	readOnly                      bool
}

// readMount reads a mount. What its long form says and nobody asks for is reported.
func (s *service) readMount(t *tree) mount {
	if !t.isMap() {
		parts := fields(t.text)
		if len(parts) == 1 {
			return mount{target: parts[0]}
		}
		modes := strings.Split(strings.Join(parts[2:], ":"), ",")
		return mount{source: parts[0], target: parts[1], readOnly: slices.Contains(modes, "ro")}
	}
	m := mount{source: t.get("source").scalar(), target: t.get("target").scalar(), kind: t.get("type").scalar(), readOnly: t.get("read_only").scalar() == "true"}
	for _, o := range t.entries {
		switch {
		case slices.Contains([]string{"type", "source", "target", "read_only", "bind", "consistency"}, o.key) || strings.HasPrefix(o.key, "x-"):
		case o.key == "tmpfs" && m.kind == "tmpfs":
			var options []string
			for _, option := range o.value.entries {
				value := option.value.text
				if option.key == "size" { // the kernel knows 64m, and no 64mb
					value = strings.TrimRight(strings.ToLower(value), "bi")
				}
				options = append(options, option.key+"="+value)
			}
			m.options = strings.Join(options, ",")
		case len(o.value.entries) == 0:
			s.find(o.line, "volumes."+short(o.key), "left out", "")
		default:
			for _, option := range o.value.entries {
				if option.key != "nocopy" { // what an image has there is never copied
					s.find(option.line, "volumes."+short(o.key+"."+option.key), "left out", "")
				}
			}
		}
	}
	return m
}

// readVolumes: named volumes become volumes of nodes, nameless ones the instance's own directory. No other directory of a machine
// gets into a container but what its node offers.
func (s *service) readVolumes(e entry) {
	for _, v := range e.value.items {
		m := s.readMount(v)
		if m.target == "" {
			s.find(v.line, "volumes", "an entry of it is left out: it says nowhere to mount it", "")
			continue
		}
		written := m.source
		if source, ok := s.resolved(m.source, 0); ok {
			m.source = source
		}
		destination := s.fill(m.target, v.line, false, 0)
		switch named := m.source != "" && !strings.ContainsAny(m.source, "./~$\\"); {
		case m.kind == "tmpfs":
			if m.options != "" {
				destination = append(destination, s.fill(":"+m.options, v.line, false, 0)...)
			}
			s.option("tmpfs", []string{destination.String()}, e)
		case named && (m.kind == "" || m.kind == "volume"):
			if written != m.source {
				s.find(v.line, "volumes", "the volume is fixed at "+short(m.source)+", the default of "+short(written), "a volume's name cannot be a variable")
			}
			s.readNamed(v.line, m, destination.String())
		case m.source == "" && (m.kind == "" || m.kind == "volume") && s.task.find("ephemeral_disk") == nil:
			disk := s.task.one("ephemeral_disk", v.line)
			disk.what = s.path + ".volumes"
			disk.attr("destination", destination.String(), v.line)
			disk.attr("sticky", "true", v.line)
		default:
			s.decide(s.task, v.line, "volumes", short(strings.TrimPrefix(m.source+" at "+m.target, " at "))+" is left out: what is written there is lost with the container",
				"put files into the image, or name the directory in the node's configuration and ask for it with volume")
		}
	}
}

// countUsers counts how often each source is mounted.
func (c *compose) countUsers(services *tree) {
	for _, e := range services.entries {
		for _, v := range e.value.get("volumes").itemsOf() {
			source := v.get("source").scalar()
			if source == "" {
				source = fields(v.text)[0]
			}
			if source, ok := c.resolved(source, 0); ok {
				c.users[source]++
			}
		}
	}
}

// readNamed gives the task a volume. What several instances write to says so.
func (s *service) readNamed(line int, m mount, destination string) {
	volume := s.addVolume(s.task, line, s.path+".volumes", m.source, destination)
	if volume == nil {
		return
	}
	replicas := s.body.get("deploy").get("replicas").scalar() + s.body.get("scale").scalar()
	switch {
	case m.readOnly:
		volume.attr("read_only", "true", line)
	case s.users[m.source] > 1 || replicas != "" && replicas != "1":
		volume.attr("access", `"multi-writer"`, line)
	}
}
