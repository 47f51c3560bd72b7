package drivertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"time"

	"cube/api"
	"cube/client/driver"
)

// output reads what Logs gives until it ends.
func (b *bench) output(d driver.Driver, id api.ID, r api.LogRequest) string {
	b.Helper()
	l, err := d.Logs(b.ctx, id, r)
	if err != nil {
		b.Fatalf("logs %+v: %v", r, err)
	}
	defer l.Close()
	out, err := io.ReadAll(l)
	if err != nil {
		b.Fatalf("read logs %+v: %v", r, err)
	}
	return string(out)
}

// awaitOutput follows stdout until it holds the text.
func (b *bench) awaitOutput(d driver.Driver, id api.ID, text string) {
	b.Helper()
	l, err := d.Logs(b.ctx, id, api.LogRequest{Stream: "stdout", Tail: -1, Follow: true})
	if err != nil {
		b.Fatalf("follow logs: %v", err)
	}
	defer l.Close()
	b.await(l, text)
}

func (b *bench) await(l io.Reader, text string) {
	b.Helper()
	var seen bytes.Buffer
	for p := make([]byte, 512); !strings.Contains(seen.String(), text); {
		n, err := l.Read(p)
		seen.Write(p[:n])
		if err != nil && !strings.Contains(seen.String(), text) {
			b.Fatalf("the output ended (%v) without %q: %q", err, text, &seen)
		}
	}
}

// lines is what a Program with Lines prints to a stream, from the line first on.
func lines(stream string, first, last int) string {
	var s strings.Builder
	for i := first; i <= last; i++ {
		fmt.Fprintf(&s, "%s %d\n", stream, i)
	}
	return s.String()
}

func logs(b *bench) {
	d := b.driver()
	e := b.watch(d)
	h, _ := b.start(d, b.config(Program{Lines: 20, Ends: true}))
	e.of(h)
	id := h.Key.Allocation
	for _, c := range []struct {
		request api.LogRequest
		want    string
	}{
		{api.LogRequest{Stream: "stdout", Tail: -1}, lines("out", 1, 20)},
		{api.LogRequest{Stream: "stderr", Tail: -1}, lines("err", 1, 20)},
		{api.LogRequest{Stream: "stdout", Tail: 3}, lines("out", 18, 20)},
		{api.LogRequest{Stream: "stderr", Tail: 1}, lines("err", 20, 20)},
		{api.LogRequest{Stream: "stdout", Tail: 0}, ""},
		{api.LogRequest{Stream: "stdout", Tail: 1000}, lines("out", 1, 20)},
		{api.LogRequest{Stream: "stdout", Tail: -1, Follow: true}, lines("out", 1, 20)}, // it has ended: so does this
	} {
		if got := b.output(d, id, c.request); got != c.want {
			b.Errorf("logs %+v: %q, want %q", c.request, got, c.want)
		}
	}
	// How the two streams interleave is the engine's affair; that nothing is lost or out of order is not.
	both := b.output(d, id, api.LogRequest{Tail: -1})
	for _, stream := range []string{"out", "err"} {
		var part strings.Builder
		for line := range strings.Lines(both) {
			if strings.HasPrefix(line, stream) {
				part.WriteString(line)
			}
		}
		if got, want := part.String(), lines(stream, 1, 20); got != want {
			b.Errorf("both streams hold of %s %q, want %q", stream, got, want)
		}
	}
	if got := b.output(d, id, api.LogRequest{Tail: 7}); strings.Count(got, "\n") != 7 {
		b.Errorf("the last 7 lines of both streams are %q", got)
	}
}

func logsFollow(b *bench) {
	d := b.driver()
	h, _ := b.start(d, b.config(Program{Lines: 3}))
	l, err := d.Logs(b.ctx, h.Key.Allocation, api.LogRequest{Stream: "stdout", Tail: -1, Follow: true})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	b.await(l, lines("out", 1, 3))
	b.stop(d, h, "SIGTERM", 10*patience)
	if _, err := io.Copy(io.Discard, l); err != nil {
		b.Errorf("following until the end gives %v", err)
	}
}

func logsOfFormerRuns(b *bench) {
	d := b.driver()
	e := b.watch(d)
	first := b.config(Program{Lines: 3, Ends: true, ExitCode: 1})
	h, _ := b.start(d, first)
	e.of(h)
	b.remove(d, h)
	id := h.Key.Allocation
	if got, want := b.output(d, id, api.LogRequest{Stream: "stdout", Tail: -1}), lines("out", 1, 3); got != want {
		b.Errorf("after its removal the output is %q, want %q", got, want)
	}
	second, _ := b.start(d, b.next(first, Program{Lines: 2, Ends: true}))
	e.of(second)
	if got, want := b.output(d, id, api.LogRequest{Stream: "stdout", Tail: -1}), lines("out", 1, 3)+lines("out", 1, 2); got != want {
		b.Errorf("the output of both runs is %q, want %q", got, want)
	}
	if got, want := b.output(d, id, api.LogRequest{Stream: "stderr", Tail: 3}), lines("err", 3, 3)+lines("err", 1, 2); got != want {
		b.Errorf("the last three lines of both runs are %q, want %q", got, want)
	}
}

