package agent

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/metrics"
	"strconv"

	"cube/internal/version"
)

// metrics serves what this agent counts in Prometheus' text format (version 0.0.4). It is a page of gauges and counters
// read on demand; nothing is collected in between.
func (a *Agent) metrics() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		p := &prometheus{w}
		p.gauge("cube_build_info", "1, with the version as a label.", `{version="`+version.Number+`"}`, 1)
		if a.server != nil {
			a.serverMetrics(p)
		}
		if a.client != nil {
			_, connected := a.client.Current()
			p.gauge("cube_client_connected", "1 while the client has a session with a server.", "", truth(connected))
		}
		p.gauge("go_goroutines", "Goroutines.", "", float64(runtime.NumGoroutine()))
		heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/total:bytes"}}
		metrics.Read(heap)
		p.gauge("go_heap_objects_bytes", "Memory held by live and not yet collected objects.", "", float64(heap[0].Value.Uint64()))
		p.gauge("go_memory_total_bytes", "Memory mapped by the Go runtime.", "", float64(heap[1].Value.Uint64()))
	})
}

func (a *Agent) serverMetrics(p *prometheus) {
	m := a.server.Metrics()
	p.gauge("cube_raft_applied_index", "Index of the last log entry applied here.", "", float64(m.AppliedIndex))
	p.gauge("cube_raft_commit_index", "Index of the last log entry known to be committed.", "", float64(m.CommitIndex))
	p.gauge("cube_raft_last_index", "Index of the last log entry stored here.", "", float64(m.LastIndex))
	p.gauge("cube_raft_term", "Raft's term.", "", float64(m.Term))
	p.gauge("cube_raft_servers", "Servers in the Raft configuration.", "", float64(m.Servers))
	p.gauge("cube_server_leading", "1 while this server leads.", "", truth(m.Leading))
	p.gauge("cube_server_leader_known", "1 while this server knows a leader.", "", truth(m.LeaderKnown))
	p.gauge("cube_server_sessions", "Nodes with a session with this server.", "", float64(m.Sessions))
	p.counter("cube_plans_total", "Plans committed by this server as leader.", float64(m.Plans))
	p.counter("cube_plan_seconds_total", "Time spent planning and committing.", m.PlanTime.Seconds())
	p.counter("cube_placements_total", "Placements accepted.", float64(m.Placements))
	p.counter("cube_rejections_total", "Placements rejected at commit.", float64(m.Rejections))
	p.counter("cube_reports_total", "Reports of nodes.", float64(m.Reports))
	p.counter("cube_report_entries_total", "Log entries that carried them.", float64(m.ReportEntries))
	p.counter("cube_snapshots_total", "Snapshots taken.", float64(m.Snapshots))
	p.counter("cube_snapshot_seconds_total", "Time spent on them.", m.SnapshotTime.Seconds())
}

// prometheus writes samples. Errors are the reader's: it has gone.
type prometheus struct{ w io.Writer }

func (p *prometheus) gauge(name, help, labels string, v float64) {
	p.write(name, help, "gauge", labels, v)
}
func (p *prometheus) counter(name, help string, v float64) { p.write(name, help, "counter", "", v) }

func (p *prometheus) write(name, help, kind, labels string, v float64) {
	fmt.Fprintf(p.w, "# HELP %s %s\n# TYPE %s %s\n%s%s %s\n", name, help, name, kind, name, labels, strconv.FormatFloat(v, 'g', -1, 64))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
