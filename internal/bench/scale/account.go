package scale

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"cube/internal/bench/process"
	"cube/internal/bench/result"
)

// reading is what everybody has used until some moment.
type reading struct {
	at      time.Time
	servers []process.Usage
	metrics []map[string]float64
	fleet   process.Usage // of all fleets
	live    uint64        // bytes of the fleets, as of their last collections
	self    process.Usage
}

func (s *stage) read(ctx context.Context) (r reading, err error) {
	r.at = time.Now()
	for i := range s.c.Size() {
		u, err := s.c.Usage(i)
		if err != nil {
			return r, err
		}
		m, err := s.c.Metrics(ctx, i)
		if err != nil {
			return r, err
		}
		r.servers, r.metrics = append(r.servers, u), append(r.metrics, m)
	}
	for _, f := range s.fleets {
		u, err := f.Usage()
		if err != nil {
			return r, err
		}
		live, err := f.Live()
		if err != nil {
			return r, err
		}
		r.live += live
		r.fleet.CPU, r.fleet.RSS, r.fleet.PeakRSS = r.fleet.CPU+u.CPU, r.fleet.RSS+u.RSS, r.fleet.PeakRSS+u.PeakRSS
	}
	r.self, err = process.ReadUsage(os.Getpid())
	return r, err
}

const gib = 1 << 30

// account adds what a phase took: who used how much of the processors, memory and disk.
func (s *stage) account(ctx context.Context, r *result.Result, before, after reading, instances int) error {
	r.AtMost("elections during the run", after.metrics[s.leader]["cube_raft_term"]-before.metrics[s.leader]["cube_raft_term"], "", 0)
	if now, ok := s.c.Leader(ctx); !ok || now != s.leader {
		r.Note("the leader changed during the run: figures of the leader are those of the first one")
	}
	var followers, followersPeak float64
	for i := range after.servers {
		cpu := (after.servers[i].CPU - before.servers[i].CPU).Seconds()
		if i == s.leader {
			r.Add("CPU of the leader", cpu, "s")
			continue
		}
		followers, followersPeak = followers+cpu, max(followersPeak, float64(after.servers[i].PeakRSS)/gib)
	}
	if n := len(after.servers) - 1; n > 0 {
		r.Add("CPU of a follower, mean", followers/float64(n), "s")
	}
	r.Add("CPU of the simulated nodes", (after.fleet.CPU - before.fleet.CPU).Seconds(), "s")
	r.Add("CPU of submitting and following", (after.self.CPU - before.self.CPU).Seconds(), "s")
	r.Add("peak RSS of a follower, largest", followersPeak, "GiB")
	r.Add("peak RSS of the simulated nodes", float64(after.fleet.PeakRSS)/gib, "GiB")
	more := func(name string) float64 { return after.metrics[s.leader][name] - before.metrics[s.leader][name] }
	r.Add("GC of the leader: processor time", more("go_gc_cpu_seconds_total"), "s")
	r.Add("GC of the leader: pauses, in all", more("go_gc_pause_seconds_total")*1000, "ms")
	r.Add("GC of the leader: cycles", more("go_gc_cycles_total"), "")
	r.Add("plans", more("cube_plans_total"), "")
	r.Add("placements rejected at commit", more("cube_rejections_total"), "")
	r.Add("reports of nodes", more("cube_reports_total"), "")
	r.Add("log entries that carried them", more("cube_report_entries_total"), "")
	if instances == 0 {
		return nil
	}
	log, _, err := s.c.Disk(s.leader)
	if err != nil {
		return err
	}
	r.Add("log on disk an instance", float64(log)/float64(instances), "B")
	snapshot, err := s.snapshotBytes(ctx)
	if err != nil {
		return err
	}
	r.Add("snapshot an instance", float64(snapshot)/float64(instances), "B")
	return nil
}

// leaderMemory is the most that the leader had in memory, in GiB.
func (s *stage) leaderMemory(after reading) float64 {
	return float64(after.servers[s.leader].PeakRSS) / gib
}

// snapshotBytes is how large a snapshot of the state is now.
func (s *stage) snapshotBytes(ctx context.Context) (int64, error) {
	body, err := s.people.SaveSnapshot(ctx)
	if err != nil {
		return 0, fmt.Errorf("save a snapshot to know its size: %w", err)
	}
	defer body.Close()
	n, err := io.Copy(io.Discard, body)
	if err != nil {
		return 0, fmt.Errorf("save a snapshot to know its size: %w", err)
	}
	return n, nil
}

// weigh adds what a simulated node and an instance weigh, from the fleet's memory before and after. The targets are the
// simulator's own: more, and a million instances do not fit beside the servers.
func (s *stage) weigh(r *result.Result, empty, full fleetWeight) {
	perNode := float64(empty.Bytes) / float64(empty.Nodes)
	r.AtMost("an empty simulated node", perNode/1024, "KiB", 100)
	r.Add("goroutines of an empty node", float64(empty.Goroutines)/float64(empty.Nodes), "")
	if full.Running > 0 {
		r.AtMost("an instance on it", float64(full.Bytes-empty.Bytes)/float64(full.Running), "B", 2048)
		r.Add("goroutines of a node with instances", float64(full.Goroutines)/float64(full.Nodes), "")
	}
}

// fleetWeight is the sum of what all fleets weigh.
type fleetWeight struct {
	Bytes                      int64
	Nodes, Goroutines, Running int
}

func (s *stage) weight() (w fleetWeight, err error) {
	for _, f := range s.fleets {
		st, err := f.Stats()
		if err != nil {
			return w, err
		}
		w.Bytes, w.Nodes, w.Goroutines, w.Running = w.Bytes+st.Bytes, w.Nodes+st.Nodes, w.Goroutines+st.Goroutines, w.Running+st.Running
	}
	return w, nil
}

// hold weighs the fleets and makes sure that they hold what the servers say: so many running instances.
func (s *stage) hold(running int) (fleetWeight, error) {
	w, err := s.weight()
	if err == nil && w.Running != running {
		err = fmt.Errorf("%d instances run on the nodes where the servers have %d", w.Running, running)
	}
	return w, err
}

// percentile of durations in a unit; 0 when there are none.
func percentile(d []time.Duration, p float64, unit time.Duration) float64 {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return float64(s[int(float64(len(s)-1)*p/100)]) / float64(unit)
}
