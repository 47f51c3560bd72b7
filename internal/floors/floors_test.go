package floors

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// floor says what a package may import of this module, and what it must not import at all.
type floor struct {
	pkg    string
	ours   []string          // of this module; a trailing /... stands for everything below
	banned map[string]string // import path or prefix ending in / -> reason
}

const (
	noIO    = "a pure package does no I/O: its answers depend on its arguments alone"
	noChain = "the arrow points the other way: whoever drives it imports it"
)

// floors is the table of the house, from the ground up. A package that stands in no row is not checked; the last test
// here fails for it.
func floors() []floor {
	pure := map[string]string{"net": noIO, "net/http": noIO, "os": noIO, "os/exec": noIO, "math/rand": "chance enters at one door", "math/rand/v2": "chance enters at one door",
		"crypto/rand": "chance enters at one door", "log": noIO, "github.com/hashicorp/raft": "raft drives the state machine, never the other way round"}
	noRaft := map[string]string{"github.com/hashicorp/raft": "only servers vote", "github.com/hashicorp/memberlist": "gossip has one home"}
	docker := "github.com/docker/docker/"
	return []floor{
		{".", []string{"command"}, nil},
		{"api", []string{"api/cron"}, pure},
		{"api/cron", nil, pure},
		{"fsm/balance", []string{"api"}, pure},
		{"fsm/deployment", []string{"api"}, pure},
		{"fsm/drain", []string{"api"}, pure},
		{"fsm/versions", []string{"api"}, pure},
		{"fsm/launch", []string{"api"}, pure},
		{"fsm", []string{"api", "fsm/balance", "fsm/deployment", "fsm/drain", "fsm/launch", "fsm/versions", "fsm/timeline"}, pure},
		{"fsm/timeline", []string{"api"}, pure},
		{"scheduler", []string{"api", "scheduler/matching", "scheduler/moving", "scheduler/preempt", "scheduler/reunion", "scheduler/rollout"}, pure},
		{"scheduler/matching", []string{"api"}, pure},
		{"scheduler/moving", []string{"api"}, pure},
		{"scheduler/preempt", []string{"api"}, pure},
		{"scheduler/reunion", []string{"api"}, pure},
		{"scheduler/rollout", []string{"api"}, pure},
		{"scheduler/whatif", []string{"api", "scheduler", "scheduler/preempt"}, pure},
		{"jobspec", []string{"api"}, pure},
		{"jobspec/convert", []string{"api", "jobspec"}, pure},
		{"api/attach", []string{"api"}, map[string]string{"net": "it is given its connection", "net/http": "it is given its connection", "os": "it is given its streams"}},
		{"api/rest", []string{"api"}, noRaft},
		{"client/driver", []string{"api"}, map[string]string{docker: "the engine's vocabulary stays in its driver"}},
		{"client/driver/drivertest", []string{"api", "client/driver"}, map[string]string{docker: "the contract knows no engine"}},
		{"client/driver/transcript", []string{"api", "client/driver"}, noRaft},
		{"client/driver/cgroup", []string{"client/driver"}, noRaft},
		{"client/driver/docker", []string{"api", "client/driver", "client/driver/cgroup", "client/driver/transcript"}, noRaft},
		{"client/driver/raw_exec", []string{"api", "client/driver", "client/driver/cgroup", "client/driver/transcript"}, noRaft},
		{"client/driver/fake", []string{"api", "client/driver", "client/driver/transcript"}, noRaft},
		{"client/device", []string{"api"}, noRaft},
		{"client/check", []string{"api"}, noRaft},
		{"client/datadir", []string{"api"}, noRaft},
		{"client/meter", []string{"api", "client/driver"}, noRaft},
		{"client/payload", []string{"api"}, noRaft},
		{"client/volume", []string{"api"}, noRaft},
		{"client/estate", []string{"api"}, noRaft},
		{"client", []string{"api", "api/attach", "client/check", "client/datadir", "client/device", "client/driver", "client/estate", "client/meter", "client/payload", "client/volume"}, map[string]string{"github.com/hashicorp/raft": "only servers vote", "github.com/hashicorp/memberlist": "gossip has one home", docker: "drivers know engines, clients know drivers"}},
		{"internal/session", []string{"api"}, noRaft},
		{"internal/memnet", nil, nil},
		{"internal/version", nil, nil},
		{"agent/gossip", []string{"api"}, map[string]string{"github.com/hashicorp/raft": "gossip is a hint, not a vote"}},
		{"agent/server/raftnode", []string{"api", "fsm", "agent/server/signal", "internal/session"}, map[string]string{"github.com/hashicorp/memberlist": "gossip has one home"}},
		{"agent/server/signal", nil, noRaft},
		{"agent/server/members", []string{"api", "agent/server/raftnode", "agent/server/signal"}, map[string]string{"github.com/hashicorp/memberlist": "gossip has one home"}},
		{"agent/server/contact", []string{"api", "fsm", "agent/server/members", "agent/server/signal", "internal/session"}, noRaft},
		{"agent/server/overview", []string{"api", "fsm", "scheduler", "scheduler/whatif"}, noRaft},
		{"agent/server/journal", []string{"api", "fsm", "agent/server/signal"}, noRaft},
		{"agent/server/usage", []string{"api"}, noRaft},
		{"agent/server/deployer", []string{"api", "fsm", "fsm/deployment", "scheduler/rollout", "agent/server/signal"}, noRaft},
		{"agent/server/volume", []string{"api", "fsm"}, noRaft},
		{"agent/server/estate", []string{"api", "fsm"}, noRaft},
		{"agent/server/drain", []string{"api", "fsm", "agent/server/signal"}, noRaft},
		{"agent/server/balancer", []string{"api", "fsm", "fsm/balance", "scheduler", "agent/server/signal"}, noRaft},
		{"agent/server/launch", []string{"api", "fsm", "fsm/launch", "agent/server/signal"}, noRaft},
		{"agent/server", []string{"agent/server/balancer", "agent/server/drain", "agent/server/estate", "agent/server/journal", "agent/server/launch", "api", "fsm", "fsm/balance", "fsm/launch", "scheduler", "scheduler/rollout", "scheduler/whatif", "agent/server/overview", "jobspec", "internal/session", "agent/server/raftnode", "agent/server/contact", "agent/server/deployer",
			"agent/server/members", "agent/server/signal", "agent/server/usage", "agent/server/volume"},
			map[string]string{"github.com/hashicorp/memberlist": "gossip has one home", docker: "servers decide, clients run"}},
		{"agent", []string{"api", "api/rest", "agent/server", "agent/gossip", "client", "client/device", "client/driver", "client/driver/docker", "client/driver/raw_exec", "client/volume", "internal/session", "internal/version"}, nil},
		{"command", []string{"agent", "api", "api/attach", "api/rest", "jobspec", "jobspec/convert", "internal/version"}, map[string]string{"github.com/hashicorp/raft": "people speak api"}},
		{"internal/hello", nil, nil},
		{"internal/hello/helloimage", nil, nil},
		{"internal/hello/image", []string{"internal/hello/helloimage"}, nil},
		{"internal/cubetest", []string{"agent", "api", "api/rest", "fsm", "client", "client/driver", "client/driver/fake", "internal/memnet"}, nil},
		{"internal/lifecycle", nil, nil},
		{"internal/floors", nil, nil},
		{"internal/e2e", []string{"api", "api/rest", "internal/hello/helloimage"}, nil},
		{"internal/bench/result", nil, noRaft},
		{"internal/bench/process", nil, noRaft},
		{"internal/bench/packing", []string{"api", "scheduler", "internal/bench/result"}, noRaft},
		{"internal/bench/failover", []string{"api", "internal/bench/cluster", "internal/bench/result"}, nil},
		{"internal/bench/micro", nil, noRaft},
		{"internal/bench/ci", []string{"api", "internal/bench/cluster", "internal/bench/micro", "internal/bench/result", "internal/bench/scale", "internal/bench/watch"}, noRaft},
		{"internal/bench/watch", []string{"api", "internal/bench/cluster", "internal/bench/process", "internal/bench/result"}, nil},
		{"internal/bench/cluster", []string{"agent", "api/rest", "internal/bench/process"}, noRaft},
		{"internal/bench/load", []string{"api", "api/rest"}, noRaft},
		{"internal/bench/scale", []string{"api", "api/rest", "internal/bench/cluster", "internal/bench/fleet", "internal/bench/load", "internal/bench/process", "internal/bench/result"}, noRaft},
		{"internal/bench/fleet", []string{"agent", "api", "api/rest", "client", "client/driver", "client/driver/fake", "internal/bench/process", "internal/version"}, noRaft},
		{"internal/bench", []string{"agent", "api", "api/rest", "client", "client/driver", "client/driver/fake", "fsm", "scheduler", "internal/session", "internal/hello/helloimage",
			"internal/bench/result", "internal/bench/process", "internal/bench/cluster", "internal/bench/fleet", "internal/bench/scale", "internal/bench/packing", "internal/bench/watch", "internal/bench/failover", "internal/bench/micro", "internal/bench/ci"}, nil},
	}
}

