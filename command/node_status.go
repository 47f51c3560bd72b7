package command

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"cube/api"
)

func newNodeStatus(m *Meta) *command {
	var read readFlags
	var self bool
	return &command{
		meta: m, name: "node status", args: "[node]", max: 1, predict: predictNodes,
		synopsis: "Show the nodes, or one of them",
		prose: `Lists the machines that run tasks, with the CPU, memory and disk that instances have reserved of what there is, and when a server last heard of each. Under the list stands what keeps a node from doing its work, such as a Docker engine that does not answer, or who took it out of use and why.

With a node's ID (or the first characters of it) or its name, shows that node: what is reserved of what it has, what its instances and the whole machine use of that, its instances, devices with what is held of each, volumes, drivers, attributes, which constraints can ask for, how a drain gets on, and what the server that was asked remembers of what happened there, and who did it. -self is the node that the agent which is asked runs.

With -verbose instances that are over and all attributes are listed, too.`,
		example: "$ cube node status\n$ cube node status 5e7e850c\n$ cube node status -self",
		flags: func(f *flag.FlagSet) {
			read.declare(f)
			f.BoolVar(&self, "self", false, "Show the node that the agent which is asked runs.")
		},
		run: func(ctx context.Context, s *session, args []string) error {
			if err := read.check(); err != nil {
				return err
			}
			if self && len(args) > 0 {
				return failed(errors.New("-self and the name of a node exclude each other"), "reading the arguments")
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			if self {
				id, err := selfNode(ctx, cluster)
				if err != nil {
					return failed(err, "asking the agent which node it runs")
				}
				args = []string{id}
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
			mibShare(n.Held.Memory, n.Resources.Memory), mibShare(n.Held.Disk, n.Resources.Disk), runningOn(n), n.Version, f.ago(n.LastContact))
		switch {
		case n.Drain != nil:
			notes = append(notes, printable(n.Name+": "+drainText(n.Drain, f.now)))
		case n.Ineligible && n.EligibilityBy+n.EligibilityReason != "":
			notes = append(notes, printable(n.Name+": "+eligibilityText(f, n)))
		}
		for _, trouble := range troubles(n) {
			notes = append(notes, printable(n.Name+": "+trouble))
		}
	}
	s.printTable(f, t)
	if len(nodes) > 1 {
		s.print("\n" + nodesSummary(nodes) + "\n")
	}
	if len(notes) > 0 {
		s.print("\n")
	}
	for _, note := range notes {
		s.print(note + "\n")
	}
}

// runningOn is how many instances run of those that the node has: "3/4".
func runningOn(n *api.NodeView) string { return fmt.Sprintf("%d/%d", n.Running, n.Allocations) }

// nodesSummary adds up a list of nodes: "5 nodes: 4 ready, 1 down; reserved: CPU 3/10, memory 12/40 GiB". What is reserved, and
// of what, is that of the nodes that are not down.
func nodesSummary(nodes []*api.NodeView) string {
	var c api.NodeCounts
	var held, total api.Resources
	for _, n := range nodes {
		switch {
		case n.Status == api.NodeDown:
			c.Down++
			continue
		case n.Status == api.NodeInitializing:
			c.Initializing++
		case n.Ready():
			c.Ready++
		default:
			c.Ineligible++
		}
		held, total = held.Add(n.Held), total.Add(n.Resources)
	}
	return fmt.Sprintf("%s: %s; reserved: CPU %s, memory %s", countOf(len(nodes), "node"), nodesLine(&c), cpuShare(held.CPU, total.CPU), mibShare(held.Memory, total.Memory))
}

// selfNode returns the ID of the node that the agent which is asked runs.
func selfNode(ctx context.Context, cluster api.Cluster) (string, error) {
	health, err := cluster.Health(ctx)
	switch {
	case err != nil:
		return "", err
	case health.Node == "":
		return "", errors.New("it runs none: it is a server without a client; give a node of 'cube node status'")
	}
	return health.Node, nil
}
