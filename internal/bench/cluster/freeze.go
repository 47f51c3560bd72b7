package cluster

import (
	"fmt"
	"syscall"
)

// Freeze stops a server's process where it stands: it answers nothing any more, but its connections stay open and its ports
// taken, as those of a machine that is gone. Kill ends it.
func (c *Cluster) Freeze(i int) error {
	s := c.servers[i]
	if s.process == nil {
		return fmt.Errorf("server %s is down", s.name)
	}
	if err := syscall.Kill(s.process.PID(), syscall.SIGSTOP); err != nil {
		return fmt.Errorf("freeze server %s: %w", s.name, err)
	}
	return nil
}
