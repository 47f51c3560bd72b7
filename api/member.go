package api

// Role is what an agent does.
type Role string

const (
	RoleServer Role = "server"
	RoleClient Role = "client"
)

// MemberStatus is what gossip believes.
type MemberStatus string

const (
	MemberAlive  MemberStatus = "alive"
	MemberFailed MemberStatus = "failed"
	MemberLeft   MemberStatus = "left"
)

// Member is an agent as gossip knows it. Gossip is a hint: nothing is stopped or removed on its word alone.
type Member struct {
	ID         string // of the role: a server's Raft ID or a client's node ID
	NodeID     string // of the client in the same agent, where a server has one; a client's own ID
	Name       string // what people see
	Role       Role
	Status     MemberStatus
	Datacenter string
	Version    string
	GossipAddr string // host:port
	RPCAddr    string // host:port of sessions and Raft; servers only
	HTTPAddr   string
	ClusterID  string // "" until it is known
	HasState   bool   // servers: it has Raft state
	Expect     int    // servers: its -bootstrap-expect
	Leader     bool   `json:",omitempty"` // filled in by the server that answers
	Voter      bool   `json:",omitempty"` // likewise
}

// MemberEvent says that a member joined, failed, left or changed what it says of itself; Member.Status tells which.
type MemberEvent struct{ Member Member }

// RaftPeer is a server in the Raft configuration.
type RaftPeer struct {
	ID       string
	Name     string
	Address  string
	Leader   bool
	Voter    bool
	LastSeen string // for people
}

// Leader names the leading server.
type Leader struct {
	ID      string
	Name    string
	Address string
}

// Health is what /v1/health answers. An agent that can do its work answers 200.
type Health struct {
	Role    Role
	Leader  string // the leading server's name as this agent knows it; "" for none
	Leading bool   // this agent leads
	Index   uint64 // applied
	Version string
	Cluster string
	Node    string `json:",omitempty"` // ID of the node that this agent runs; "" if it runs none
}
