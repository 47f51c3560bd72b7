package command

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"cube/api"
)

func newNodeStatus(m *Meta) *command {
	var read readFlags
	return &command{
		meta: m, name: "node status", args: "[node]", max: 1, predict: predictNodes,
		synopsis: "Show the nodes, or one of them",
		prose: `Lists the machines that run tasks, with the CPU, memory and disk that instances have reserved of what there is, and when a server last heard of each. Under the list stands what keeps a node from doing its work, such as a Docker engine that does not answer.

With a node's ID (or the first characters of it) or its name, shows that node: its devices with what is held of each, its drivers, its attributes, which constraints can ask for, what it measures of itself, and its allocations.`,
		example: "$ cube node status\n$ cube node status 5e7e850c",
		flags:   read.declare,
		run: func(ctx context.Context, s *session, args []string) error {
			if err := read.check(); err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return nodeDetail(ctx, s, cluster, &read, args[0])
			}
			nodes, err := ask(ctx, s, &read, cluster.ListNodes)
			if err != nil {
				return failed(err, "listing the nodes")
			}
			if done, err := read.emit(s, nodes); done {
				return err
			}
			printNodes(s, read.moments(s), nodes)
			return nil
		},
	}
}

func printNodes(s *session, f moments, nodes []*api.NodeView) {
	if len(nodes) == 0 {
		s.print("No nodes: no client has joined. On each machine that is to run tasks: cube agent -client -join <server>\n")
		return
	}
	t := newTable("ID", "Name", "DC", "Status", "Eligibility", "CPU", "Memory", "Disk", "Running", "Version", "Last Contact")
	t.colourColumn(3, s.style.state)
	t.colourColumn(4, s.style.state)
	t.spare = []string{"Version", "Disk", "DC"}
	var notes []string
	for _, n := range nodes {
		t.add(f.id(n.ID), n.Name, n.Datacenter, string(n.Status), eligibility(n), cpuShare(n.Held.CPU, n.Resources.CPU),
			mibShare(n.Held.Memory, n.Resources.Memory), mibShare(n.Held.Disk, n.Resources.Disk), strconv.Itoa(n.Running), n.Version, f.ago(n.LastContact))
		for _, trouble := range troubles(n) {
			notes = append(notes, printable(n.Name+": "+trouble))
		}
	}
	s.printTable(f, t)
	if len(notes) > 0 {
		s.print("\n")
	}
	for _, note := range notes {
		s.print(note + "\n")
	}
}

// nodeReport is what -json and -t show of one node.
type nodeReport struct {
	*api.NodeView
	Instances []*api.Allocation
	Usage     *api.UsageReport `json:",omitempty"`
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
	allocs, err := ask(ctx, s, read, func(ctx context.Context, q api.Query) ([]*api.Allocation, api.ReadMeta, error) {
		return cluster.NodeAllocations(ctx, node.ID, q)
	})
	if err != nil {
		return failed(err, "reading the allocations of node %q", typed)
	}
	used := measured()
	if done, err := read.emit(s, nodeReport{node, allocs, used.UsageReport}); done {
		return err
	}
	f := read.moments(s)
	printNode(s, f, node)
	if node.Drain.Active() {
		status, err := ask(ctx, s, read, func(ctx context.Context, q api.Query) (*api.DrainStatus, api.ReadMeta, error) {
			return cluster.NodeDrain(ctx, node.ID, q)
		})
		if err != nil {
			return failed(err, "reading the drain of node %q", typed)
		}
		s.section("Drain")
		for _, line := range status.Lines() {
			s.print(printable(line) + "\n")
		}
	}
	s.section("Allocations")
	t := newTable("ID", "Instance", "Version", "Desired", "Status", "CPU", "Memory", "Restarts", "Age", "Address")
	t.colourColumn(4, s.style.state)
	t.whole, t.spare = []string{"Address"}, []string{"Desired", "Version"}
	for _, a := range allocs {
		t.add(f.id(a.ID), a.Name, strconv.FormatUint(a.JobVersion, 10), a.Desired.String(), a.Phase.String(), used.cpu(a), used.memory(a), strconv.Itoa(a.Restarts), f.ago(a.CreatedAt), addresses(a))
	}
	s.printTable(f, t)
	if sum := used.sum(allocs).text(); sum != "" {
		s.print(sum + "\n")
	}
	for _, note := range used.notes() {
		s.print(note + "\n")
	}
	return nil
}

func printNode(s *session, f moments, n *api.NodeView) {
	var b block
	b.add("ID", "%s", n.ID)
	b.add("Name", "%s", n.Name)
	b.add("Datacenter", "%s", n.Datacenter)
	b.add("Address", "%s", n.Address)
	b.add("Status", "%s", n.Status)
	b.addIf("Reason", n.StatusReason)
	b.add("Since", "%s", f.ago(n.StatusAt))
	b.add("Eligibility", "%s", eligibility(n))
	if !n.EligibilityAt.IsZero() {
		b.add("Eligibility Since", "%s", f.ago(n.EligibilityAt))
	}
	if n.Drain != nil {
		b.add("Drain", "%s", printable(drainText(n.Drain, f.now)))
	}
	b.add("Connected", "%v", n.Connected)
	b.add("Last Contact", "%s", f.ago(n.LastContact))
	b.add("Version", "%s", n.Version)
	b.add("Running", "%d", n.Running)
	s.print(b.render(s.style))

	s.section("Resources")
	t := newTable("", "Reserved", "Total", "In Use")
	load := n.Load
	if load == nil {
		load = &api.NodeLoad{}
	}
	measured := func(used, total int64, share func(used, total int64) string) string {
		if total == 0 {
			return ""
		}
		return share(used, total)
	}
	t.add("CPU", api.FormatCPU(n.Held.CPU), api.FormatCPU(n.Resources.CPU), measured(load.CPU, load.CPUTotal, cpuShare))
	t.add("Memory", api.FormatMiB(n.Held.Memory), api.FormatMiB(n.Resources.Memory), measured(load.Memory, load.MemoryTotal, mibShare))
	t.add("Disk", api.FormatMiB(n.Held.Disk), api.FormatMiB(n.Resources.Disk), measured(load.Disk, load.DiskTotal, mibShare))
	s.printTable(f, t)
	if n.Load != nil {
		fmt.Fprintf(s.Stdout, "\nLoad average %.2f over 1 min, %.2f over 5 min; up %s\n", load.Load1, load.Load5, duration(load.Uptime))
	}

	printDevices(s, f, n)
	printNodeVolumes(s, f, n)
	s.section("Drivers")
	t = newTable("Driver", "Detected", "Healthy", "Reason")
	for _, name := range sortedKeys(n.Drivers) {
		d := n.Drivers[name]
		t.add(name, strconv.FormatBool(d.Detected), strconv.FormatBool(d.Healthy), d.Reason)
	}
	s.print(t.render(s.style, 0)) // a reason is not shortened: it says what to do
	printPairs(s, "Attributes", n.Attributes)
	printPairs(s, "Meta", n.Meta)
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