// logsTellTimes has two runs, one of them removed, with a moment between them.
func logsTellTimes(b *bench) {
	d := b.driver()
	e := b.watch(d)
	begin := time.Now().Truncate(time.Millisecond)
	first := b.config(Program{Lines: 3, Ends: true, ExitCode: 1})
	h, _ := b.start(d, first)
	e.of(h)
	b.remove(d, h)
	id := h.Key.Allocation
	between := time.Now().Truncate(time.Millisecond).Add(time.Millisecond)
	for !time.Now().After(between) {
		runtime.Gosched() // one spin of a millisecond: drivers need keep no finer time
	}
	second, _ := b.start(d, b.next(first, Program{Lines: 2, Ends: true}))
	e.of(second)
	for _, c := range []struct {
		request api.LogRequest
		want    string
	}{
		{api.LogRequest{Stream: "stdout", Tail: -1, Since: begin}, lines("out", 1, 3) + lines("out", 1, 2)},
		{api.LogRequest{Stream: "stdout", Tail: -1, Since: between}, lines("out", 1, 2)},
		{api.LogRequest{Stream: "stdout", Tail: 4, Since: between}, lines("out", 1, 2)},
		{api.LogRequest{Stream: "stdout", Tail: 1, Since: between}, lines("out", 2, 2)},
		{api.LogRequest{Stream: "stdout", Tail: -1, Since: between, Follow: true}, lines("out", 1, 2)},
		{api.LogRequest{Stream: "stdout", Tail: -1, Since: time.Now().Add(time.Hour)}, ""},
		{api.LogRequest{Stream: "stderr", Tail: 3, Since: begin}, lines("err", 3, 3) + lines("err", 1, 2)},
	} {
		if got := b.output(d, id, c.request); got != c.want {
			b.Errorf("logs %+v: %q, want %q", c.request, got, c.want)
		}
		c.request.Timestamps = true
		var plain strings.Builder
		last := begin
		for line := range strings.Lines(b.output(d, id, c.request)) {
			at, text := api.CutLogTime(line)
			if at.Before(last) || at.After(time.Now()) {
				b.Errorf("logs %+v: the line %q comes after one of %v", c.request, line, last)
			}
			last = at
			plain.WriteString(text)
		}
		if got := plain.String(); got != c.want {
			b.Errorf("logs %+v: %q, want %q", c.request, got, c.want)
		}
	}
}

func surrounding(b *bench) {
	d := b.driver()
	e := b.watch(d)
	c := b.config(Program{Show: true, Args: []string{"one", "two words", ""}, Ends: true})
	c.Env["GREETING"] = "hello\tworld = 1"
	c.WorkDir = "/tmp"
	h, _ := b.start(d, c)
	e.of(h)
	var got struct {
		Args []string
		Env  map[string]string
		Dir  string
	}
	first, _, _ := strings.Cut(b.output(d, h.Key.Allocation, api.LogRequest{Stream: "stdout", Tail: -1}), "\n")
	if err := json.Unmarshal([]byte(first), &got); err != nil {
		b.Fatalf("the instance prints %q: %v", first, err)
	}
	if len(got.Args) != 3 || got.Args[0] != "one" || got.Args[1] != "two words" || got.Args[2] != "" {
		b.Errorf("the instance sees the arguments %q", got.Args)
	}
	for k, want := range map[string]string{"GREETING": "hello\tworld = 1", "CUBE_TEST": "yes"} {
		if got.Env[k] != want {
			b.Errorf("the instance sees %s=%q, want %q", k, got.Env[k], want)
		}
	}
	if got.Dir != "/tmp" {
		b.Errorf("the instance runs in %q, want /tmp", got.Dir)
	}
}

func ports(b *bench) {
	d := b.driver()
	c := b.config(Program{})
	port := b.freePort()
	c.Ports = []api.PortBinding{{Label: "http", Host: port, To: 8080}}
	b.h.Configure(c, Program{Serve: true})
	h, _ := b.start(d, c)
	b.awaitOutput(d, h.Key.Allocation, "listening")
	request, err := http.NewRequestWithContext(b.ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", port), nil)
	if err != nil {
		b.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		b.Fatalf("ask the instance: %v", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		b.Errorf("the instance answers %s", response.Status)
	}
}

// freePort is a port that nothing listened on a moment ago.
func (b *bench) freePort() int {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func outOfMemory(b *bench) {
	d := b.driver()
	e := b.watch(d)
	c := b.config(Program{Memory: 256, Lines: 1})
	c.Held.Memory = 32
	h, _ := b.start(d, c)
	// Docker does not learn why a container was killed that ends before its start is done.
	b.awaitOutput(d, h.Key.Allocation, "out 1\n")
	b.stop(d, h, "SIGUSR1", patience)
	if x := e.of(h); !x.OOM {
		b.Errorf("at its memory limit it ended with %+v; want OOM", x)
	}
}

func usageIsCounted(b *bench) {
	d := b.driver()
	c := b.config(Program{Lines: 1})
	h, started := b.start(d, c)
	b.awaitOutput(d, h.Key.Allocation, "out 1\n") // it has done something
	first, err := d.Usage(b.ctx, h)
	if err != nil {
		b.Fatal(err)
	}
	second, err := d.Usage(b.ctx, h)
	if err != nil {
		b.Fatal(err)
	}
	if first.CPU <= 0 || first.Memory <= 0 || first.Memory > c.Held.Memory<<20 {
		b.Errorf("it uses %+v; want some CPU time, and some memory within its limit of %d MiB", first, c.Held.Memory)
	}
	if second.CPU < first.CPU || !second.At.After(first.At) || first.At.Before(started.Add(-time.Second)) {
		b.Errorf("it uses %+v, and later %+v; started at %v", first, second, started)
	}
}

func usageOfTheEnded(b *bench) {
	d := b.driver()
	e := b.watch(d)
	h, _ := b.start(d, b.config(Program{Ends: true}))
	e.of(h)
	for _, when := range []string{"after its end", "after its removal"} {
		if u, err := d.Usage(b.ctx, h); api.CodeOf(err) != api.CodeConflict {
			b.Errorf("%s it uses %+v, %v; want %s", when, u, err, api.CodeConflict)
		}
		b.remove(d, h)
	}
}
