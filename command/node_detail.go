package command

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cube/api"
)

const (
	// nodeMemory is how many of a node's events are looked through for those that are shown.
	nodeMemory = 200
	// nodeEvents is how many are shown that are about the node, and as many about its instances: these are more, and would crowd
	// out those.
	nodeEvents = 5
	// nodePatience is how long a server may take to remember them.
	nodePatience = 3 * time.Second
)

// nodeReport is what -json and -t show of one node.
type nodeReport struct {
	*api.NodeView
	Instances []*api.Allocation
	Usage     *api.UsageReport `json:",omitempty"`
	Draining  *api.DrainStatus `json:",omitempty"` // how its drain gets on, while it is under way
	Events    []*api.EventView `json:",omitempty"` // the latest that the server remembers, newest last
}

func nodeDetail(ctx context.Context, s *session, cluster api.Cluster, read *readFlags, typed string) error {
	node, err := ask(ctx, s, read, func(ctx context.Context, q api.Query) (*api.NodeView, api.ReadMeta, error) {
		id, err := resolveNode(ctx, cluster, typed, q)
		if err != nil {
			return nil, api.ReadMeta{}, err
		}
		return cluster.Node(ctx, id, q)
	})
	if err != nil {
		return failed(err, "reading node %q", typed)
	}
	measured := askUsage(ctx, cluster, api.UsageQuery{Nodes: []string{node.ID}, Stale: read.stale})
	report := nodeReport{NodeView: node}
	report.Instances, err = ask(ctx, s, read, func(ctx context.Context, q api.Query) ([]*api.Allocation, api.ReadMeta, error) {
		return cluster.NodeAllocations(ctx, node.ID, q)
	})
	if err != nil {
		return failed(err, "reading the allocations of node %q", typed)
	}
	if node.Drain.Active() {
		report.Draining, err = ask(ctx, s, read, func(ctx context.Context, q api.Query) (*api.DrainStatus, api.ReadMeta, error) {
			return cluster.NodeDrain(ctx, node.ID, q)
		})
		if err != nil {
			return failed(err, "reading the drain of node %q", typed)
		}
	}
	report.Events = latestOfEach(eventsOfNode(ctx, cluster, node.ID), nodeEvents)
	used := measured()
	report.Usage = used.UsageReport
	if done, err := read.emit(s, report); done {
		return err
	}
	f := read.moments(s)
	printNode(s, f, node)
	if report.Draining != nil {
		s.section("Drain")
		for _, line := range report.Draining.Lines() {
			s.print(printable(line) + "\n")
		}
	}
	printResources(s, f, node, used.sum(report.Instances))
	printNodeInstances(s, f, report.Instances, used)
	printDevices(s, f, node)
	printNodeVolumes(s, f, node)
	printDrivers(s, node)
	printAttributes(s, f, node)
	printPairs(s, "Meta", node.Meta)
	printRecent(s, f, report.Events)
	return nil
}

// eventsOfNode returns what the server that is asked remembers of a node. That it cannot be had is no failure: a status is of use
// without.
func eventsOfNode(ctx context.Context, cluster api.Cluster, node string) (events []*api.EventView) {
	ctx, cancel := context.WithTimeout(ctx, nodePatience)
	defer cancel()
	request := api.EventRequest{Node: node, Topics: []api.Topic{api.TopicNode, api.TopicAllocation}, Tail: nodeMemory}
	err := cluster.Events(ctx, request, func(b api.EventBatch) error {
		events = append(events, b.Events...)
		return nil
	})
	if err != nil {
		return nil
	}
	return events
}

// latestOfEach leaves of the events about each topic the latest n, in their order.
func latestOfEach(events []*api.EventView, n int) []*api.EventView {
	var kept []*api.EventView
	seen := map[api.Topic]int{}
	for _, e := range slices.Backward(events) {
		if seen[e.Topic]++; seen[e.Topic] <= n {
			kept = append(kept, e)
		}
	}
	slices.Reverse(kept)
	return kept
}

func printNode(s *session, f moments, n *api.NodeView) {
	var b block
	b.add("ID", "%s", n.ID)
	b.add("Name", "%s", n.Name)
	b.add("Datacenter", "%s", n.Datacenter)
	b.add("Address", "%s", n.Address)
	b.add("Version", "%s", n.Version)
	b.add("Status", "%s", n.Status)
	b.addIf("Reason", n.StatusReason)
	b.add("Since", "%s", f.ago(n.StatusAt))
	b.add("Eligibility", "%s", eligibilityText(f, n))
	if n.Drain != nil {
		b.add("Drain", "%s", drainText(n.Drain, f.now))
	}
	b.add("Connected", "%s", yesNo(n.Connected))
	b.add("Last Contact", "%s", f.ago(n.LastContact))
	b.add("Running", "%d of %s", n.Running, countOf(n.Allocations, "instance"))
	s.print(b.render(s.style))
	if list := troubles(n); len(list) > 0 {
		s.section("Trouble")
		for _, line := range list {
			s.print(printable(line) + "\n")
		}
	}
}

func yesNo(v bool) string {
	if v {
		return "yes"
	}
	return "no"
}

