package command

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"

	"cube/api"
)

func newAllocStatus(m *Meta) *command {
	var read readFlags
	return &command{
		meta: m, name: "alloc status", args: "[allocation]", max: 1, predict: predictAllocations,
		synopsis: "Show instances, or one of them",
		prose: `Lists allocations: the instances of all tasks. With the ID of one, or the first characters of it, shows what it is to do, what it does, where, since when and why; what it uses of what is reserved for it; its addresses, devices, parts and checks, with what the latest probe of each found; and the other instances of its slot that are still known, newest first. Of one that fails the last lines of its output follow.

What it uses, its checks and its parts (sidecars, prestarts and poststops), its node is asked for: where the node does not answer, they are missing.`,
		example: "$ cube alloc status\n$ cube alloc status 3afe8858",
		flags:   read.declare,
		run: func(ctx context.Context, s *session, args []string) error {
			if err := read.check(); err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return listAllocations(ctx, s, cluster, &read)
			}
			measured := askUsage(ctx, cluster, api.UsageQuery{Allocations: args, Stale: read.stale})
			a, err := ask(ctx, s, &read, func(ctx context.Context, q api.Query) (*api.Allocation, api.ReadMeta, error) {
				return cluster.Allocation(ctx, args[0], q)
			})
			if err != nil {
				return failed(err, "reading allocation %q", args[0])
			}
			report := &allocationReport{Allocation: a, Others: othersOf(ctx, cluster, &read, a)}
			used := measured()
			if used.UsageReport != nil && len(used.Instances) == 1 {
				report.Usage = &used.Instances[0]
			}
			if done, err := read.emit(s, report); done {
				return err
			}
			printAllocation(s, read.moments(s), report, used)
			printTails(ctx, s, cluster, unwellOf([]*api.Allocation{a}, s.Now()))
			return nil
		},
	}
}

func listAllocations(ctx context.Context, s *session, cluster api.Cluster, read *readFlags) error {
	allocs, err := ask(ctx, s, read, cluster.ListAllocations)
	if err != nil {
		return failed(err, "listing the allocations")
	}
	if done, err := read.emit(s, allocs); done {
		return err
	}
	f := read.moments(s)
	t := newTable("ID", "Instance", "Node", "Version", "Desired", "Status", "Restarts", "Age")
	t.colourColumn(5, s.style.state)
	for _, a := range allocs {
		t.add(f.id(a.ID), a.Name, a.NodeName, strconv.FormatUint(a.JobVersion, 10), a.Desired.String(), a.Phase.String(), strconv.Itoa(a.Restarts), f.ago(a.CreatedAt))
	}
	s.printTable(f, t)
	return nil
}

// allocationReport is what -json and -t show of one allocation.
type allocationReport struct {
	*api.Allocation
	Usage  *api.InstanceUsage `json:",omitempty"`
	Others []*api.Allocation  `json:",omitempty"` // of its slot, newest first
}

// othersOf are the other allocations of a slot. Without them the status is of use, too: that they cannot be had is no
// failure.
func othersOf(ctx context.Context, cluster api.Cluster, read *readFlags, a *api.Allocation) []*api.Allocation {
	all, _, err := cluster.JobAllocations(ctx, a.Job, api.Query{Stale: read.stale})
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(all), func(o *api.Allocation) bool { return slotOf(o) != slotOf(a) || o.ID == a.ID })
}

func printAllocation(s *session, f moments, report *allocationReport, used usage) {
	a := report.Allocation
	var b block
	b.add("ID", "%s", a.ID)
	b.add("Instance", "%s", a.Name)
	b.add("Job", "%s", a.Job)
	b.add("Version", "%d", a.JobVersion)
	b.add("Task", "%s", a.Task)
	b.add("Node", "%s (%s)", a.NodeName, f.id(a.NodeID))
	b.add("Evaluation", "%s", f.id(a.Evaluation))
	b.add("Desired", "%s", a.Desired)
	b.addIf("Reason", a.DesiredReason)
	b.add("Status", "%s", a.Phase)
	if a.Phase == api.PhaseRunning {
		b.add("Health", "%s", a.Health)
	}
	b.addIf("Message", a.Message)
	if a.Away != nil {
		b.add("Away", "%s", a.Away.Text(a.NodeName))
	}
	b.add("Restarts", "%d", a.Restarts)
	if a.ExitCode != nil && !a.StartedAt.IsZero() { // what never started did not end either
		b.add("Last Exit", "%s", lastExit(a))
	}
	b.add("Reserved", "CPU %s, memory %s, disk %s", api.FormatCPU(a.Resources.CPU), api.FormatMiB(a.Resources.Memory), api.FormatMiB(a.Resources.Disk))
	if a.Phase == api.PhaseRunning {
		b.add("Used", "CPU %s, memory %s", used.cpu(a), used.memory(a))
	}
	b.addIf("Replaces", idIf(f, a.Replaces))
	b.addIf("Replaced By", idIf(f, a.ReplacedBy))
	b.add("Created", "%s", f.ago(a.CreatedAt))
	b.add("Started", "%s", f.ago(a.StartedAt))
	if !a.StartedAt.IsZero() {
		b.add("Finished", "%s", f.ago(a.FinishedAt))
	}
	s.print(b.render(s.style))
	printHeld(s, f, a)
	if report.Usage != nil {
		printChecks(s, report.Usage.Checks)
		printParts(s, f, report.Usage.Parts)
	}
	printOthers(s, f, a, report.Others)
	if a.Restarts > 0 {
		s.print("\n" + s.style.paint(faint, countOf(a.Restarts, "former run")+"; what is kept of their output shows 'cube alloc logs "+f.id(a.ID)+"'") + "\n")
	}
}

