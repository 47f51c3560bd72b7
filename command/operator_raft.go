package command

import (
	"context"
	"flag"
	"fmt"
	"strconv"

	"cube/api"
)

func newRaftListPeers(m *Meta) *command {
	var read readFlags
	return &command{
		meta: m, name: "operator raft list-peers",
		synopsis: "List the servers that agree through Raft",
		prose:    "Lists the servers of the Raft configuration: who leads, who votes, and when each was last heard of. Works without a leader.",
		example:  "$ cube operator raft list-peers",
		flags:    read.declare,
		run: reading(&read, "listing the Raft peers", func(ctx context.Context, _ *session, c api.Cluster, _ []string) ([]api.RaftPeer, error) {
			return c.RaftPeers(ctx)
		}, printPeers),
	}
}

func printPeers(s *session, f moments, peers []api.RaftPeer) {
	t := newTable("Name", "ID", "Address", "State", "Voter", "Last Seen")
	t.whole = []string{"Address"}
	for _, p := range peers {
		state := "follower"
		if p.Leader {
			state = "leader"
		}
		t.add(p.Name, f.id(p.ID), p.Address, state, strconv.FormatBool(p.Voter), p.LastSeen)
	}
	s.printTable(f, t)
}

func newRaftRemovePeer(m *Meta) *command {
	return &command{
		meta: m, name: "operator raft remove-peer", args: "<server>", min: 1, max: 1, predict: predictPeers,
		synopsis: "Remove a dead server from the voters",
		prose:    "Removes a server that is gone for good from the Raft configuration, so that it no longer counts for a majority. Takes its ID, or the first characters of it, or its name. A server that lives is better told to leave: 'cube server leave'.",
		example:  "$ cube operator raft remove-peer 8c1d22e0",
		run: func(ctx context.Context, s *session, args []string) error {
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			peers, err := cluster.RaftPeers(ctx)
			if err != nil {
				return failed(err, "listing the Raft peers")
			}
			id, err := resolvePeer(peers, args[0])
			if err != nil {
				return failed(err, "removing server %q", args[0])
			}
			_, err = write(ctx, s, func(ctx context.Context, w api.WriteMeta) (struct{}, error) {
				return struct{}{}, cluster.RemovePeer(ctx, id, w)
			})
			if err != nil {
				return failed(err, "removing server %q", args[0])
			}
			fmt.Fprintf(s.Stdout, "Server %s no longer votes\n", printable(id))
			return nil
		},
	}
}

// resolvePeer finds the one server that typed means: a whole ID first, then a prefix of an ID or a name.
func resolvePeer(peers []api.RaftPeer, typed string) (string, error) {
	var found []string
	for _, p := range peers {
		if p.ID == typed {
			return p.ID, nil
		}
		if p.Name == typed || len(typed) < len(p.ID) && p.ID[:len(typed)] == typed {
			found = append(found, p.ID)
		}
	}
	switch len(found) {
	case 0:
		return "", api.Errorf(api.CodeNotFound, "no server of the Raft configuration has this ID or name; see 'cube operator raft list-peers'")
	case 1:
		return found[0], nil
	}
	return "", api.Errorf(api.CodeAmbiguous, "%d servers are meant by it; give a whole ID of 'cube operator raft list-peers -verbose'", len(found))
}

func newRaftRecover(m *Meta) *command {
	var dataDir string
	var yes bool
	return &command{
		meta: m, name: "operator raft recover", offline: true, reads: true,
		synopsis: "Make a stopped server the only voter",
		prose: `For the day when most servers are lost for good. Stop the one server that is to carry on, run this on its machine, start it again, and let new servers join it. What the lost servers had agreed on and this one had not yet heard of is gone.

It works on the files of a stopped agent and asks nobody.`,
		example: "$ cube operator raft recover -data-dir /var/lib/cube",
		flags: func(f *flag.FlagSet) {
			f.StringVar(&dataDir, "data-dir", "", "The `directory` of the agent's data. Default: where an agent keeps it when it is not told otherwise.")
			f.BoolVar(&yes, "yes", false, "Do not ask.")
		},
		run: func(_ context.Context, s *session, _ []string) error {
			if err := s.confirm(yes, "Are all other servers of this cluster lost for good?"); err != nil {
				return failed(err, "recovering the server")
			}
			done, err := s.Recover(dataDir)
			if err != nil {
				return failed(err, "recovering the server")
			}
			fmt.Fprintln(s.Stdout, printableLines(done))
			return nil
		},
	}
}
