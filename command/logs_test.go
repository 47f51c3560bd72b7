package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
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
		want := "web[1] | panic: no database\nweb[0] | two\nweb[0] | three\nweb[1] | panic: \x1b]0;title\x07no database\n"
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
		if _, err := c.StopJob(t.Context(), "web", api.StopRequest{}, api.WriteMeta{}); err != nil {
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
			want, gap := "before\nmeanwhile\nafter\n", false
			if strings.HasPrefix(command, "alloc") { // bytes as they are tell no times, from which one could go on
				want, gap = "before\nafter\n", true
			}
			if got := strings.ReplaceAll(p.stdout.String(), "web[0] | ", ""); got != want {
				t.Errorf("%s shows %q, want %q", command, got, want)
			}
			if strings.Contains(p.stderr.String(), "is not shown") != gap {
				t.Errorf("%s says %q", command, p.stderr.String())
			}
			p.complains("the output broke off (unexpected EOF)")
			if n := strings.Count(p.stderr.String(), "\n"); n != 1 {
				t.Errorf("it is said %d times: %s", n, p.stderr.String())
			}
			c.cut()
			time.Sleep(time.Second)
			synctest.Wait()
			if n := strings.Count(p.stderr.String(), "the output broke off"); n != 2 {
				t.Errorf("of two times that it broke off %d are told: %s", n, p.stderr.String())
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
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		m := newLogMerge(&out, mergeHold, time.Now)
		a, b := m.open(t.Context(), "a | "), m.open(t.Context(), "b | ")
		done := make(chan error)
		go func() { done <- m.run(t.Context()) }()
		for _, w := range []struct {
			to   *logStream
			text string
		}{{a, "- one "}, {b, "- x\n- y"}, {a, "line\n- \n"}, {b, "z"}} {
			if n, err := w.to.Write([]byte(w.text)); n != len(w.text) || err != nil {
				t.Fatalf("wrote %d of %q: %v", n, w.text, err)
			}
		}
		synctest.Wait()
		a.Close()
		b.Close()
		m.finish()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got, want := out.String(), "a | one line\nb | x\na | \nb | yz\n"; got != want && got != "a | one line\na | \nb | x\nb | yz\n" {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestALineWithoutEndIsNotHeldBackForEver(t *testing.T) {
	out := 0
	w := &lineSplitter{each: func(line []byte) error { out += len(line); return nil }}
	for range 100 {
		w.Write(bytes.Repeat([]byte("x"), 1000))
	}
	if out < maxLogLine {
		t.Errorf("only %d of 100,000 bytes are out", out)
	}
}

// TestLinesComeInTheOrderOfTheirTimes reads three instances once; one's node answers late, and one's lines have no times.
func TestLinesComeInTheOrderOfTheirTimes(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		job := webJob(3)
		job.Version = 1
		c.do(func() { c.jobs["web"] = job })
		node, begin := c.addNode("n1", nil), time.Now()
		for slot, seconds := range [][]int{{1, 4, 5}, {2, 3, 6}, {}} {
			id := c.place(job, "web", slot, node, nil)
			c.phase(id, api.PhaseRunning, "")
			for _, n := range seconds {
				c.sayAt(begin.Add(time.Duration(n)*time.Second), id, fmt.Sprintf("at %d", n))
			}
			if len(seconds) == 0 {
				c.sayAt(time.Time{}, id, "some time", "later")
			}
		}
		time.Sleep(time.Minute)
		p.cube(0, "logs", "web")
		want := "web[2] | some time\nweb[2] | later\nweb[0] | at 1\nweb[1] | at 2\nweb[1] | at 3\nweb[0] | at 4\nweb[0] | at 5\nweb[1] | at 6\n"
		if got := p.stdout.String(); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		p.stdout = buffer{}
		p.cube(0, "logs", "-since", "56500ms", "-timestamps", "web/web", "-instance", "0")
		stamp := func(n int) string { return string(api.AppendLogTime(nil, begin.Add(time.Duration(n)*time.Second))) }
		if got, want := p.stdout.String(), "web[0] | "+stamp(4)+"at 4\nweb[0] | "+stamp(5)+"at 5\n"; got != want {
			t.Errorf("since four seconds: got %q, want %q", got, want)
		}
	})
}

// TestWhatWasReplacedIsPartOfSince shows the lines of an instance that was replaced after the time asked for.
func TestWhatWasReplacedIsPartOfSince(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		job := webJob(1)
		job.Version = 1
		c.do(func() { c.jobs["web"] = job })
		node := c.addNode("n1", nil)
		for n := range 3 {
			id := c.place(job, "web", 0, node, nil)
			c.phase(id, api.PhaseRunning, "")
			c.say(id, fmt.Sprintf("this is number %d", n))
			time.Sleep(time.Minute)
			if n < 2 {
				c.set(id, func(a *api.Allocation) { a.Phase, a.FinishedAt = api.PhaseComplete, time.Now() })
			}
		}
		p.cube(0, "logs", "-since", "90s", "web")
		p.shows("web[0] | this is number 2\n")
		if strings.Contains(p.stdout.String(), "number 0") || strings.Contains(p.stdout.String(), "number 1") {
			t.Errorf("what is older is shown: %s", p.stdout.String())
		}
		p.stdout = buffer{}
		p.cube(0, "logs", "-since", "2m5s", "web")
		p.shows("web[0] | this is number 1\nweb[0] | this is number 2\n")
	})
}

