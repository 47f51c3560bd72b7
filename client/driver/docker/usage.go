package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"

	"cube/api"
	"cube/client/driver"
	"cube/client/driver/cgroup"
)

func (d *Driver) notRunning(h driver.Handle) error {
	return api.Errorf(api.CodeConflict, "instance %s does not run", d.text.Format(h.Key.Allocation))
}

// Usage counts what a container uses; see driver.Driver. The counters are read from the container's control group: the
// engine itself collects them once a second, and who asks it waits for the next time. Where the group cannot be seen from
// here, of an engine on another machine, it is asked all the same.
func (d *Driver) Usage(ctx context.Context, h driver.Handle) (driver.Usage, error) {
	if err := d.meet(ctx); err != nil {
		return driver.Usage{}, err
	}
	full, err := d.inspect(ctx, h.Data)
	if gone(err) || err == nil && !full.State.Running {
		return driver.Usage{}, d.notRunning(h)
	}
	if err != nil {
		return driver.Usage{}, fmt.Errorf("ask for the container %.12s: %w", h.Data, err)
	}
	g, ok := cgroup.Of(fmt.Sprintf("/proc/%d/cgroup", full.State.Pid), cgroup.Root)
	if ok && strings.Contains(g.Memory, full.ID) && strings.Contains(g.CPU, full.ID) { // the process is that of this machine
		if u, ok := g.Usage(); ok {
			return u, nil
		}
	}
	return d.collected(ctx, h)
}

// collected asks the engine.
func (d *Driver) collected(ctx context.Context, h driver.Handle) (driver.Usage, error) {
	ctx, cancel := d.within(ctx)
	defer cancel()
	answer, err := d.engine.ContainerStatsOneShot(ctx, h.Data)
	if gone(err) {
		return driver.Usage{}, d.notRunning(h)
	}
	if err != nil {
		return driver.Usage{}, fmt.Errorf("ask what the container %.12s uses: %w", h.Data, err)
	}
	defer answer.Body.Close()
	var s container.StatsResponse
	if err := json.NewDecoder(answer.Body).Decode(&s); err != nil {
		return driver.Usage{}, fmt.Errorf("read what the container %.12s uses: %w", h.Data, err)
	}
	if s.Read.IsZero() || s.MemoryStats.Usage == 0 {
		return driver.Usage{}, d.notRunning(h) // of a container that has ended the engine counts nothing
	}
	files, ok := s.MemoryStats.Stats["total_inactive_file"] // version 1
	if !ok {
		files = s.MemoryStats.Stats["inactive_file"]
	}
	return driver.Usage{
		CPU: time.Duration(s.CPUStats.CPUUsage.TotalUsage), Memory: int64(s.MemoryStats.Usage - min(files, s.MemoryStats.Usage)), At: s.Read,
	}, nil
}
