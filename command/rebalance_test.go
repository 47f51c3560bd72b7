package command

import (
	"strings"
	"testing"
)

func TestRebalance(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		populated(c)
		p.cube(1, "rebalance", "-plan")
		golden(t, "rebalance-plan", p.stdout.String())
		p.cube(0, "rebalance", "-plan", "-min-gain", "50")
		p.shows("Nothing to move: each of 4 instances is where the scheduler would put it, or nearly")
		p.cube(1, "rebalance", "-plan", "-json")
		p.shows(`"Why": "binpack +33"`)

		p.cube(2, "rebalance", "-max-moves", "3", "-per", "10m")
		p.shows(": 0 of 3 instances moved; at most 3 within 10m")
		p.shows("1 of 3 instances moved, web[1] waits to be healthy on n4, web[2] waits to be healthy on n4")
		p.shows("web[2] stays on n1: n4 cannot take it any more")
		p.shows("Rebalance: 2 of 3 instances moved, 1 not, in 1m")
		p.cube(0, "rebalance", "-min-gain", "50")
		p.shows("Nothing to move")
		p.cube(0, "rebalance", "-detach")
		p.shows(": 0 of 3 instances moved; 2 at a time")
		p.cube(0, "rebalance", "-cancel")
		p.shows("Rebalance: 0 of 3 instances moved; cancelled, what is on its way arrives")
		p.cube(0, "rebalance", "-status")
		p.shows("web[0]    n1    n4  33.0  moving  waits to be healthy on n4")
		p.cube(0, "rebalance", "-status", "-json")
		p.shows(`"Stage": "moving"`)
	})
}

func TestRebalanceRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		for line, want := range map[string]string{
			"-plan -cancel":            "-plan and -cancel do not go together",
			"-status -min-gain 3":      "-min-gain is for a rebalance that begins",
			"-cancel -detach":          "leave out -detach",
			"-json":                    "add -plan or -status",
			"-min-gain 0":              "min_gain 0 is not above 0",
			"-max-moves 0":             "max_moves 0 is not from 1 to 500",
			"-max-moves 501":           "max_moves 501 is not from 1 to 500",
			"-per -1m":                 "per -1m0s is not from 0 to 168h0m0s",
			"-plan -min-gain 1000.001": "hundredths of the scheduler's score",
		} {
			before := strings.Count(p.stderr.String(), "\n")
			p.cube(255, append([]string{"rebalance"}, strings.Fields(line)...)...)
			p.complains(want)
			if n := strings.Count(p.stderr.String(), "\n") - before; n != 1 {
				t.Errorf("rebalance %s says %d lines:\n%s", line, n, p.stderr.String())
			}
		}
	})
}
