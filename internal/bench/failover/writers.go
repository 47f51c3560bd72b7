package failover

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"cube/api"
	"cube/internal/bench/cluster"
)

const (
	// workers write at the same time, each to a job of its own, one write after the other. They are more than the rate
	// needs while there is a leader, and less than the servers would choke on when there is none.
	workers = 64
	// patience is how long a writer waits for an answer: longer than servers wait for a leader.
	patience = 10 * time.Second
	again    = 5 * time.Millisecond // before another server is asked
)

// writers write through the public API at a fixed rate. Their methods are for one goroutine.
type writers struct {
	servers *cluster.Cluster
	rate    int
	cancel  context.CancelFunc
	all     sync.WaitGroup
	writers []*writer

	mu           sync.Mutex // guards what follows while the workers run
	acknowledged int
	failed       map[api.Code]int // attempts
	lost         int
	since        time.Time // accepted is told of the first write that was asked for after it
	accepted     chan time.Time
}

// writer writes to one job. Its fields are its worker's, and with mu of writers everybody's.
type writer struct {
	job     string
	sent    int     // the number of the latest write
	last    int     // of the latest acknowledged one
	pending []write // acknowledged, and not looked for since
}

// write is an acknowledged one.
type write struct {
	number int
	index  uint64
}

func newWriters(servers *cluster.Cluster, rate int) *writers {
	w := &writers{servers: servers, rate: rate, failed: map[api.Code]int{}}
	for i := range workers {
		w.writers = append(w.writers, &writer{job: fmt.Sprintf("job-%d", i)})
	}
	return w
}

// start lets the writers work until stop is called. It returns when every job is there.
func (w *writers) start(ctx context.Context) error {
	for _, one := range w.writers {
		if _, err := w.servers.API(0).RegisterJobs(ctx, one.submission(0), api.WriteMeta{}); err != nil {
			return err
		}
	}
	ctx, w.cancel = context.WithCancel(ctx)
	tickets := make(chan struct{}, workers)
	w.all.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(w.rate))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			select {
			case tickets <- struct{}{}:
			default: // all wait for a leader: what would have been written meanwhile is not written later
			}
		}
	})
	for i, one := range w.writers {
		w.all.Go(func() { w.work(ctx, one, i%w.servers.Size(), tickets) })
	}
	return nil
}

// stop ends the work. It may be called again.
func (w *writers) stop() {
	w.cancel()
	w.all.Wait()
}

func (w *writers) work(ctx context.Context, one *writer, server int, tickets <-chan struct{}) {
	for {
		select {
		case <-tickets:
		case <-ctx.Done():
			return
		}
		server = w.write(ctx, one, server)
	}
}

// write makes one write and returns the server to ask next. It is asked for until it is acknowledged, of one server after the
// other, always under the same request ID: so it happens once, also when an answer was lost.
func (w *writers) write(ctx context.Context, one *writer, server int) int {
	w.mu.Lock()
	one.sent++
	number := one.sent
	w.mu.Unlock()
	for ctx.Err() == nil {
		began := time.Now()
		try, cancel := context.WithTimeout(ctx, patience)
		registered, err := w.servers.API(server).RegisterJobs(try, one.submission(number), api.WriteMeta{RequestID: one.request(number)})
		cancel()
		if err == nil {
			w.acknowledge(one, number, registered.Index, began)
			return server
		}
		w.fail(err)
		server = (server + 1) % w.servers.Size()
		if pause(ctx, again) != nil {
			break
		}
	}
	return server
}

// fail notes an attempt that was not acknowledged. A conflict would be our own fault.
func (w *writers) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed[api.CodeOf(err)]++
}

func (w *writers) acknowledge(one *writer, number int, index uint64, began time.Time) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acknowledged++
	one.last = number
	one.pending = append(one.pending, write{number, index})
	if w.accepted != nil && began.After(w.since) {
		w.accepted <- now // it has room for the one
		w.accepted = nil
	}
}

// next returns a channel that is told when the first write was accepted that was asked for after since.
func (w *writers) next(since time.Time) <-chan time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	told := make(chan time.Time, 1)
	w.since, w.accepted = since, told
	return told
}

// judge looks for every write that was acknowledged since the last judgement: sent again with its request ID, it has the
// result that it had.
func (w *writers) judge(ctx context.Context) error {
	var found sync.WaitGroup
	errs := make([]error, len(w.writers))
	for i, one := range w.writers {
		w.mu.Lock()
		pending := one.pending
		one.pending = nil
		w.mu.Unlock()
		found.Go(func() { errs[i] = w.look(ctx, one, pending) })
	}
	found.Wait()
	return errors.Join(errs...)
}

func (w *writers) look(ctx context.Context, one *writer, pending []write) error {
	for _, p := range pending {
		index, err := w.ask(ctx, one, p.number)
		if err != nil {
			return fmt.Errorf("look for write %d of %s: %w", p.number, one.job, err)
		}
		if index != p.index {
			w.mu.Lock()
			w.lost++
			w.mu.Unlock()
		}
	}
	return nil
}

// ask sends a write once more and returns the index of its result. It asks again while servers are busy or change their
// leader, as they do at times on a machine that has too much to do.
func (w *writers) ask(ctx context.Context, one *writer, number int) (uint64, error) {
	for giveUp := time.Now().Add(acceptedIn); ; {
		registered, err := w.servers.API(number%w.servers.Size()).RegisterJobs(ctx, one.submission(number), api.WriteMeta{RequestID: one.request(number)})
		if err == nil {
			return registered.Index, nil
		}
		if time.Now().After(giveUp) || api.CodeOf(err) == api.CodeConflict {
			return 0, err
		}
		if err := pause(ctx, again); err != nil {
			return 0, err
		}
	}
}

// judgeJobs looks at what every job is in the end.
func (w *writers) judgeJobs(ctx context.Context) error {
	if err := w.judge(ctx); err != nil {
		return err
	}
	for _, one := range w.writers {
		status, _, err := w.servers.API(0).Job(ctx, one.job, api.Query{})
		if err != nil {
			return fmt.Errorf("look for %s: %w", one.job, err)
		}
		var number int
		if _, err := fmt.Sscanf(status.Job.Meta["write"], "%d", &number); err != nil {
			return fmt.Errorf("%s is of write %q: %w", one.job, status.Job.Meta["write"], err)
		}
		if number < one.last || number > one.sent {
			w.lost++
		}
	}
	return nil
}

func (o *writer) request(number int) string { return fmt.Sprintf("%s/%d", o.job, number) }

// submission is the job as the number-th write makes it. No node can run it, so that writes are all that the servers do.
func (o *writer) submission(number int) api.Submission {
	source := fmt.Sprintf("job %q {\n  meta = { write = \"%d\" }\n  task \"idle\" {\n    driver = \"fake\"\n    image  = \"none\"\n  }\n}\n", o.job, number)
	return api.Submission{Source: source, FileName: "failover.hcl"}
}
