package convert

import (
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// hook is the kind of part that a task with a lifecycle becomes: it is run in the instances of the one without, as in Nomad. It is
// "" for what has no lifecycle, or one that no part has.
func hook(b *hclsyntax.Block) string {
	for _, l := range b.Body.Blocks {
		if l.Type != "lifecycle" {
			continue
		}
		when, _ := plainAttribute(l, "hook")
		beside, _ := plainAttribute(l, "sidecar")
		switch {
		case beside == "true" && (when == "prestart" || when == "poststart"):
			return "sidecar"
		case beside != "true" && (when == "prestart" || when == "poststop"):
			return when
		}
	}
	return ""
}

// inContainers reports whether the task's driver is one that has parts.
func inContainers(b *hclsyntax.Block) bool {
	driver, _ := plainAttribute(b, "driver")
	return driver == "docker" || driver == "podman"
}

// partsOf takes from a group's tasks those that become parts of another one of it, if that is the only other one.
func partsOf(tasks []*hclsyntax.Block) (mains, parts []*hclsyntax.Block) {
	for _, b := range tasks {
		if hook(b) != "" && inContainers(b) && len(b.Labels) == 1 {
			parts = append(parts, b)
		} else {
			mains = append(mains, b)
		}
	}
	if len(mains) != 1 || !inContainers(mains[0]) {
		return tasks, nil
	}
	return mains, parts
}

// readPart reads a task that becomes a part of main. It is read as a task, of which the part keeps what parts have.
func (n *nomad) readPart(b *hclsyntax.Block, g *group, main *nomadTask, taken names) {
	t := n.readTask(b, &group{name: g.name, ports: g.ports, claims: g.claims, part: true}, inherited{})
	if t == nil {
		return
	}
	n.job.remove(map[*node]bool{t.out: true})
	kind := hook(b)
	out := main.out.block(kind, taken.take(dnsLabel(b.Labels[0], kind)), line(b))
	out.what, out.notes = t.path, t.out.notes
	for _, l := range t.blocks("lifecycle") {
		if when, _ := plainAttribute(l, "hook"); when == "prestart" && kind == "sidecar" {
			t.find(line(l), t.path+".lifecycle", "it starts after its task, not before", "have the task wait for it")
		}
	}
	var volumes []string
	for _, c := range t.out.children {
		switch c.key {
		case "image", "command", "args", "env", "user", "work_dir":
			out.children = append(out.children, c)
		case "resources":
			t.keepOnly(c, "device")
			out.children = append(out.children, c)
		case "config":
			if kind == "sidecar" {
				t.keepOnly(c, "hostname", "extra_hosts")
			}
			if len(c.children) > 0 {
				out.children = append(out.children, c)
			}
		case "volume":
			if name := main.share(c); name != "" {
				volumes = append(volumes, quote(name))
			} else {
				t.find(c.origin, t.path+".volume_mount", "left out: a part has a volume where its task has it", "")
			}
		case "port": // the task has all of the group's
		case "check":
			main.out.children = append(main.out.children, c)
		default:
			t.find(c.origin, t.path+"."+c.key, "left out: what its task says counts for its parts", "")
		}
	}
	if len(volumes) > 0 {
		out.attr("volumes", list(volumes), line(b))
	}
}

// keepOnly removes what a part can not have.
func (t *nomadTask) keepOnly(n *node, without ...string) {
	n.children = slices.DeleteFunc(n.children, func(c *node) bool {
		gone := slices.Contains(without, c.key)
		if gone {
			t.find(c.origin, t.path+"."+n.key+"."+c.key, "left out: a part has none of its own", "")
		}
		return gone
	})
}

// share returns the name of the task's volume that is the same as one of a part, which the task gets if it has none at that place; "" if
// it has the volume elsewhere.
func (t *nomadTask) share(v *node) string {
	text := func(n *node, key string) string {
		if c := n.find(key); c != nil {
			return c.value
		}
		return ""
	}
	for _, have := range t.out.children {
		if have.key != "volume" {
			continue
		}
		same, there := text(have, "source") == text(v, "source"), text(have, "destination") == text(v, "destination")
		switch {
		case same && there:
			return have.label
		case same || there || have.label == v.label:
			return ""
		}
	}
	t.out.children = append(t.out.children, v)
	return v.label
}
