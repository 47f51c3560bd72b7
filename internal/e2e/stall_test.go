package e2e

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

// TestALeaderStandsStill: a leader that is stopped, as by a machine that swaps or a virtual one that is paused, and goes on later
// with the belief that it leads. The others elect another at once and nothing waits; what was with it, a person too, is served in the
// end; it follows; and nothing that was acknowledged is lost or done twice.
func TestALeaderStandsStill(t *testing.T) {
	f := newFleet(t)
	job := func(name string, count int) string {
		return write(t, name+".hcl", fmt.Sprintf("task %q {\n  count = %d\n  image = %q\n  port \"http\" {}\n  resources {\n    cpu = 0.02\n    memory = 16\n  }\n}\n", name, count, helloimage.Tag))
	}
	f.does("task", "run", job("web", 4))
	before := f.agree("web", 4, 10*time.Second)

	still := f.leader()
	f.servers = append(slices.DeleteFunc(slices.Clone(f.servers), func(s *process) bool { return s == still }), still) // who is asked first
	if err := still.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	nodes := []string{}
	for _, c := range f.clients {
		nodes = append(nodes, c.name)
	}
	word := func(n int) string { return fmt.Sprintf("write %d while a leader stands still", n) }
	acknowledged := 0
	put := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := f.up().SetNodeEligibility(ctx, nodes[acknowledged%len(nodes)], api.EligibilityRequest{Eligible: true, Reason: word(acknowledged)}, api.WriteMeta{Who: "ada@ops"})
		if err == nil {
			acknowledged++
		}
		return err
	}
	f.eventually("another server takes a write", 5*time.Second, put)
	if leader := f.leader(); leader == still {
		t.Error("the one that stands still leads")
	}
	asked := make(chan string, 1) // a person whose agent is the one that stands still
	go func() {
		code, out := run(t, "http://"+still.bind+":5555", "task", "run", job("late", 1))
		asked <- fmt.Sprintf("%d\n%s", code, out)
	}()
	f.eventually("every node has a session with a server that moves", 20*time.Second, func() error { return f.nodesReady(3) })
	for range 2 * len(nodes) {
		if err := put(); err != nil {
			t.Fatalf("write %d: %v", acknowledged, err)
		}
	}
	for _, name := range nodes {
		if _, err := f.up().SetNodeEligibility(t.Context(), name, api.EligibilityRequest{Eligible: true, Reason: "the last word"}, api.WriteMeta{}); err != nil {
			t.Fatal(err)
		}
	}
	f.says(0, "", "task", "run", job("web", 6))
	f.agreeOn(map[string]int{"web": 6}, 10*time.Second)

	if err := still.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	f.eventually("it votes and follows", 20*time.Second, func() error {
		leader, err := f.api(len(f.servers) - 1).Leader(t.Context())
		if err != nil || leader.Name == still.name {
			return fmt.Errorf("it says that %+v leads, %v", leader, err)
		}
		return f.voters()
	})
	select {
	case out := <-asked:
		if out[0] != '0' {
			t.Errorf("who asked it meanwhile is told %s", out)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("who asked it meanwhile is not answered")
	}
	f.agreeOn(map[string]int{"web": 6, "late": 1}, 10*time.Second)
	after := f.running()
	if shared(before, after) != len(before) {
		t.Errorf("instances were started anew: they were %v and are %v", before, after)
	}
	f.eventually("it knows what was acknowledged without it", 10*time.Second, func() error {
		own := f.api(len(f.servers) - 1)
		all, _, err := own.ListNodes(t.Context(), api.Query{Stale: true})
		if err != nil {
			return err
		}
		for _, n := range all {
			if n.Ineligible || n.EligibilityReason != "the last word" {
				return fmt.Errorf("node %s is said to be ineligible: %v, %q", n.Name, n.Ineligible, n.EligibilityReason)
			}
		}
		versions, _, err := own.JobVersions(t.Context(), "late", api.Query{Stale: true})
		if err != nil || len(versions) != 1 {
			return fmt.Errorf("job late has %d versions, %v", len(versions), err)
		}
		return nil
	})
}

// agreeOn waits until docker runs exactly the instances of the jobs that the servers say run, so many of each.
func (f *fleet) agreeOn(want map[string]int, within time.Duration) {
	f.t.Helper()
	f.eventually(fmt.Sprintf("docker and the servers agree on %v", want), within, func() error {
		var known, seen []string
		for job, count := range want {
			allocs, _, err := f.up().JobAllocations(f.t.Context(), job, api.Query{})
			if err != nil {
				return err
			}
			ran := 0
			for _, a := range allocs {
				if a.Phase == api.PhaseRunning && a.Desired == api.DesiredRun {
					known = append(known, a.ID)
					ran++
				}
			}
			if ran != count {
				return fmt.Errorf("%d instances of %s run", ran, job)
			}
		}
		for _, c := range f.running() {
			seen = append(seen, c.Alloc)
		}
		slices.Sort(known)
		slices.Sort(seen)
		if !slices.Equal(known, seen) {
			return fmt.Errorf("docker runs %v, the servers say %v", seen, known)
		}
		return nil
	})
}