func TestImportsGoDown(t *testing.T) {
	rows := map[string]floor{}
	for _, f := range floors() {
		rows[f.pkg] = f
	}
	for _, s := range tree(t) {
		if s.test {
			continue // a test may look at the neighbours
		}
		row, ok := rows[s.pkg]
		if !ok {
			t.Errorf("%s: package %s stands on no floor; add a row to floors() with what it may import", s.path, s.pkg)
			continue
		}
		for _, imp := range s.imports {
			if ours, ok := strings.CutPrefix(imp, "cube/"); ok && !slices.Contains(row.ours, ours) {
				t.Errorf("%s imports %s, which package %s may not: see floors()", s.path, imp, s.pkg)
			}
			for ban, reason := range row.banned {
				if imp == ban || strings.HasSuffix(ban, "/") && strings.HasPrefix(imp, ban) {
					t.Errorf("%s imports %s: %s", s.path, imp, reason)
				}
			}
		}
	}
}

// TestPurePackagesReadNoClock finds uses of the clock in packages whose answers must depend on their arguments alone.
func TestPurePackagesReadNoClock(t *testing.T) {
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}
	for _, s := range tree(t) {
		if s.test || !slices.Contains([]string{"api", "api/cron", "fsm", "fsm/balance", "fsm/deployment", "fsm/drain", "fsm/launch", "fsm/timeline", "fsm/versions", "scheduler", "scheduler/matching", "scheduler/moving", "scheduler/preempt", "scheduler/reunion", "scheduler/rollout", "scheduler/whatif", "jobspec", "jobspec/convert"}, s.pkg) {
			continue
		}
		calls(s, func(pkg, name string, line int) {
			if pkg == "time" && slices.Contains(clock, name) {
				t.Errorf("%s:%d: time.%s in a pure package; time comes in as an argument, from the leader's stamp", s.path, line, name)
			}
		})
	}
}

// TestTestsWaitForFacts finds sleeps in tests outside synctest bubbles, where they hide races.
func TestTestsWaitForFacts(t *testing.T) {
	for _, s := range tree(t) {
		if !s.test || slices.Contains(s.imports, "testing/synctest") || slices.Contains(s.imports, "cube/internal/memnet") {
			continue // time is virtual there
		}
		calls(s, func(pkg, name string, line int) {
			if pkg == "time" && name == "Sleep" {
				t.Errorf("%s:%d: time.Sleep in a test outside a bubble; wait for the fact itself", s.path, line)
			}
		})
	}
}

// TestNoInit finds init functions: nothing happens before main says so.
func TestNoInit(t *testing.T) {
	for _, s := range tree(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s:%d: init function", s.path, s.fset.Position(f.Pos()).Line)
			}
		}
	}
}

// calls reports each pkg.Name selector of a file.
func calls(s source, report func(pkg, name string, line int)) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok {
			report(x.Name, sel.Sel.Name, s.fset.Position(sel.Pos()).Line)
		}
		return true
	})
}
