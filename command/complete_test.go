package command

import (
	"slices"
	"testing"

	"github.com/posener/complete"

	"cube/api"
)

func TestNamesAndIDsAreCompletedFromTheCluster(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		web := populated(c)
		commands := p.meta.commands()
		for name, want := range map[string]struct{ typed, first string }{
			"task status": {"w", "web"}, "stop": {"sh", "shop"}, "node status": {"6e31", c.nodes[0].ID}, "node eligibility": {"", "n1"}, "node drain": {"", "n1"},
			"operator raft remove-peer": {"", "s2"}, "alloc logs": {web[:4], web},
			"eval status": {"", c.text.Format(c.evals[1].ID)},
		} {
			made, err := commands[name]()
			if err != nil {
				t.Fatal(err)
			}
			got := made.(*command).AutocompleteArgs().Predict(complete.Args{Last: want.typed})
			if !slices.Contains(got, want.first) {
				t.Errorf("cube %s %s: %q", name, want.typed, got)
			}
		}
		c.fail = func(string, api.Query) error { return api.Errorf(api.CodeUnavailable, "down") }
		made, _ := commands["status"]()
		if got := made.(*command).AutocompleteArgs().Predict(complete.Args{}); len(got) != 0 {
			t.Errorf("completed %q without an answer", got)
		}
	})
}
