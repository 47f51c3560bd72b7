package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const partedTask = `
task "web" {
  image = "%[1]s"
  args  = ["-listen", ":8080"]
  port "http" {
    to = 8080
  }
  resources {
    cpu    = 0.05
    memory = 32
  }
  prestart "migrate" {
    image = "%[1]s"
    args  = [%[2]s]
  }
  sidecar "probe" {
    image = "%[1]s"
    args  = ["-listen", "none", "-get", "http://127.0.0.1:8080/healthz"]
  }
  poststop "tidy" {
    image = "%[1]s"
    args  = ["-listen", "none", "-lines", "2", "-exit-after", "0s"]
  }
  restart {
    attempts = 1
    mode     = "fail"
    delay    = "100ms"
  }
  update {
    min_healthy_time = "500ms"
  }
}
`

// TestSidecars: what runs before, beside and after an instance, over a crash of the agent in each of these times.
func TestSidecars(t *testing.T) {
	f := newAlone(t, "127.0.9.81")
	file := func(migrate string) string {
		return write(t, "web.hcl", fmt.Sprintf(partedTask, helloimage.Tag, migrate))
	}
	crash := func() {
		f.servers[0].end(t, syscall.SIGKILL)
		f.servers[0].start(t)
		f.eventually("the node is ready", 20*time.Second, func() error { return f.nodesReady(1) })
	}

	// The agent falls while the prestart runs: it is found again, and runs once.
	f.does("task", "run", "-detach", file(`"-listen", "none", "-lines", "1", "-exit-after", "3s"`))
	f.eventually("the prestart runs, alone", 10*time.Second, func() error { return f.parts("migrate") })
	f.comesToSay(2*time.Second, "preparing", "task", "status", "web")
	crash()
	f.eventually("the instance runs with its sidecar", 20*time.Second, func() error { return f.parts("", "probe") })
	if out := f.says(0, "", "task", "logs", "-part", "migrate", "-stdout", "web"); strings.Count(out, "out 1") != 1 {
		t.Errorf("the prestart did not run once:\n%s", out)
	}
	f.comesToSay(10*time.Second, "web[0] | ok", "task", "logs", "-part", "probe", "web") // it has reached the main container at 127.0.0.1

	// It falls while the instance runs: the same containers go on.
	before := f.running()
	crash()
	f.health("web[0]", api.HealthHealthy, 0)
	if now := f.running(); !slices.Equal(before, now) {
		t.Errorf("after a crash of the agent there is %v, before there was %v", now, before)
	}
	id := f.instance("web[0]").ID
	if held := f.instance("web[0]").Resources; held.Memory != 32+api.DefaultMemory {
		t.Errorf("it holds %+v; want what the main container and the sidecar ask for", held)
	}
	if code, out := f.cube("alloc", "status", id); code != 0 || !regexp.MustCompile(`(?m)^migrate +prestart +complete +0 .*exit code 0`).MatchString(out) ||
		!regexp.MustCompile(`(?m)^probe +sidecar +running`).MatchString(out) || !regexp.MustCompile(`(?m)^tidy +poststop +waiting`).MatchString(out) {
		t.Errorf("alloc status ends with %d:\n%s", code, out)
	}
	f.says(7, "hello from web[0] on ", "task", "exec", "-part", "probe", "web", "--", "/hello", "-listen", "none", "-get", "http://127.0.0.1:8080/", "-exit-after", "0s", "-exit-code", "7")

	// A sidecar that is killed comes back by itself.
	for _, c := range before {
		if docker(t, "inspect", "-f", `{{index .Config.Labels "cube.part"}}`, c.ID) == "probe\n" {
			docker(t, "kill", c.ID)
		}
	}
	f.eventually("the sidecar is there again, beside the same main container", 10*time.Second, func() error {
		if now := f.running(); shared(before, now) != 1 {
			return fmt.Errorf("there is %v, there was %v", now, before)
		}
		return f.parts("", "probe")
	})

	// And the end: the poststop runs once all others have ended.
	f.says(0, "", "task", "stop", "web")
	if out := f.says(0, "", "alloc", "logs", "-part", "tidy", "-stdout", id); strings.Count(out, "out ") != 2 {
		t.Errorf("the poststop did not run once:\n%s", out)
	}
	f.eventually("nothing is left", 10*time.Second, func() error { return f.parts() })

	// A prestart that fails: nothing else starts, and what it wrote says why.
	code, out := f.cube("task", "run", file(`"-listen", "none", "-lines", "1", "-exit-after", "0s", "-exit-code", "3"`))
	if code != 2 || !strings.Contains(out, "prestart migrate: exit code 3") || !strings.Contains(out, "migrate of web[0]") || !strings.Contains(out, "err 1") {
		t.Errorf("with a prestart that fails task run ends with %d:\n%s", code, out)
	}
	if a := f.instance("web[0]"); !a.StartedAt.IsZero() || a.Restarts == 0 {
		t.Errorf("the main container has started, or the prestart was not tried again: %+v", a)
	}
	f.eventually("nothing is left of it", 10*time.Second, func() error {
		if left := f.containers(); len(left) > 0 {
			return fmt.Errorf("there is %v", left)
		}
		return nil
	})
}

// parts says what is wrong when other containers run than one for each of these parts; "" is the main one.
func (f *fleet) parts(want ...string) error {
	f.t.Helper()
	var have []string
	for line := range strings.Lines(docker(f.t, "ps", "--filter", "label=cube.cluster="+f.id, "--format", `part={{.Label "cube.part"}}`)) {
		have = append(have, strings.TrimPrefix(strings.TrimSpace(line), "part="))
	}
	slices.Sort(have)
	if !slices.Equal(have, want) {
		return fmt.Errorf("there runs %q, not %q", have, want)
	}
	return nil
}
