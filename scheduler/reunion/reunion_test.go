package reunion

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"cube/api"
)

func TestDecide(t *testing.T) {
	well, ill, leaves := Instance{Well: true, Started: 5}, Instance{Started: 5}, Instance{Well: true, Leaves: true, Started: 5}
	later := Instance{Well: true, Started: 7}
	for _, c := range []struct {
		name      string
		reconcile string
		original  Instance
		other     Instance
		late      bool
		want      Verdict
	}{
		{"both are well", api.ReconcileOriginal, well, well, false, Original},
		{"both are well", api.ReconcileReplacement, well, well, false, Replacement},
		{"started together", api.ReconcileLongest, well, well, false, Original},
		{"the original runs longer", api.ReconcileLongest, well, later, false, Original},
		{"it was started again", api.ReconcileLongest, later, well, false, Replacement},
		{"a policy of before there was one", "", well, well, false, Original},
		{"the original is ill", api.ReconcileOriginal, ill, well, false, Replacement},
		{"the replacement is not up yet", api.ReconcileReplacement, well, ill, false, Original},
		{"the node of the original is drained", api.ReconcileOriginal, leaves, well, false, Replacement},
		{"the node of the replacement is drained", api.ReconcileReplacement, well, leaves, false, Original},
		{"both nodes are", api.ReconcileReplacement, leaves, leaves, false, Replacement},
		{"well and leaving is better than ill", api.ReconcileReplacement, leaves, ill, false, Original},
		{"neither is well", api.ReconcileOriginal, ill, ill, false, Undecided},
		{"neither is, for too long", api.ReconcileOriginal, ill, ill, true, Original},
		{"neither has started, for too long", api.ReconcileLongest, Instance{}, Instance{}, true, Original},
		{"only one has", api.ReconcileLongest, Instance{}, ill, true, Replacement},
	} {
		if got := Decide(c.reconcile, c.original, c.other, c.late); got != c.want {
			t.Errorf("%s, %s: %v, want %v", c.name, c.reconcile, got, c.want)
		}
	}
}

// TestWhoIsIllNeverWins checks the laws over all pairs: who is not well never wins over who is, in time there is a verdict, and it is
// never undecided where one is well.
func TestWhoIsIllNeverWins(t *testing.T) {
	one := func(t *rapid.T, name string) Instance {
		return Instance{rapid.Bool().Draw(t, name+" is well"), rapid.Bool().Draw(t, name+" leaves"), int64(rapid.IntRange(0, 3).Draw(t, name+" started"))}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := one(t, "original"), one(t, "replacement")
		policy, late := rapid.SampledFrom(api.Reconciles()).Draw(t, "reconcile"), rapid.Bool().Draw(t, "late")
		v := Decide(policy, a, b, late)
		switch {
		case (v == Undecided) != (!a.Well && !b.Well && !late):
			t.Fatalf("%+v and %+v, %s, late %v: %v", a, b, policy, late, v)
		case v == Original && b.Well && !a.Well, v == Replacement && a.Well && !b.Well:
			t.Fatalf("%+v and %+v, %s: the ill one wins", a, b, policy)
		}
	})
}

func TestApart(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	for _, c := range []struct {
		absence *api.Absence
		placed  int
		want    bool
	}{
		{nil, 5, false},
		{&api.Absence{Since: at(5)}, 4, false},
		{&api.Absence{Since: at(5)}, 5, true},
		{&api.Absence{Since: at(5), Until: at(9)}, 9, true},
		{&api.Absence{Since: at(5), Until: at(9)}, 10, false},
	} {
		if got := Apart(c.absence, at(c.placed).UnixNano()); got != c.want {
			t.Errorf("%+v, placed at %d: %v", c.absence, c.placed, got)
		}
	}
}
