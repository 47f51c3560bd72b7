package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const keptTask = `
task "web" {
  image = "%s"
  args  = ["-listen", ""]
  disconnect {
    lost_after = "5m"
  }
  update {
    min_healthy_time = "200ms"
  }
  resources {
    cpu    = 0.05
    memory = 32
  }
}
`

const fencedTask = `
task "one" {
  image = "%s"
  args  = ["-listen", ""]
  disconnect {
    lost_after           = "5m"
    replace              = false
    stop_on_client_after = "5s"
  }
  update {
    min_healthy_time = "200ms"
  }
  resources {
    cpu    = 0.05
    memory = 32
  }
}
`

// apart starts a server without a client, which gives nodes up soon, and two clients.
func apart(t *testing.T, server, first, second string) *fleet {
	t.Helper()
	config := write(t, "server.hcl", "server {\n  node_grace = \"1s\"\n  disconnect_after = \"2s\"\n}\n")
	f := &fleet{t: t, servers: []*process{{name: "s1", bind: server, dir: t.TempDir(), log: &lockedBuffer{}, args: []string{"-server", "-config", config}}}}
	f.servers[0].start(t)
	t.Cleanup(f.close)
	f.join("n1", first)
	f.join("n2", second)
	f.learnID()
	return f
}

// of returns a job's live instances, the oldest first.
func (f *fleet) of(job string) []*api.Allocation {
	f.t.Helper()
	all, _, err := f.up().JobAllocations(f.t.Context(), job, api.Query{})
	if err != nil {
		f.t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(a *api.Allocation) bool { return a.Phase.Terminal() })
	slices.SortFunc(all, func(a, b *api.Allocation) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return all
}

// TestDisconnect takes a client away and brings it back: its instance is kept, another runs beside it meanwhile, and afterwards the
// original runs on, untouched, and the other's container is gone. Then the server goes: who may not run alone for long is stopped.
func TestDisconnect(t *testing.T) {
	f := apart(t, "127.0.9.170", "127.0.9.171", "127.0.9.172")
	file := write(t, "web.hcl", fmt.Sprintf(keptTask, helloimage.Tag))
	f.does("task", "run", file)
	before := f.agree("web", 1, 10*time.Second)[0]
	original := f.of("web")[0]
	holder := f.clients[slices.IndexFunc(f.clients, func(p *process) bool { return p.name == original.NodeName })]
	if err := holder.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := true
	t.Cleanup(func() {
		if stopped {
			_ = holder.cmd.Process.Signal(syscall.SIGCONT)
		}
	})
	f.eventually("another runs beside it", 40*time.Second, func() error {
		if live := f.of("web"); len(live) != 2 || live[0].Away == nil || live[0].Phase != api.PhaseRunning || live[1].Health != api.HealthHealthy || live[1].Replaces != original.ID {
			return fmt.Errorf("%s: there are %d", names(live), len(live))
		}
		return nil
	})
	f.agree("web", 2, 10*time.Second)
	said := fmt.Sprintf("web[0]: node %s is not heard of since ", holder.name)
	for _, args := range [][]string{{"task", "status", "web"}, {"task", "explain", "web"}, {"task", "timeline", "web"}} {
		if code, out := f.cube(args...); code != 0 || !strings.Contains(out, said) || !strings.Contains(out, "; given up at ") {
			t.Errorf("%s ends with %d, want %q:\n%s", strings.Join(args, " "), code, said, out)
		}
	}
	f.says(0, "is not heard of since", "alloc", "status", original.ID)

	if err := holder.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	stopped = false
	after := f.agree("web", 1, 30*time.Second)[0]
	if after.ID != before.ID || after.StartedAt != before.StartedAt {
		t.Errorf("the container was %+v and is %+v", before, after)
	}
	f.eventually("one stays", 10*time.Second, func() error {
		if live := f.of("web"); len(live) != 1 || live[0].ID != original.ID || live[0].Away != nil {
			return fmt.Errorf("%s", names(live))
		}
		return nil
	})
	why := "node " + holder.name + " is back, and the original there is kept; reconcile is keep_original"
	f.says(0, why, "task", "timeline", "web")
	f.cutOff(t, before)
}

// cutOff takes the only server away: the instance that may not go on alone is stopped, and another beside it runs on. When the server is
// back it is told why.
func (f *fleet) cutOff(t *testing.T, other container) {
	f.does("task", "run", write(t, "one.hcl", fmt.Sprintf(fencedTask, helloimage.Tag)))
	first := f.of("one")[0]
	f.servers[0].end(t, syscall.SIGKILL)
	f.eventually("the instance is stopped, and no other", 30*time.Second, func() error {
		if left := f.running(); len(left) != 1 || left[0].ID != other.ID {
			return fmt.Errorf("docker runs %+v", left)
		}
		return nil
	})
	f.servers[0].start(t)
	f.eventually("another takes its place", 40*time.Second, func() error {
		a, _, err := f.api(0).Allocation(t.Context(), first.ID, api.Query{})
		if err != nil {
			return err
		}
		live := f.of("one")
		if a.Phase != api.PhaseFailed || !strings.HasPrefix(a.Message, "cut off from the servers for ") || !strings.HasSuffix(a.Message, "stop_on_client_after is 5s") {
			return fmt.Errorf("it is %s: %s", a.Phase, a.Message)
		}
		if len(live) != 1 || live[0].Health != api.HealthHealthy {
			return fmt.Errorf("%s", names(live))
		}
		return nil
	})
	f.says(0, ": cut off from the servers on ", "task", "timeline", "one")
	f.says(0, "cut off from the servers on ", "task", "explain", "one")
	for text, want := range map[string]string{
		"replace = false":      "replace has no meaning without lost_after",
		"lost_after = \"-1s\"": "lost_after",
		"lost_after = \"10s\"\nstop_on_client_after = \"10s\"":                    "stop_on_client_after 10s is not below lost_after 10s",
		"stop_on_client_after = \"1s\"":                                           "stop_on_client_after 1s is not from 5s",
		"lost_after = \"10s\"\nreconcile = \"best\"":                              "reconcile \"best\" is none of keep_original, keep_replacement, longest_running",
		"lost_after = \"10s\"\nreplace = false\nreconcile = \"keep_replacement\"": "reconcile has no meaning with replace = false",
	} {
		file := write(t, "bad.hcl", "task \"bad\" {\n  image = \"x\"\n  disconnect {\n"+text+"\n  }\n}\n")
		f.says(1, want, "task", "run", file)
	}
}

func names(list []*api.Allocation) (out string) {
	for _, a := range list {
		out += fmt.Sprintf("%s %s on %s is %s and %s; ", a.Name, a.ID, a.NodeName, a.Phase, a.Health)
	}
	return out
}
