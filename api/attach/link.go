package attach

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"cube/api"
)

const (
	// aliveEvery is how often a side says that it is there: what lies between forgets silent connections after minutes.
	aliveEvery = 15 * time.Second
	// silence is how long nothing may come before the other side is taken to be gone.
	silence = time.Minute
	// linger is how long the last frames may take, and the other side to close after them.
	linger = 5 * time.Second
)

// ErrGone is wrapped by errors that say that the other side went away, or the connection to it.
var ErrGone = errors.New("the other side is gone")

// link is one side's end of a connection.
type link struct {
	conn io.ReadWriteCloser
	out  chan []byte
	quit chan struct{}   // closed after the last frame was handed to out
	life context.Context // ends when the connection does, or what it is for
	end  context.CancelCauseFunc

	began time.Time
	heard atomic.Int64 // since began, in nanoseconds
	busy  atomic.Bool  // the reader is passing on what it read, which may take as long as it likes

	all sync.WaitGroup
}

func newLink(ctx context.Context, conn io.ReadWriteCloser) *link {
	l := &link{conn: conn, out: make(chan []byte), quit: make(chan struct{}), began: time.Now()}
	l.life, l.end = context.WithCancelCause(ctx)
	return l
}

// start begins to send what is given to send. broken hears, once, why that is not possible any more; what is given then
// is dropped.
func (l *link) start(broken func(error)) {
	l.all.Go(func() {
		working := true
		for {
			select {
			case f := <-l.out:
				if !working {
					continue
				}
				if _, err := l.conn.Write(f); err != nil {
					working = false
					broken(gone(err))
				}
			case <-l.quit:
				return
			}
		}
	})
}

// watch says that we are there, and ends the link when the other side does not, until done is closed.
func (l *link) watch(done <-chan struct{}) {
	t := time.NewTicker(aliveEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if !l.busy.Load() && time.Since(l.began)-time.Duration(l.heard.Load()) > silence {
				l.end(gone(errors.New("nothing was heard of it for a minute")))
				return
			}
			select {
			case l.out <- frame(kindAlive, nil):
			default: // something else is being sent, which says as much
			}
		case <-done:
			return
		case <-l.life.Done():
			return
		}
	}
}

// read calls each with every frame that comes, until the connection ends or each says so.
func (l *link) read(each func(kind, []byte) error) error {
	in := &frameReader{in: l.conn}
	for {
		k, payload, err := in.next()
		if err != nil {
			if errors.Is(err, errForeign) {
				return err
			}
			return gone(err)
		}
		l.heard.Store(int64(time.Since(l.began)))
		l.busy.Store(true)
		err = each(k, payload)
		l.heard.Store(int64(time.Since(l.began)))
		l.busy.Store(false)
		if err != nil {
			return err
		}
	}
}

// send hands a frame to be sent, and waits until it is next. It fails with what ended the link.
func (l *link) send(k kind, payload []byte) error {
	select {
	case l.out <- frame(k, payload):
		return nil
	case <-l.life.Done():
		return context.Cause(l.life)
	}
}

// stream is one kind of frames as a Writer.
type stream struct {
	l *link
	k kind
}

func (s stream) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		piece := p[:min(len(p), maxPayload)]
		if err := s.l.send(s.k, piece); err != nil {
			return n, err
		}
		n += len(piece)
		p = p[len(piece):]
	}
	return n, nil
}

func gone(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		return api.Errorf(api.CodeUnavailable, "the connection to the command ended: %w", ErrGone)
	}
	return api.Errorf(api.CodeUnavailable, "the connection to the command broke (%w): %w", ErrGone, err)
}

// ending is how a command ended, as it travels.
type ending struct {
	Code  int
	Error *api.Error `json:",omitempty"`
}
