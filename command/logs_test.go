package command

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cube/api"
)

func TestLogsMergeInstancesLineByLine(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		populated(c)
		c.say(c.allocs[1].ID, "one", "two", "three")
		c.say(c.allocs[2].ID, "panic: \x1b]0;title\x07no database")
		c.set(c.allocs[2].ID, func(a *api.Allocation) { a.StartedAt = time.Now() })
		p.cube(0, "logs", "web", "-tail", "2")
		want := "web[0] | two\nweb[0] | three\nweb[1] | panic: no database\nweb[1] | panic: \x1b]0;title\x07no database\n"
		if got := p.stdout.String(); got != want {
			t.Errorf("into a pipe every byte goes as it is:\ngot  %q\nwant %q", got, want)
		}
		p.stdout = buffer{}
		p.columns, p.rows = 80, 24
		p.cube(0, "logs", "web", "-instance", "1")
		if got := colours.ReplaceAllString(p.stdout.String(), ""); !strings.Contains(got, `web[1] | panic: \x1b]0;title\ano database`) || strings.Contains(got, "web[0]") {
			t.Errorf("on a terminal control characters are shown, not obeyed: %q", got)
		}
	})
}

func TestFollowingTakesInLaterInstancesAndEndsWithTheJob(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		node := c.addNode("n1", nil)
		job := webJob(1)
		job.Version = 1
		c.do(func() { c.jobs["web"] = job })
		first := c.place(job, "web", 0, node, nil)
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.cube(0, "logs", "-f", "web")
		}()
		c.phase(first, api.PhaseRunning, "")
		c.say(first, "hello")
		synctest.Wait()
		c.phase(first, api.PhaseFailed, "")
		second := c.place(job, "web", 0, node, nil)
		c.phase(second, api.PhaseRunning, "")
		synctest.Wait()
		c.say(second, "again")
		if _, err := c.StopJob(t.Context(), "web", api.WriteMeta{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("it ended while an instance was running")
		default:
		}
		c.phase(second, api.PhaseComplete, "")
		<-done
		if got, want := p.stdout.String(), "web[0] | hello\nweb[0] | again\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got, want := p.stderr.String(), fmt.Sprintf("web[0] (%.8s) has ended\nweb[0] (%.8s) has ended\n", first, second); got != want {
			t.Errorf("stderr is %q, want %q", got, want)
		}
	})
}

// The server that passes the output on falls: what is written afterwards is shown all the same, and an instance that
// was lost with its node is let go.
func TestFollowingOutlivesWhatCarriesIt(t *testing.T) {
	for _, command := range []string{"task logs -f web", "alloc logs -f %s"} {
		bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
			job := webJob(1)
			job.Version = 1
			c.do(func() { c.jobs["web"] = job })
			id := c.place(job, "web", 0, c.addNode("n1", nil), nil)
			c.phase(id, api.PhaseRunning, "")
			c.say(id, "before")
			done := make(chan struct{})
			go func() {
				defer close(done)
				p.cube(0, strings.Fields(strings.ReplaceAll(command, "%s", id))...)
			}()
			synctest.Wait()
			down := true
			c.do(func() {
				c.fail = func(method string, _ api.Query) error {
					if down && method == "Logs" {
						return api.Errorf(api.CodeUnavailable, "no session with node n1")
					}
					return nil
				}
			})
			c.cut()
			time.Sleep(time.Minute)
			c.say(id, "meanwhile")
			c.do(func() { down = false })
			time.Sleep(time.Second)
			c.say(id, "after")
			synctest.Wait()
			if got := strings.ReplaceAll(p.stdout.String(), "web[0] | ", ""); got != "before\nafter\n" {
				t.Errorf("%s shows %q", command, got)
			}
			p.complains("the output broke off (unexpected EOF)")
			if n := strings.Count(p.stderr.String(), "\n"); n != 1 {
				t.Errorf("it is said %d times: %s", n, p.stderr.String())
			}
			c.do(func() { down = true; c.jobs["web"].Stopped = true })
			c.set(id, func(a *api.Allocation) { a.Phase = api.PhaseLost })
			c.cut()
			<-done
		})
	}
}

// Before an instance that starts later there is nothing to leave out.
func TestFollowingShowsLaterInstancesFromTheirBeginning(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		node := c.addNode("n1", nil)
		job := webJob(1)
		job.Version = 1
		c.do(func() { c.jobs["web"] = job })
		first, gone := c.place(job, "web", 0, node, nil), c.place(job, "web", 1, node, nil)
		c.say(gone, "of a slot that the job has no more")
		c.phase(gone, api.PhaseComplete, "stopped")
		c.phase(first, api.PhaseRunning, "")
		c.say(first, "one", "two")
		time.AfterFunc(time.Minute, p.interrupt)
		c.scripts.Go(func() {
			time.Sleep(time.Second)
			c.phase(first, api.PhaseComplete, "stopped")
			second := c.place(job, "web", 0, node, nil)
			c.say(second, "three", "four")
			c.phase(second, api.PhaseRunning, "")
		})
		p.cube(0, "logs", "-f", "-tail=1", "web")
		if got, want := p.stdout.String(), "web[0] | two\nweb[0] | three\nweb[0] | four\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestFollowingEndsQuietlyWithCtrlC(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		populated(c)
		time.AfterFunc(time.Minute, p.interrupt)
		p.cube(0, "logs", "-f", "web")
		if p.stderr.String() != "" {
			t.Errorf("stderr: %s", p.stderr.String())
		}
	})
}

func TestAllocLogsAreTheBytesTheInstanceWrote(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		id := populated(c)
		c.say(id, "\x1b[31mred\x1b[0m \x00 bytes")
		p.cube(0, "alloc", "logs", id)
		if got, want := p.stdout.String(), "\x1b[31mred\x1b[0m \x00 bytes\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		p.stdout = buffer{}
		p.columns, p.rows = 80, 24
		p.cube(0, "alloc", "logs", id)
		if got, want := p.stdout.String(), "\x1b[31mred\x1b[0m \\x00 bytes\x1b[0m\n"; got != want {
			t.Errorf("on a terminal got %q, want %q", got, want)
		}
	})
}

func TestLinesAreNotTornApart(t *testing.T) {
	var out bytes.Buffer
	lines := &lineWriter{out: &out}
	a, b := lines.prefixed("a | "), lines.prefixed("b | ")
	for _, w := range []struct {
		to   interface{ Write([]byte) (int, error) }
		text string
	}{{a, "one "}, {b, "x\ny"}, {a, "line\n\n"}, {b, "z"}} {
		if n, err := w.to.Write([]byte(w.text)); n != len(w.text) || err != nil {
			t.Fatalf("wrote %d of %q: %v", n, w.text, err)
		}
	}
	a.Close()
	b.Close()
	if got, want := out.String(), "b | x\na | one line\na | \nb | yz\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestALineWithoutEndIsNotHeldBackForEver(t *testing.T) {
	var out bytes.Buffer
	w := (&lineWriter{out: &out}).prefixed("")
	for range 100 {
		w.Write(bytes.Repeat([]byte("x"), 1000))
	}
	if out.Len() < maxLogLine {
		t.Errorf("only %d of 100,000 bytes are out", out.Len())
	}
}
