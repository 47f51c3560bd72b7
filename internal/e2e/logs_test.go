package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/internal/hello/helloimage"
)

const printingTask = `
task "web" {
  count = 3
  image = "%s"
  args  = ["-listen", "none", "-lines", "2"]
  resources {
    cpu    = 0.05
    memory = 32
  }
}
`

const printingProcess = `
task "raw" {
  count   = 2
  driver  = "raw_exec"
  command = "/bin/sh"
  args    = ["-c", "echo begun; sleep 1000"]
}
`

// TestLogs follows three instances as one while one of them is replaced and its node's agent is killed and started anew,
// then asks for what was written since a moment, in order.
func TestLogs(t *testing.T) {
	config := write(t, "agent.hcl", "client {\n  raw_exec = true\n}\n")
	f := newAlone(t, "127.0.9.71", "-config", config)
	f.does("task", "run", write(t, "web.hcl", fmt.Sprintf(printingTask, helloimage.Tag)))
	f.measures("web", 3, `0(\.\d+)?/0\.05 +\d+/32 MiB`)
	follower := f.follow("task", "logs", "-f", "web")
	each := []string{"out 1", "out 2", "err 1", "err 2"}
	want := map[string][]string{"web[0]": each, "web[1]": each, "web[2]": each}
	follower.shows("what was written before", want)

	replaced := f.instance("web[1]")
	between := time.Now()
	f.does("alloc", "stop", replaced.ID)
	want["web[1]"] = slices.Concat(each, []string{"ending: terminated"}, each)
	follower.shows("the old web[1] until its end and the new one from its beginning", want)

	agent := f.servers[0]
	agent.end(t, 9)
	agent.start(t)
	f.eventually("the node is ready again", 20*time.Second, func() error { return f.nodesReady(1) })
	f.does("alloc", "stop", f.instance("web[2]").ID)
	want["web[2]"] = slices.Concat(each, []string{"ending: terminated"}, each)
	follower.shows("what is written after the agent was killed", want)
	if errs := follower.errs.String(); !strings.Contains(errs, "web[1] ("+replaced.ID[:8]+") has ended\n") || strings.Contains(errs, "is not shown") {
		t.Errorf("the follower says:\n%s", errs)
	}

	f.inOrder(between, want)
	if _, out := f.cube("alloc", "status", f.instance("web[1]").ID); !strings.Contains(out, "Other instances of web[1]\n") || !strings.Contains(out, "\n"+replaced.ID[:8]+" ") {
		t.Errorf("alloc status does not show the instance that was replaced:\n%s", out)
	}
	f.does("task", "stop", "web")
	select {
	case <-follower.done:
		if follower.err != nil {
			t.Errorf("following ends with %v:\n%s", follower.err, follower.errs.String())
		}
	case <-time.After(20 * time.Second):
		t.Errorf("following does not end with its job")
	}

	f.does("task", "run", write(t, "raw.hcl", printingProcess))
	defer f.cube("task", "stop", "raw") // its processes outlive their agent
	f.measures("raw", 2, `0(\.\d+)?/0\.1 +\d+/128 MiB`)
	for args, want := range map[string]int{"": 2, "-since 1h": 2, "-since 0s": 0, "-stderr": 0, "-instance 1 -timestamps": 1} {
		code, out := f.cube(append([]string{"task", "logs", "raw"}, strings.Fields(args)...)...)
		if code != 0 || strings.Count(out, "begun\n") != want || strings.Count(out, "\n") != want {
			t.Errorf("task logs raw %s ends with %d; want %d lines:\n%s", args, code, want, out)
		}
	}
}

