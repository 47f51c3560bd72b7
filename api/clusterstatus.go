package api

// ClusterStatus is how a cluster is doing, in one answer.
type ClusterStatus struct {
	Cluster  string // ID
	Leader   string // name; "" for none
	Servers  []ServerStatus
	Voters   int
	Healthy  int // of the voters
	Spare    int // how many more of the healthy voters could be lost before nothing can be agreed on
	Nodes    NodeCounts
	Capacity Fill         // of the nodes that take instances
	Devices  []DeviceFill `json:",omitempty"` // by type
	Jobs     JobCounts
	Phases   PhaseCounts  // of all jobs' instances
	Blocked  []WaitingJob `json:",omitempty"` // the most urgent MaxBlocked
	More     int          `json:",omitempty"` // blocked jobs that are not listed
	Survival *Survival
	Index    uint64 // of the state
}

// MaxBlocked is how many blocked jobs a ClusterStatus lists.
const MaxBlocked = 10

// ServerStatus is one server of the Raft configuration.
type ServerStatus struct {
	ID, Name string
	Address  string // of Raft and sessions
	Version  string `json:",omitempty"`
	Voter    bool
	Leader   bool
	Healthy  bool   // it answers, and knows the leader
	Trouble  string `json:",omitempty"` // why not
	Index    uint64 // applied
	Behind   uint64 // entries that the state of this answer has and it had not applied yet
}

// NodeCounts counts nodes.
type NodeCounts struct {
	Total        int
	Ready        int // and eligible
	Ineligible   int // ready otherwise
	Initializing int
	Down         int
	Disconnected int // ready or ineligible, and without a session; only the leader knows
}

// JobCounts counts jobs by status.
type JobCounts struct {
	Total, Running, Pending, Degraded, Failed, Complete, Stopped int
	Waiting                                                      int `json:",omitzero"` // to launch others
}

// DeviceFill is what is held of the devices of one type, on nodes that take instances, in thousandths of a device.
type DeviceFill struct {
	Type        string
	Held, Total int
}

// WaitingJob is a job that waits for something, and for what.
type WaitingJob struct {
	Name string
	Why  string // one line
}
