package command

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"cube/api"
)

func newClusterStatus(m *Meta) *command {
	var read readFlags
	return &command{
		meta: m, name: "cluster status",
		synopsis: "Show how the cluster is doing",
		prose: `Shows the servers and how many of them could be lost, the machines, the jobs, what is reserved of what there is, what is blocked and why, and whether everything that runs would find a place if any one machine went.

For the last, each machine's loss is simulated with the real scheduler where it is not plain from the free room that everything would fit. In a cluster that is both large and full only the fullest machines are looked at, and the answer may be that it is not known. 'cube sim node-down' says what would become of one of them.`,
		example: "$ cube cluster status",
		flags:   read.declare,
		run: reading(&read, "reading the cluster's status", func(ctx context.Context, s *session, c api.Cluster, _ []string) (*api.ClusterStatus, error) {
			return ask(ctx, s, &read, c.ClusterStatus)
		}, printCluster),
	}
}

func printCluster(s *session, f moments, c *api.ClusterStatus) {
	var b block
	b.add("Cluster", "%s", c.Cluster)
	b.add("Leader", "%s", c.Leader)
	b.add("Servers", "%s", serversLine(c))
	b.add("Nodes", "%s", nodesLine(&c.Nodes))
	b.add("Jobs", "%s", counts([]counted{{c.Jobs.Running, "running"}, {c.Jobs.Pending, "pending"}, {c.Jobs.Degraded, "degraded"},
		{c.Jobs.Failed, "failed"}, {c.Jobs.Complete, "complete"}, {c.Jobs.Waiting, "waiting"}, {c.Jobs.Stopped, "stopped"}}))
	b.add("Instances", "%s", counts([]counted{{c.Phases.Running, "running"}, {c.Phases.Preparing + c.Phases.Pending, "starting"},
		{c.Phases.Queued, "without a place"}, {c.Phases.Failed, "failed"}}))
	s.print(b.render(s.style))
	if c.Survival != nil {
		paint := yellow
		switch c.Survival.Survives {
		case api.SurvivesYes:
			paint = green
		case api.SurvivesNo:
			paint = red
		}
		s.print("\nSurvives the loss of any one node: " + s.style.paint(paint, printable(c.Survival.Line())) + "\n")
	}
	printReserved(s, f, c)
	printServers(s, f, c)
	printBlocked(s, c)
}

func printReserved(s *session, f moments, c *api.ClusterStatus) {
	s.section("Reserved")
	t := newTable("", "Held", "Total", "Part")
	t.blank = "-"
	held, total := c.Capacity.Held, c.Capacity.Total
	t.add("CPU", api.FormatCPU(held.CPU), api.FormatCPU(total.CPU), percent(held.CPU, total.CPU))
	t.add("Memory", api.FormatMiB(held.Memory), api.FormatMiB(total.Memory), percent(held.Memory, total.Memory))
	t.add("Disk", api.FormatMiB(held.Disk), api.FormatMiB(total.Disk), percent(held.Disk, total.Disk))
	for _, d := range c.Devices {
		t.add(d.Type, api.FormatShare(d.Held), api.FormatShare(d.Total), percent(int64(d.Held), int64(d.Total)))
	}
	s.printTable(f, t)
}

func printServers(s *session, f moments, c *api.ClusterStatus) {
	s.section("Servers")
	t := newTable("Name", "Address", "Voter", "Leader", "Status", "Behind", "Version")
	t.colourColumn(4, s.style.state)
	t.whole, t.spare = []string{"Address"}, []string{"Version"}
	t.blank = "-"
	for i := range c.Servers {
		of := &c.Servers[i]
		status, behind := "healthy", strconv.FormatUint(of.Behind, 10)
		if !of.Healthy {
			status = "unhealthy"
		}
		if of.Index == 0 {
			behind = ""
		}
		t.add(of.Name, of.Address, strconv.FormatBool(of.Voter), strconv.FormatBool(of.Leader), status, behind, of.Version)
	}
	s.printTable(f, t)
	for i := range c.Servers {
		if of := &c.Servers[i]; of.Trouble != "" {
			s.print(printable(of.Name+": "+of.Trouble) + "\n")
		}
	}
}

func printBlocked(s *session, c *api.ClusterStatus) {
	if len(c.Blocked) == 0 {
		return
	}
	s.section("Blocked")
	for _, j := range c.Blocked {
		why := j.Why
		if !strings.HasPrefix(why, j.Name) {
			why = j.Name + ": " + why
		}
		s.print(s.style.paint(yellow, printable(why)) + "\n")
	}
	if c.More > 0 {
		s.print(fmt.Sprintf("and %s; see 'cube status'\n", countOf(c.More, "more job")))
	}
}

// serversLine says how many of the voters are well, and how many could be lost.
func serversLine(c *api.ClusterStatus) string {
	line := fmt.Sprintf("%d of %s healthy; ", c.Healthy, countOf(c.Voters, "voter"))
	switch {
	case c.Voters == 1:
		line += "it is the only one, and cannot be lost"
	case c.Spare == 0 && c.Healthy > c.Voters/2:
		line += "none of them can be lost"
	case c.Spare == 0:
		line += "no majority: nothing can be changed"
	default:
		line += fmt.Sprintf("survives the loss of %d of %d servers", c.Spare, c.Voters)
	}
	if learners := len(c.Servers) - c.Voters; learners > 0 {
		line += fmt.Sprintf("; %d not voting yet", learners)
	}
	return line
}

func nodesLine(n *api.NodeCounts) string {
	line := counts([]counted{{n.Ready, "ready"}, {n.Ineligible, "ineligible"}, {n.Initializing, "initializing"}, {n.Down, "down"}})
	if n.Disconnected > 0 {
		line += fmt.Sprintf("; %d without a connection", n.Disconnected)
	}
	return line
}

type counted struct {
	n    int
	what string
}

// counts lists what there is any of: "3 running, 1 pending".
func counts(of []counted) string {
	var parts []string
	for _, c := range of {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
