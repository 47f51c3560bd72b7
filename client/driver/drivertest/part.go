package drivertest

import (
	"errors"
	"strings"

	"cube/api"
	"cube/client/driver"
)

// part is a part of what runs by c: of its run, and with the handle of a running instance in its network.
func (b *bench) part(c *driver.Config, name string, beside driver.Handle, p Program) *driver.Config {
	b.Helper()
	n := b.next(c, p)
	n.Key = driver.Key{Allocation: c.Key.Allocation, Of: c.Key.Restarts, Part: name}
	n.Ports, n.Beside = nil, beside.Data
	return n
}

// partsAreInstances: a part has a key, a life and an output of its own, and the main instance does not notice.
func partsAreInstances(b *bench) {
	d, c := b.driver(), b.config(Program{Lines: 1})
	ends := b.watch(d)
	main, _ := b.start(d, c)
	sidecar := b.part(c, "proxy", main, Program{Lines: 2})
	h, at := b.start(d, sidecar)
	if h.Key != sidecar.Key || h.Data == main.Data {
		b.Errorf("the part's handle is %+v, the main one's %+v; want key %+v and other data", h, main, sidecar.Key)
	}
	if again, atAgain := b.start(d, sidecar); again != h || !atAgain.Equal(at) {
		b.Errorf("started again it is %+v of %v, and was %+v of %v", again, atAgain, h, at)
	}
	found := map[driver.Key]driver.Instance{}
	for _, i := range b.list(d) {
		found[i.Handle.Key] = i
	}
	if i, j := found[c.Key], found[sidecar.Key]; len(found) != 2 || i.Handle != main || j.Handle != h || !j.Running || j.Job != c.Job || j.Task != c.Task || j.Version != c.Version {
		b.Errorf("the driver lists %+v", found)
	}
	b.awaitPart(d, h, "out 2\n")
	if out := b.output(d, c.Key.Allocation, api.LogRequest{Stream: "stdout", Tail: -1}); out != lines("out", 1, 1) {
		b.Errorf("the main instance's output is %q", out)
	}
	b.stop(d, h, "SIGTERM", patience)
	if x := ends.of(h); x.FinishedAt.IsZero() {
		b.Errorf("its end is told as %+v", x)
	}
	b.remove(d, h)
	if i := b.only(d); i.Handle != main || !i.Running {
		b.Errorf("without its part the driver lists %+v; want %+v running", i, main)
	}
	if out := b.output(d, c.Key.Allocation, api.LogRequest{Stream: "stdout", Tail: -1, Part: "proxy"}); !strings.HasPrefix(out, lines("out", 1, 2)) {
		b.Errorf("what is kept of the part is %q", out)
	}
}

// awaitPart follows a part's stdout until it holds the text.
func (b *bench) awaitPart(d driver.Driver, h driver.Handle, text string) {
	b.Helper()
	l, err := d.Logs(b.ctx, h.Key.Allocation, api.LogRequest{Stream: "stdout", Tail: -1, Follow: true, Part: h.Key.Part})
	if err != nil {
		b.Fatalf("follow the logs of %s: %v", h.Key.Part, err)
	}
	defer l.Close()
	b.await(l, text)
}

// partJoinsWhatRuns: where there is no network any more, nothing is started, and nothing is left.
func partJoinsWhatRuns(b *bench) {
	d, c := b.driver(), b.config(Program{})
	main, _ := b.start(d, c)
	b.stop(d, main, "SIGKILL", 0)
	_, _, err := d.Start(b.ctx, b.part(c, "proxy", main, Program{}), func(string) {})
	var failed *driver.StartError
	if !errors.As(err, &failed) || failed.Failure != api.FailureStart || failed.Permanent {
		b.Errorf("beside what has ended a part starts with %v; want a StartError that may pass", err)
	}
	b.Logf("it says: %v", err)
	if i := b.only(d); i.Handle != main {
		b.Errorf("the driver lists %+v", i)
	}
	hook := b.part(c, "migrate", driver.Handle{}, Program{}) // in a network of its own
	b.start(d, hook)
}

func partSharesTheNetwork(b *bench) {
	d, c := b.driver(), b.config(Program{Serve: true})
	main, _ := b.start(d, c)
	h, _ := b.start(d, b.part(c, "proxy", main, Program{Get: "http://127.0.0.1:8080/healthz", Lines: 1}))
	b.awaitPart(d, h, "ok\n")
	out := b.output(d, c.Key.Allocation, api.LogRequest{Part: "proxy", Tail: -1})
	if !strings.Contains(out, "ok\n") {
		b.Errorf("the part prints %q", out)
	}
}
