package command

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"cube/api"
)

const (
	// mergeHold is how long a line waits for older ones of other instances while their output is followed: what carries
	// lines here is as late as that, and a person does not notice.
	mergeHold = 100 * time.Millisecond
	// mergePatience is the same where all that there is is read once: an instance's node may have to read much before it
	// answers, but one that does not answer must not keep the others' output back for ever.
	mergePatience = 3 * time.Second
	// mergeRoom is how many bytes of one instance's lines wait to be written. Behind it the instance's stream stands
	// still, up to its node: a reader that is slow costs no memory.
	mergeRoom = 64 << 10
)

// logMerge merges the output of several instances line by line. A line is written once every other instance whose output
// is read has a later one, has ended, or has kept it waiting for a while: so the lines are in the order of their times as
// far as they have arrived, and those of one instance are in its order in any case.
type logMerge struct {
	out        io.Writer
	safe       bool // makes what would disturb a terminal visible, colours excepted; into files and pipes every byte goes as it is
	timestamps bool // are shown
	patience   time.Duration
	now        func() time.Time

	mu      sync.Mutex // guards what follows, and the queues of streams
	streams []*logStream
	closed  bool
	changed chan struct{} // holds one: there is something new to see
}

func newLogMerge(out io.Writer, patience time.Duration, now func() time.Time) *logMerge {
	return &logMerge{out: out, patience: patience, now: now, changed: make(chan struct{}, 1)}
}

// logStream is one instance's output on its way into a merge. It is written to by one goroutine.
type logStream struct {
	lineSplitter
	merge  *logMerge
	ctx    context.Context // ends the waiting for room
	prefix string
	room   chan struct{} // holds one: something was taken out of the queue

	// of the goroutine that writes
	seen     bool      // something has come
	untimed  bool      // the time of some of it is not known
	last     time.Time // of the latest line
	repeated int       // how many lines have that time
	skip     int       // so many lines of that time come again

	queue []logLine // guarded by merge.mu
	bytes int       // in the queue
	order time.Time // of the line put in last: no line of a stream sorts before those that came before it
	ended bool
}

// logLine is a line on its way.
type logLine struct {
	text    string    // with its time in front if that is to be shown
	order   time.Time // by which it is sorted
	arrived time.Time
}

// open adds an instance's output, each of its lines with a prefix. Of lines with the same time those of the stream that
// was opened first come first.
func (m *logMerge) open(ctx context.Context, prefix string) *logStream {
	s := &logStream{merge: m, ctx: ctx, prefix: prefix, room: make(chan struct{}, 1)}
	s.each = s.take
	m.mu.Lock()
	defer m.mu.Unlock()
	m.streams = append(m.streams, s)
	return s
}

// take puts a line into the queue, and waits while that is full.
func (s *logStream) take(line []byte) error {
	at, text := api.CutLogTime(string(line))
	if s.skip > 0 && at.Equal(s.last) {
		s.skip--
		return nil
	}
	s.seen, s.skip, s.untimed = true, 0, s.untimed || at.IsZero()
	if at.Equal(s.last) {
		s.repeated++
	} else {
		s.last, s.repeated = at, 1
	}
	if s.merge.timestamps {
		text = string(api.AppendLogTime(nil, at)) + text
	}
	for {
		s.merge.mu.Lock()
		if s.bytes < mergeRoom {
			if at.After(s.order) {
				s.order = at
			}
			s.queue = append(s.queue, logLine{text, s.order, s.merge.now()})
			s.bytes += len(text)
			s.merge.mu.Unlock()
			s.merge.signal()
			return nil
		}
		s.merge.mu.Unlock()
		select {
		case <-s.room:
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

// resume changes a request for output that broke off so that it is answered with what follows. whole is false where that
// may leave a gap: the times of the lines are not known.
func (s *logStream) resume(r api.LogRequest) (rest api.LogRequest, whole bool) {
	s.partial = nil // it comes again, whole
	switch {
	case s.untimed:
		r.Tail = 0
		return r, false
	case s.seen:
		r.Tail, r.Since, s.skip = -1, s.last, s.repeated
	}
	return r, true
}

// Close ends the instance's output.
func (s *logStream) Close() error {
	err := s.lineSplitter.Close()
	s.merge.mu.Lock()
	s.ended = true
	s.merge.mu.Unlock()
	s.merge.signal()
	return err
}

func (m *logMerge) signal() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// finish says that no stream will be opened any more.
func (m *logMerge) finish() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.signal()
}

// run writes lines until all streams have ended and finish was called, ctx is done, or they cannot be written.
func (m *logMerge) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		line, prefix, wait, done := m.next(m.now())
		switch {
		case done:
			return nil
		case line != nil:
			text := line.text
			if m.safe {
				text = printableColours(text)
			}
			if _, err := io.WriteString(m.out, prefix+text+"\n"); err != nil {
				return err
			}
			continue
		case wait > 0:
			timer.Reset(wait)
		default:
			timer.Stop()
		}
		select {
		case <-m.changed:
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// next takes out the line that is to be written now. Without one, wait is when to look again, 0 for when something has
// changed.
func (m *logMerge) next(now time.Time) (line *logLine, prefix string, wait time.Duration, done bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.streams = slices.DeleteFunc(m.streams, func(s *logStream) bool { return s.ended && len(s.queue) == 0 })
	var first *logStream
	all, full, oldest := true, false, now
	for _, s := range m.streams {
		if len(s.queue) == 0 {
			all = false
			continue
		}
		if first == nil || s.queue[0].order.Before(first.queue[0].order) {
			first = s
		}
		full = full || s.bytes >= mergeRoom
		if s.queue[0].arrived.Before(oldest) {
			oldest = s.queue[0].arrived
		}
	}
	if first == nil {
		return nil, "", 0, m.closed && len(m.streams) == 0
	}
	if waited := now.Sub(oldest); !all && !full && waited < m.patience {
		return nil, "", m.patience - waited, false
	}
	l := first.queue[0]
	first.queue[0] = logLine{}
	first.queue, first.bytes = first.queue[1:], first.bytes-len(l.text)
	select {
	case first.room <- struct{}{}:
	default:
	}
	return &l, first.prefix, 0, false
}