// measures makes sure that what a task's instances use is shown wherever a person looks, and is in the JSON.
func (f *fleet) measures(job string, instances int, figures string) {
	f.t.Helper()
	like := regexp.MustCompile(figures)
	_, out := f.cube("task", "status", job)
	if got := len(like.FindAllString(out, -1)); got != instances || !strings.Contains(out, "Used of reserved: CPU 0") {
		f.t.Errorf("task status shows what %d instances use, want %d:\n%s", got, instances, out)
	}
	if _, out := f.cube("node", "status", "n1"); len(like.FindAllString(out, -1)) < instances {
		f.t.Errorf("node status does not show what its instances use:\n%s", out)
	}
	if code, out := f.cube("top", "-once"); code != 0 || !strings.Contains(out, "1 of 1 node ready") || !regexp.MustCompile(`(?m)^  `+job+` +service +running +`+fmt.Sprintf("%d/%[1]d", instances)+` +0\S*/0\.\d+ +\d+/\d+ MiB$`).MatchString(out) {
		f.t.Errorf("top -once ends with %d:\n%s", code, out)
	}
	code, out := f.cube("task", "status", "-t", `{{range .Usage.Instances}}{{.Allocation}} {{if gt .Memory 0}}measured{{end}}{{"\n"}}{{end}}`, job)
	if code != 0 || strings.Count(out, " measured\n") != instances {
		f.t.Errorf("task status -t ends with %d:\n%s", code, out)
	}
	one, _, _ := strings.Cut(out, " ")
	if code, out := f.cube("alloc", "status", one); code != 0 || !regexp.MustCompile(`Used += CPU 0.*/0\..*, memory \d+/`).MatchString(out) {
		f.t.Errorf("alloc status ends with %d:\n%s", code, out)
	}
}

// inOrder asks once for what was written since a moment, with times: by the instance that has gone, and by those that came.
func (f *fleet) inOrder(since time.Time, all map[string][]string) {
	f.t.Helper()
	code, out := f.cube("task", "logs", "-timestamps", "-since", since.Format(time.RFC3339Nano), "web")
	got, last := map[string][]string{}, since
	for line := range strings.Lines(out) {
		name, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " | ")
		at, text := api.CutLogTime(rest)
		if at.Before(last.Truncate(time.Millisecond)) { // Docker takes the two streams of a container in turns
			f.t.Errorf("the line %q comes after one of %v", line, last)
		}
		got[name], last = append(got[name], text), at
	}
	for name, lines := range all {
		if wanted := lines[4:]; !sameLines(got[name], wanted) {
			f.t.Errorf("since a moment %s has written %q, want %q", name, got[name], wanted)
		}
	}
	if code != 0 || len(got["web[0]"]) > 0 {
		f.t.Errorf("task logs -since ends with %d:\n%s", code, out)
	}
}

// sameLines compares what an instance wrote; how its two streams interleave is the engine's affair.
func sameLines(got, want []string) bool {
	got, want = slices.Clone(got), slices.Clone(want)
	slices.Sort(got)
	slices.Sort(want)
	return slices.Equal(got, want)
}

// watcher is a command that goes on until it is told to end.
type watcher struct {
	*fleet
	out, errs lockedBuffer
	done      chan struct{} // closed when it has ended; err is readable then
	err       error
}

// follow starts a command that goes on.
func (f *fleet) follow(args ...string) *watcher {
	f.t.Helper()
	w := &watcher{fleet: f, done: make(chan struct{})}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "CUBE_ADDR="+f.up().Address())
	cmd.Stdout, cmd.Stderr = io.Writer(&w.out), io.Writer(&w.errs)
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	go func() {
		w.err = cmd.Wait()
		close(w.done)
	}()
	f.t.Cleanup(func() {
		cmd.Process.Kill() // it may have ended
		<-w.done
	})
	return w
}

// shows waits until the follower has shown exactly these lines of each instance.
func (w *watcher) shows(what string, want map[string][]string) {
	w.t.Helper()
	w.eventually("the follower shows "+what, 20*time.Second, func() error {
		got := map[string][]string{}
		for line := range strings.Lines(w.out.String()) {
			name, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " | ")
			got[name] = append(got[name], text)
		}
		for name, lines := range want {
			if !sameLines(got[name], lines) {
				return fmt.Errorf("%s has written %q, want %q; beside it stands:\n%s", name, got[name], lines, w.errs.String())
			}
		}
		return nil
	})
}