// printHeld shows an allocation's addresses and devices.
func printHeld(s *session, f moments, a *api.Allocation) {
	if len(a.Ports) > 0 {
		s.section("Addresses")
		t := newTable("Label", "Address", "To")
		for _, p := range a.Ports {
			t.add(p.Label, hostPort(a, p), strconv.Itoa(p.To))
		}
		s.printTable(f, t)
	}
	if len(a.Devices) > 0 {
		s.section("Devices")
		t := newTable("Type", "ID", "Share")
		t.whole = []string{"ID"}
		for _, d := range a.Devices {
			t.add(d.Type, d.ID, api.FormatShare(d.Share))
		}
		s.printTable(f, t)
	}
	printAllocVolumes(s, f, a)
}

// printChecks shows how the checks of an instance stand.
func printChecks(s *session, checks []api.CheckStatus) {
	if len(checks) == 0 {
		return
	}
	s.section("Checks")
	t := newTable("Check", "Type", "Every", "Status", "Last Probe")
	t.colourColumn(3, s.style.state)
	for _, c := range checks {
		found := c.Message
		if found == "" && c.Health != api.HealthUnknown {
			found = "passed"
		}
		t.add(c.Name, string(c.Type), c.Every.String(), c.Health.String(), found)
	}
	s.print(t.render(s.style, 0)) // what was found is not shortened: it says what to do
}

// printOthers shows the other instances of a slot, and why they ended.
func printOthers(s *session, f moments, a *api.Allocation, others []*api.Allocation) {
	if len(others) == 0 {
		return
	}
	s.section("Other instances of " + printable(a.Name))
	t := newTable("ID", "Node", "Version", "Desired", "Status", "Restarts", "Created", "Ended", "Message")
	t.colourColumn(4, s.style.state)
	for _, o := range others {
		why := o.Message
		if why == "" {
			why = o.DesiredReason
		}
		t.add(f.id(o.ID), o.NodeName, strconv.FormatUint(o.JobVersion, 10), o.Desired.String(), o.Phase.String(), strconv.Itoa(o.Restarts), f.ago(o.CreatedAt), f.ago(o.FinishedAt), why)
	}
	s.printTable(f, t)
}

// devices are what an instance holds, in one cell: "gpu=GPU-1f0e0c9a..." or "gpu=GPU-1f0e0c9a...(0.25)"; none once it is over.
func devices(f moments, a *api.Allocation) string {
	if a.Phase.Terminal() {
		return ""
	}
	var all []string
	for _, d := range a.Devices {
		id := d.ID
		if !f.verbose && len(id) > shownDevice {
			id = strings.ToValidUTF8(id[:shownDevice], "") + "..."
		}
		if d.Share != api.WholeDevice {
			id += "(" + api.FormatShare(d.Share) + ")"
		}
		all = append(all, d.Type+"="+id)
	}
	return strings.Join(all, ",")
}

// shownDevice is how much of a device's ID a list shows: enough to tell UUIDs such as GPU-1f0e0c9a-... apart.
const shownDevice = 12

func idIf(f moments, id string) string {
	if id == "" {
		return ""
	}
	return f.id(id)
}

// lastExit is how an instance ended last: "exit code 139 (SIGSEGV)". Which limit it ran into is said in its message: what is reserved
// is that of the instance with its sidecars.
func lastExit(a *api.Allocation) string {
	text := api.ExitText(*a.ExitCode, a.Signal)
	if a.OOM {
		text += ", for want of memory"
	}
	return text
}

func hostPort(a *api.Allocation, p api.PortBinding) string {
	return net.JoinHostPort(a.NodeAddress, strconv.Itoa(p.Host))
}

// addresses are where an instance is reached: one address bare, several with their labels, none once it is over.
func addresses(a *api.Allocation) string {
	if a.Phase.Terminal() {
		return ""
	}
	if len(a.Ports) == 1 {
		return hostPort(a, a.Ports[0])
	}
	var all []string
	for _, p := range a.Ports {
		all = append(all, p.Label+"="+hostPort(a, p))
	}
	return strings.Join(all, ",")
}
