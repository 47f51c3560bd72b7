package command

import (
	"context"
	"net"
	"strconv"

	"cube/api"
)

func newServerMembers(m *Meta) *command {
	var read readFlags
	return &command{
		meta: m, name: "server members",
		synopsis: "List the agents of the cluster",
		prose:    "Lists the agents that know of each other by gossip, servers and clients. The address is that of gossip, which is what -join takes. Works without a leader.",
		example:  "$ cube server members",
		flags:    read.declare,
		run: func(ctx context.Context, s *session, _ []string) error {
			if err := read.check(); err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			members, err := cluster.Members(ctx)
			if err != nil {
				return failed(err, "listing the members")
			}
			if done, err := read.emit(s, members); done {
				return err
			}
			printMembers(s, read.moments(s), members)
			return nil
		},
	}
}

func printMembers(s *session, f moments, members []api.Member) {
	t := newTable("Name", "Address", "Port", "Role", "Status", "Leader", "Version", "Datacenter")
	t.colourColumn(4, s.style.state)
	t.whole, t.spare = []string{"Address"}, []string{"Version"}
	for _, m := range members {
		host, port, err := net.SplitHostPort(m.GossipAddr)
		if err != nil {
			host = m.GossipAddr
		}
		leader := ""
		if m.Role == api.RoleServer {
			leader = strconv.FormatBool(m.Leader)
		}
		t.add(m.Name, host, port, string(m.Role), string(m.Status), leader, m.Version, m.Datacenter)
	}
	s.printTable(f, t)
}
