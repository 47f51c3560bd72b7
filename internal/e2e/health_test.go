package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const checkedTask = `
task "web" {
  count = 3
  image = "%s"
  args  = [%s]
  port "http" {}
  resources {
    cpu    = 0.05
    memory = 32
  }
  check "up" {
    type                     = "http"
    path                     = "/healthz"
    interval                 = "1s"
    start_period             = "2s"
    failures_before_critical = 2
    %s
  }
  update {
    min_healthy_time = "1s"
  }
}
`

// TestHealth takes a task behind a check through what a check is there for: an instance that falls ill and recovers, one that
// hangs and is restarted, and versions that do not get well.
func TestHealth(t *testing.T) {
	f := newAlone(t, "127.0.9.5")
	file := func(args, more string) string {
		return write(t, "web.hcl", fmt.Sprintf(checkedTask, helloimage.Tag, args, more))
	}

	f.says(0, "3 of 3 instances healthy", "task", "run", file("", ""))
	before := f.agree("web", 3, 10*time.Second)

	// Ill is not dead: it is shown, and nothing is restarted.
	f.tell(f.instance("web[1]"), 503)
	f.health("web[1]", api.HealthUnhealthy, 0)
	if out := f.says(0, "web[1]: check up: 503 Service Unavailable: told to be ill", "task", "status", "web"); !strings.Contains(out, "unhealthy") {
		t.Errorf("task status does not say that it is unhealthy:\n%s", out)
	}
	if code, out := f.cube("alloc", "status", f.instance("web[1]").ID); code != 0 || !regexp.MustCompile(`(?m)^up +http +1s +unhealthy +503 Service Unavailable: told to be ill$`).MatchString(out) {
		t.Errorf("alloc status ends with %d:\n%s", code, out)
	}
	f.tell(f.instance("web[1]"), 200)
	f.health("web[1]", api.HealthHealthy, 0)

	// Other checks are taken over in place; with restart_after what stays ill is restarted, and nothing else.
	f.does("task", "run", file("", "restart_after = 4"))
	if now := f.agree("web", 3, 10*time.Second); !slices.Equal(now, before) {
		t.Errorf("a change of the checks touched containers: they were %v and are %v", before, now)
	}
	f.tell(f.instance("web[0]"), 503)
	f.health("web[0]", api.HealthHealthy, 1)
	if now := f.agree("web", 3, 10*time.Second); shared(before, now) != 2 {
		t.Errorf("one was to be restarted; they were %v and are %v", before, now)
	}

	f.oneSlotFalls("a version that answers 503", file(`"-health", "503"`, ""), "check up: 503", 2)
	f.oneSlotFalls("a version that dies after it has started", file(`"-exit-after", "500ms", "-exit-code", "3"`, ""), "exit code 3", 2)

	f.says(0, "3 of 3 instances healthy", "task", "run", file(`"-lines", "1"`, ""))
}

// oneSlotFalls runs a version that does not get well, and makes sure that it costs web[0] and nothing else.
func (f *fleet) oneSlotFalls(what, file, says string, code int) {
	f.t.Helper()
	others := func() (ids []string) {
		for _, name := range []string{"web[1]", "web[2]"} {
			a := f.instance(name)
			if a.Phase != api.PhaseRunning || a.Health != api.HealthHealthy {
				f.t.Errorf("%s: %s is %v and %v", what, name, a.Phase, a.Health)
			}
			ids = append(ids, a.ID)
		}
		return ids
	}
	before := others()
	if out := f.says(code, says, "task", "run", file); !strings.Contains(out, "has 0 of 3 instances healthy") {
		f.t.Errorf("%s: task run does not say how many are healthy:\n%s", what, out)
	}
	if now := others(); !slices.Equal(now, before) {
		f.t.Errorf("%s: the others were %v and are %v", what, before, now)
	}
}

// instance returns the newest allocation of that name, which there is.
func (f *fleet) instance(name string) *api.Allocation {
	f.t.Helper()
	a := f.newest(name)
	if a == nil {
		f.t.Fatalf("there is no %s", name)
	}
	return a
}

// newest returns the newest allocation of that name, nil as long as the scheduler has placed none.
func (f *fleet) newest(name string) *api.Allocation {
	f.t.Helper()
	allocs, _, err := f.up().JobAllocations(f.t.Context(), "web", api.Query{})
	if err != nil {
		f.t.Fatal(err)
	}
	var newest *api.Allocation
	for _, a := range allocs {
		if a.Name == name && (newest == nil || a.CreateIndex > newest.CreateIndex) {
			newest = a
		}
	}
	return newest
}

// tell has an instance answer its check with a status from now on.
func (f *fleet) tell(a *api.Allocation, status int) {
	f.t.Helper()
	url := fmt.Sprintf("http://%s:%d/healthz?status=%d", a.NodeAddress, a.Ports[0].Host, status)
	answer, err := http.Post(url, "", nil)
	if err != nil {
		f.t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		f.t.Fatalf("%s answers %s", url, answer.Status)
	}
}

// health waits until the instance has that health, after so many restarts.
func (f *fleet) health(name string, want api.HealthStatus, restarts int) {
	f.t.Helper()
	f.eventually(fmt.Sprintf("%s is %s after %d restarts", name, want, restarts), 30*time.Second, func() error {
		a := f.newest(name)
		if a == nil {
			return errors.New("it is not placed")
		}
		if a.Health != want || a.Restarts != restarts {
			return fmt.Errorf("it is %v and %v after %d restarts: %s", a.Phase, a.Health, a.Restarts, a.Message)
		}
		return nil
	})
}

// shared counts the containers that are in both lists, not started anew.
func shared(a, b []container) (n int) {
	for _, c := range a {
		if slices.Contains(b, c) {
			n++
		}
	}
	return n
}
