package command

import (
	"strings"
	"testing"

	"cube/api"
)

// someSimulation has something of everything that a simulation can say.
func someSimulation() *api.Simulation {
	node := func(name, gone string, leave, arrive int, before, after int64) api.NodeOutcome {
		total := api.Resources{CPU: 4000, Memory: 8192, Disk: 100_000}
		return api.NodeOutcome{ID: name, Name: name, Gone: gone, Leave: leave, Arrive: arrive,
			Before: api.Fill{Held: api.Resources{CPU: 400, Memory: before}, Total: total}, After: api.Fill{Held: api.Resources{CPU: 400, Memory: after}, Total: total}}
	}
	return &api.Simulation{
		Totals: api.Totals{Moved: 4, Missing: 1, Placed: 1, Waiting: 2}, Index: 99, Unlooked: 3,
		Jobs: []api.JobOutcome{
			{Name: "web", Tasks: []api.TaskOutcome{{Task: "web", Totals: api.Totals{Moved: 3, Missing: 1}, From: []api.NodeCount{{Node: "n3", Count: 4}},
				To: []api.NodeCount{{Node: "n1", Count: 2}, {Node: "n2", Count: 1}}, Explanation: &api.Explanation{Task: "web", Wanted: 6, Placed: 5, Nodes: 3,
					Filters: []api.FilterCount{{Filter: "memory", Nodes: 2, Wanted: "1 GiB", Seen: "96 to 128 MiB free"}, {Filter: "ready", Nodes: 1, Wanted: "ready", Seen: "down"}},
					Nearest: &api.NearestMiss{Node: "n2", Filter: "memory"}}}}},
			{Name: "shop", Tasks: []api.TaskOutcome{
				{Task: "cart", Totals: api.Totals{Moved: 1}, From: []api.NodeCount{{Node: "n3", Count: 1}}, To: []api.NodeCount{{Node: "n1", Count: 1}}},
				{Task: "pay", Totals: api.Totals{Placed: 1}, To: []api.NodeCount{{Node: "n2", Count: 1}}}}},
		},
		Nodes:  []api.NodeOutcome{node("n3", "down", 5, 0, 5120, 0), node("n1", "", 0, 3, 4096, 8100), node("n2", "", 0, 2, 6144, 8064)},
		Before: api.Fill{Held: api.Resources{CPU: 1200, Memory: 15360}, Total: api.Resources{CPU: 12000, Memory: 24576, Disk: 300_000}},
		After:  api.Fill{Held: api.Resources{CPU: 1200, Memory: 16164}, Total: api.Resources{CPU: 8000, Memory: 16384, Disk: 200_000}},
	}
}

func TestSimShowsWhatWouldHappen(t *testing.T) {
	c := newFakeCluster()
	c.sim = someSimulation()
	p := newTerminal(t, c)
	p.cube(1, "sim", "node-down", "n3", "scale", "shop/pay=2", "drain", "n4", "run", jobFile(t, webJob(4)))
	golden(t, "sim", p.stdout.String())
	r := c.asks.(api.SimulationRequest)
	if err := r.Check(); err != nil || len(r.Suppose) != 4 || r.Suppose[0].NodeDown != "n3" || *r.Suppose[1].Scale != (api.ScaleSupposition{Job: "shop", Task: "pay", Count: 2}) ||
		r.Suppose[2].Drain != "n4" || r.Suppose[3].Run.Source == "" {
		t.Errorf("asked %v: %+v", err, r)
	}

	p = newTerminal(t, c)
	p.columns, p.rows = 100, 24
	p.cube(1, "sim", "node-down", "n3")
	p.shows(red+"NOT everything fits", yellow+"web: 1 of 6 not placed")

	c.sim = &api.Simulation{Totals: api.Totals{Stopped: 2}, Jobs: make([]api.JobOutcome, 25)}
	for i := range c.sim.Jobs {
		c.sim.Jobs[i] = api.JobOutcome{Name: "j", Message: "the scheduler panicked", Tasks: []api.TaskOutcome{{Task: "j", Totals: api.Totals{Stopped: 1}}}}
	}
	p = newTerminal(t, c)
	p.cube(0, "sim", "scale", "web=0")
	p.shows("Everything fits: 2 stopped\n", "and 5 more jobs; -verbose shows them", "j: the scheduler panicked")
	p = newTerminal(t, c)
	p.cube(0, "sim", "-verbose", "scale", "web=0")
	if strings.Contains(p.stdout.String(), "more jobs") {
		t.Error("-verbose leaves jobs out")
	}
	p = newTerminal(t, c)
	p.cube(0, "sim", "-json", "scale", "web=0")
	p.shows(`"Stopped": 2`)
}

func TestSimRefusesWhatCannotBeSupposed(t *testing.T) {
	c := newFakeCluster()
	c.sim = someSimulation()
	for _, of := range []struct {
		says string
		args []string
	}{
		{"this command takes: node-down|drain|scale|run <of>", []string{"node-down"}},
		{"did you mean node-down?", []string{"node-dwn", "n1"}},
		{"what can be supposed is node-down, drain, scale, run", []string{"elephant", "n1"}},
		{"drain needs a word behind it", []string{"node-down", "n1", "drain"}},
		{`"web" is not a name and a count from 0 to 100000, such as web=12`, []string{"scale", "web"}},
		{`"web=-1" is not a name and a count`, []string{"scale", "web=-1"}},
		{`"=3" is not a name and a count`, []string{"scale", "=3"}},
		{`Error reading "/does/not/exist"`, []string{"run", "/does/not/exist"}},
		{"exclude each other", []string{"-json", "-t", "x", "drain", "n1"}},
	} {
		p := newTerminal(t, c)
		p.cube(255, append([]string{"sim"}, of.args...)...)
		p.complains(of.says)
	}
	c.fail = func(method string, _ api.Query) error {
		return api.Errorf(api.CodeNotFound, "there is no job %q", "nope")
	}
	p := newTerminal(t, c)
	p.cube(255, "sim", "scale", "nope=3")
	p.complains(`Error simulating: there is no job "nope"`)
}

func TestSimAsksAnyServerWhereThereIsNoLeader(t *testing.T) {
	c := newFakeCluster()
	c.sim = someSimulation()
	c.fail = func(_ string, q api.Query) error {
		if q.Stale {
			return nil
		}
		return api.Errorf(api.CodeNoLeader, "no leader")
	}
	p := newTerminal(t, c)
	p.cube(1, "sim", "drain", "n3")
	p.shows("NOT everything fits")
	p.complains("this is what one of them last knew")
	p = newTerminal(t, c)
	p.cube(1, "sim", "-stale", "drain", "n3")
	if p.stderr.String() != "" {
		t.Errorf("asked to be stale, it says %q", p.stderr.String())
	}
}