// printResources shows what a node has, what is reserved of it, and what is used: by the instances and by all that runs on the
// machine.
func printResources(s *session, f moments, n *api.NodeView, sum usageSum) {
	s.section("Resources")
	t := newTable("", "Capacity", "Reserved", "Used by Instances", "Used on the Machine")
	t.blank = unmeasured
	load := n.Load
	if load == nil || n.Status == api.NodeDown { // what it was before it went says nothing
		load = &api.NodeLoad{}
	}
	add := func(name string, format func(int64) string, share func(used, total int64) string, held, total int64, used string, loaded, whole int64) {
		reserved, machine := format(held), ""
		if total > 0 {
			reserved += " (" + percent(held, total) + ")"
		}
		if whole > 0 {
			machine = share(loaded, whole)
		}
		t.add(name, format(total), reserved, used, machine)
	}
	cpu, memory := "", ""
	if sum.measured > 0 || sum.running == 0 {
		cpu, memory = api.FormatCPU(sum.used.CPU), api.FormatMiB(sum.used.Memory)
	}
	add("CPU", api.FormatCPU, cpuShare, n.Held.CPU, n.Resources.CPU, cpu, load.CPU, load.CPUTotal)
	add("Memory", api.FormatMiB, mibShare, n.Held.Memory, n.Resources.Memory, memory, load.Memory, load.MemoryTotal)
	add("Disk", api.FormatMiB, mibShare, n.Held.Disk, n.Resources.Disk, "", load.Disk, load.DiskTotal)
	s.printTable(f, t)
	if *load != (api.NodeLoad{}) {
		s.print(fmt.Sprintf("Load average %.2f over 1 min, %.2f over 5 min; up %s\n", load.Load1, load.Load5, duration(load.Uptime)))
	}
}

// printNodeInstances lists what is on a node: without -verbose what is not over, and what failed and has no successor yet.
func printNodeInstances(s *session, f moments, allocs []*api.Allocation, used usage) {
	shown, over := allocs, 0
	if !f.verbose {
		shown = slices.DeleteFunc(slices.Clone(allocs), func(a *api.Allocation) bool {
			return a.Phase.Terminal() && (a.Phase != api.PhaseFailed || a.Desired != api.DesiredRun || a.ReplacedBy != "")
		})
		over = len(allocs) - len(shown)
	}
	s.section("Instances")
	if len(shown) == 0 {
		s.print("None\n")
	} else {
		t := newTable("Instance", "ID", "Version", "Desired", "Status", "Health", "CPU", "Memory", "Restarts", "Age", "Address")
		t.colourColumn(4, s.style.state)
		t.colourColumn(5, s.style.state)
		t.whole, t.spare = []string{"Address"}, []string{"Desired", "Version"}
		for _, a := range shown {
			t.add(a.Name, f.id(a.ID), strconv.FormatUint(a.JobVersion, 10), a.Desired.String(), a.Phase.String(), healthOf(a), used.cpu(a), used.memory(a), strconv.Itoa(a.Restarts), f.ago(a.CreatedAt), addresses(a))
		}
		s.printTable(f, t)
	}
	if sum := used.sum(allocs).text(); sum != "" {
		s.print(sum + "\n")
	}
	for _, note := range used.notes() {
		s.print(note + "\n")
	}
	if over > 0 {
		s.print(s.style.paint(faint, countOf(over, "instance")+" that ended not shown; see -verbose") + "\n")
	}
}

func printDrivers(s *session, n *api.NodeView) {
	s.section("Drivers")
	t := newTable("Driver", "Detected", "Healthy", "Reason")
	for _, name := range sortedKeys(n.Drivers) {
		d := n.Drivers[name]
		t.add(name, yesNo(d.Detected), yesNo(d.Healthy), d.Reason)
	}
	s.print(t.render(s.style, 0)) // a reason is not shortened: it says what to do
}

// chosenAttributes are those that a person asks for first.
func chosenAttributes() []string {
	return []string{"cpu.arch", "cpu.cores", "cpu.model", "driver.docker.version", "kernel.name", "kernel.version", "os.name", "os.version"}
}

// printAttributes shows the chosen attributes, and with -verbose all.
func printAttributes(s *session, f moments, n *api.NodeView) {
	shown := map[string]string{}
	for name, value := range n.Attributes {
		if f.verbose || slices.Contains(chosenAttributes(), name) {
			shown[name] = value
		}
	}
	printPairs(s, "Attributes", shown)
	if more := len(n.Attributes) - len(shown); more > 0 {
		s.print(s.style.paint(faint, countOf(more, "more attribute")+" not shown; see -verbose") + "\n")
	}
}

// printDevices lists a node's devices with what is held of each.
func printDevices(s *session, f moments, n *api.NodeView) {
	held := map[string]int{}
	for _, u := range n.DeviceUse {
		held[u.ID] = u.Held
	}
	t := newTable("Type", "Model", "ID", "Held", "Attributes")
	t.whole, t.spare = []string{"ID"}, []string{"Attributes"}
	for _, g := range n.Devices {
		for _, id := range g.IDs {
			t.add(g.Type, g.Model, id, deviceShare(held[id]), pairs(g.Attributes))
		}
	}
	for _, u := range n.DeviceUse {
		if u.Gone {
			t.add(u.Type, u.Model, u.ID, deviceShare(u.Held), "gone from the node")
		}
	}
	if len(t.rows) > 0 {
		s.section("Devices")
		s.printTable(f, t)
	}
}

// deviceShare writes what is held of one device: "0.5 of 1".
func deviceShare(held int) string { return api.FormatShare(held) + " of 1" }

// pairs writes attributes in one line: "memory_gib=40, vendor=nvidia".
func pairs(m map[string]string) string {
	var all []string
	for _, k := range sortedKeys(m) {
		all = append(all, k+"="+m[k])
	}
	return strings.Join(all, ", ")
}

func printPairs(s *session, title string, pairs map[string]string) {
	if len(pairs) == 0 {
		return
	}
	s.section(title)
	var b block
	for _, k := range sortedKeys(pairs) {
		b.add(printable(k), "%s", pairs[k])
	}
	s.print(b.render(style{}))
}
