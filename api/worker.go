package api

import (
	"context"
	"io"
)

// Worker is what servers ask of a node, over the session that the node keeps open.
type Worker interface {
	// Ping answers at once; it proves that the process behind the session lives.
	Ping(ctx context.Context) error
	Logs(ctx context.Context, allocation ID, r LogRequest) (io.ReadCloser, error)
	// Exec runs a command; see Allocations.
	Exec(ctx context.Context, allocation ID, r ExecRequest) (io.ReadWriteCloser, error)
	// Stats measures the machine now.
	Stats(ctx context.Context) (*NodeLoad, error)
	// Usage measures these instances and says how their checks stand. Those that do not run here, and those that cannot be
	// measured and have no checks, are left out of the answer.
	Usage(ctx context.Context, allocations []ID) ([]AllocationUsage, error)
	// Estate streams the sticky directory of an allocation that has ended there, or removes it, with taken; then what it returns
	// is nil. See Estates.
	Estate(ctx context.Context, allocation ID, taken bool) (io.ReadCloser, error)
	// Volume takes one step of making or removing a volume of the node.
	Volume(ctx context.Context, c VolumeChange) (*VolumeDone, error)
}
