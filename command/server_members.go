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
		run: reading(&read, "listing the members", func(ctx context.Context, _ *session, c api.Cluster, _ []string) ([]api.Member, error) {
			return c.Members(ctx)
		}, printMembers),
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
