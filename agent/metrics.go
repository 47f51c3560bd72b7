package agent

import (
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"

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
		runtimeMetrics(p)
	})
}

func runtimeMetrics(p *prometheus) {
	p.gauge("go_goroutines", "Goroutines.", "", float64(runtime.NumGoroutine()))
	s := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/total:bytes"},
		{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/user:cpu-seconds"},
		{Name: "/gc/heap/live:bytes"},
	}
	metrics.Read(s)
	p.gauge("go_heap_objects_bytes", "Memory held by live and not yet collected objects.", "", float64(s[0].Value.Uint64()))
	p.gauge("go_heap_live_bytes", "Memory that the last garbage collection found in use.", "", float64(s[5].Value.Uint64()))
	p.gauge("go_memory_total_bytes", "Memory mapped by the Go runtime.", "", float64(s[1].Value.Uint64()))
	p.counter("go_gc_cycles_total", "Garbage collections.", float64(s[2].Value.Uint64()))
	p.counter("go_gc_cpu_seconds_total", "Processor time spent on them, as of the last one.", s[3].Value.Float64())
	p.counter("go_user_cpu_seconds_total", "Processor time spent on all else, as of the last one.", s[4].Value.Float64())
	var stats debug.GCStats
	debug.ReadGCStats(&stats)
	p.counter("go_gc_pause_seconds_total", "Time that everything stood still for them.", stats.PauseTotal.Seconds())
}

// withProfiles serves the Go runtime's profiles under /debug/pprof/, if they are wanted: they cost something while they
// are taken and show what is in memory, so that an agent has them only where its configuration says so.
func withProfiles(wanted bool, next http.Handler) http.Handler {
	if !wanted {
		return next
	}
	const path = "/debug/pprof/"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.HasPrefix(r.URL.Path, path):
			next.ServeHTTP(w, r)
		case r.URL.Path == path+"profile":
			pprof.Profile(w, r)
		case r.URL.Path == path+"trace":
			pprof.Trace(w, r)
		case r.URL.Path == path+"symbol":
			pprof.Symbol(w, r)
		default:
			pprof.Index(w, r)
		}
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
	p.counter("cube_reads_total", "Reads of the state for people; whoever asks the same at the same time shares one.", float64(m.Reads))
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