// TestTheOthersAreShownWhenANodeIsUnreachable has one instance on a node that does not answer.
func TestTheOthersAreShownWhenANodeIsUnreachable(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		job := webJob(2)
		job.Version = 1
		c.do(func() { c.jobs["web"] = job })
		near, far := c.place(job, "web", 0, c.addNode("n1", nil), nil), c.place(job, "web", 1, c.addNode("n2", nil), nil)
		for _, id := range []string{near, far} {
			c.phase(id, api.PhaseRunning, "")
			c.say(id, "here I am")
		}
		c.do(func() { c.unreachable = map[string]bool{far: true} })
		p.cube(1, "logs", "web")
		if got, want := p.stdout.String(), "web[0] | here I am\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got, want := p.stderr.String(), fmt.Sprintf("Error reading the output of web[1] (%.8s): its node does not answer\n", far); got != want {
			t.Errorf("stderr is %q, want %q", got, want)
		}
		p.stdout, p.stderr = buffer{}, buffer{}
		time.AfterFunc(time.Minute, p.interrupt)
		p.cube(0, "logs", "-f", "web")
		if got, want := p.stdout.String(), "web[0] | here I am\n"; got != want {
			t.Errorf("following: got %q, want %q", got, want)
		}
		if n := strings.Count(p.stderr.String(), "\n"); n != 1 {
			t.Errorf("following says %q", p.stderr.String())
		}
	})
}

// TestASlowReaderCostsNoMemory floods a merge that nobody reads.
func TestASlowReaderCostsNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		out, in := io.Pipe()
		m := newLogMerge(in, mergeHold, time.Now)
		line := []byte("- " + strings.Repeat("x", 1000) + "\n")
		var streams sync.WaitGroup
		var taken [3]int
		for n := range taken {
			s := m.open(ctx, "")
			streams.Go(func() {
				for {
					if _, err := s.Write(line); err != nil {
						return
					}
					taken[n]++
				}
			})
		}
		done := make(chan error)
		go func() { done <- m.run(ctx) }()
		time.Sleep(time.Hour)
		for n, lines := range taken {
			if lines > mergeRoom/1000+2 {
				t.Errorf("%d lines of stream %d were taken that nobody has read", lines, n)
			}
		}
		cancel()
		streams.Wait()
		out.Close()
		<-done
	})
}

func TestSince(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 30, 0, 0, time.FixedZone("CET", 3600))
	for text, want := range map[string]string{
		"10m":                       "2026-11-23T10:20:00+01:00",
		"36h":                       "2026-11-21T22:30:00+01:00",
		"0s":                        "2026-11-23T10:30:00+01:00",
		"09:15":                     "2026-11-23T09:15:00+01:00",
		"09:15:30":                  "2026-11-23T09:15:30+01:00",
		"2026-11-22":                "2026-11-22T00:00:00+01:00",
		"2026-11-22 08:00":          "2026-11-22T08:00:00+01:00",
		"2026-11-22T08:00:01":       "2026-11-22T08:00:01+01:00",
		"2026-11-23T08:00:00Z":      "2026-11-23T08:00:00Z",
		"2026-11-23T08:00:00.5Z":    "2026-11-23T08:00:00.5Z",
		"2026-11-23T08:00:00+05:00": "2026-11-23T08:00:00+05:00",
		"-10m":                      "without a minus",
		"11:00":                     "has not come yet",
		"2027-01-01":                "has not come yet",
		"yesterday":                 "neither how long ago",
		"10":                        "neither how long ago",
		"25:00":                     "neither how long ago",
	} {
		at, err := parseSince(text, now)
		got := at.Format(time.RFC3339Nano)
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("-since %s is %s, want %s", text, got, want)
		}
	}
}
