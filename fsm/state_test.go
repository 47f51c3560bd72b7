package fsm_test

import (
	"cube/fsm"
	"cube/scheduler"
)

// A snapshot is what the scheduler plans on.
var _ scheduler.State = (*fsm.Snapshot)(nil)
