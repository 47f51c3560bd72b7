package agent

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestProfilesAreServedWhereTheyAreWanted, and nowhere else.
func TestProfilesAreServedWhereTheyAreWanted(t *testing.T) {
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "next ", r.URL.Path) })
	for _, c := range []struct {
		wanted bool
		path   string
		want   string
	}{
		{false, "/debug/pprof/heap", "next /debug/pprof/heap"},
		{true, "/v1/jobs", "next /v1/jobs"},
		{true, "/debug/pprof", "next /debug/pprof"},
		{true, "/debug/pprof/goroutine?debug=1", "goroutine profile: total"},
		{true, "/debug/pprof/", "heap"},
		{true, "/debug/pprof/none", "Unknown profile"},
	} {
		if _, body := ask(withProfiles(c.wanted, next), "GET", c.path, ""); !strings.Contains(body, c.want) {
			t.Errorf("%s where profiles are wanted %v: %.200s, want %q", c.path, c.wanted, body, c.want)
		}
	}
}

// TestRuntimeMetrics are those that tell what the memory costs.
func TestRuntimeMetrics(t *testing.T) {
	var b strings.Builder
	runtimeMetrics(&prometheus{&b})
	for _, name := range []string{"go_goroutines", "go_heap_objects_bytes", "go_heap_live_bytes", "go_memory_total_bytes", "go_gc_cycles_total", "go_gc_cpu_seconds_total", "go_gc_pause_seconds_total"} {
		if !strings.Contains(b.String(), "\n"+name+" ") {
			t.Errorf("%s is missing in\n%s", name, b.String())
		}
	}
}
