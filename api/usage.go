package api

import (
	"context"
	"time"
)

// Usage is what an instance uses, measured by its node when somebody asks. It is never stored and never replicated.
type Usage struct {
	CPU    int64     // thousandths of a core, the mean over some time that ends At: 0.2 s, or since somebody asked before
	Memory int64     // MiB, rounded up, without the copies of files that the kernel gives up when memory is short
	At     time.Time // the node's clock
}

// CheckStatus is how a check of a running instance stands.
type CheckStatus struct {
	Name    string
	Type    CheckType
	Every   time.Duration // between two probes
	Health  HealthStatus
	Message string `json:",omitempty"` // what the latest probe found wrong
}

// AllocationUsage is what one allocation uses, with its parts, as its node tells it, and how its checks and parts stand. Where it
// has some and cannot be measured, its use has the zero time.
type AllocationUsage struct {
	ID ID
	Usage
	Checks []CheckStatus
	Parts  []PartStatus // of its task, in the order of the task
}

// UsageQuery says whose use is asked for: that of all running instances of these jobs and nodes, and of these allocations.
type UsageQuery struct {
	Jobs        []string
	Nodes       []string // IDs or unique prefixes
	Allocations []string // likewise
	// Stale lets any server answer, for the nodes that have their sessions with it.
	Stale bool
}

// MaxUsage bounds how many instances one answer measures: each costs its node a look, and no screen shows more.
const MaxUsage = 1000

// UsageReport is what instances use, as far as their nodes told it in time. One that does not run and has no parts, or
// that cannot be measured and has neither checks nor parts, is not in it.
type UsageReport struct {
	Instances []InstanceUsage // by allocation ID
	Silent    []SilentNode    `json:",omitempty"` // nodes that did not tell, by name
	Omitted   int             `json:",omitempty"` // instances beyond MaxUsage, which were not measured
}

// InstanceUsage is what one instance uses, beside what is reserved for it.
type InstanceUsage struct {
	Allocation string // ID
	Name       string // web[0]
	Job        string
	Task       string
	NodeID     string
	Usage
	Reserved Resources
	Checks   []CheckStatus `json:",omitempty"` // in the order of the task file
	Parts    []PartStatus  `json:",omitempty"` // of its task; its use is theirs, too
}

// SilentNode is a node that did not tell what its instances use.
type SilentNode struct {
	ID     string
	Name   string
	Reason string
}

// Measures tells what instances use. It asks their nodes, and waits for each no longer than 2.5 seconds.
type Measures interface {
	Usage(ctx context.Context, q UsageQuery) (*UsageReport, error)
}
