package session

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"cube/api"
)

const (
	// idleStreams is how many streams a side keeps for its next requests.
	idleStreams = 2
	// idleTimeout closes a kept stream. The serving side waits longer, so that it never closes one that is just being
	// taken for a request.
	idleTimeout      = 90 * time.Second
	serveIdleTimeout = 2 * idleTimeout
	// headerTimeout bounds the reading of a request's header. Bodies and answers have no bound: logs and long polls last.
	headerTimeout = 10 * time.Second
	// backlog is how many streams may be opened before the other side has taken them.
	backlog = 64
	// muxPiece bounds a frame of yamux's bytes, so that a call need not wait for long behind one.
	muxPiece = 32 << 10
)

// transport sends requests over streams of one session.
type transport struct {
	s    *Session
	pool *http.Transport
}

func newTransport(s *Session) http.RoundTripper {
	return &transport{s: s, pool: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			mux, err := s.streams.open()
			if err != nil {
				return nil, err
			}
			return mux.Open()
		},
		DisableCompression:  true,
		MaxIdleConns:        idleStreams,
		MaxIdleConnsPerHost: idleStreams,
		IdleConnTimeout:     idleTimeout,
	}}
}

// Transport sends HTTP requests to the other side, which must Serve. URLs are "http://", any host: all hosts are the
// other side. A request fails at once, with CodeUnavailable, when the session is gone, and its cancellation reaches the
// handler. A response must be read to its end, or closed, as always.
func (s *Session) Transport() http.RoundTripper {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http == nil {
		s.http = newTransport(s)
	}
	return s.http
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.s.Err(); err != nil {
		if req.Body != nil {
			req.Body.Close() // as RoundTripper demands, also on errors
		}
		return nil, err
	}
	resp, err := t.pool.RoundTrip(req)
	if err != nil && req.Context().Err() == nil {
		if gone := t.s.Err(); gone != nil {
			return nil, gone
		}
		return nil, api.Errorf(api.CodeUnavailable, "%s %s over the session with %s: %w", req.Method, req.URL.Path, t.s.RemoteAddr(), err)
	}
	return resp, err
}

// streams are a session's yamux, which begins when the first HTTP request is made, by either side.
type streams struct {
	session *Session
	dialled bool

	mu      sync.Mutex
	mux     *yamux.Session
	pipe    *muxPipe
	base    context.Context // of requests; nil before Serve
	handler http.Handler
	serving sync.WaitGroup
}

// open returns the session's yamux, a new one if need be.
func (t *streams) open() (*yamux.Session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mux != nil {
		return t.mux, nil
	}
	if err := t.session.Err(); err != nil {
		return nil, err
	}
	cfg := yamux.DefaultConfig()
	cfg.AcceptBacklog = backlog
	cfg.EnableKeepAlive = false // the session's own pings say it
	cfg.ConnectionWriteTimeout = writeTimeout
	cfg.StreamOpenTimeout = 30 * time.Second  // a side that serves takes a stream within milliseconds
	cfg.StreamCloseTimeout = 30 * time.Second // then a half-closed stream is reset
	cfg.LogOutput = io.Discard                // what matters is in Err
	pipe := &muxPipe{Session: t.session, in: make(chan []byte)}
	begin := yamux.Server
	if t.dialled {
		begin = yamux.Client
	}
	mux, err := begin(pipe, cfg)
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "open streams with %s: %w", t.session.RemoteAddr(), err)
	}
	t.mux, t.pipe = mux, pipe
	if t.base != nil {
		t.start()
	}
	return mux, nil
}

// serve answers the other side's requests from now on, with h.
func (t *streams) serve(base context.Context, h http.Handler) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.base, t.handler = base, h
	if t.mux != nil {
		t.start()
	}
}

// start runs the HTTP server until the session ends. The caller holds t.mu.
func (t *streams) start() {
	mux, base, handler := t.mux, t.base, t.handler
	t.serving.Go(func() {
		var open sync.WaitGroup
		server := &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				open.Add(1) // beside its stream, which a handler may take from the server and go on
				defer open.Done()
				handler.ServeHTTP(w, r)
			}),
			BaseContext:       func(net.Listener) context.Context { return base },
			ReadHeaderTimeout: headerTimeout,
			IdleTimeout:       serveIdleTimeout,
			ErrorLog:          log.New(io.Discard, "", 0),
			ConnState: func(_ net.Conn, state http.ConnState) {
				switch state {
				case http.StateNew:
					open.Add(1)
				case http.StateClosed, http.StateHijacked:
					open.Done()
				}
			},
		}
		_ = server.Serve(&listener{mux}) // it ends with the streams, and they with the session, which knows why
		server.Close()
		open.Wait()
	})
}

// wait returns when everything has ended. The session has.
func (t *streams) wait() {
	t.mu.Lock()
	mux := t.mux
	t.mu.Unlock()
	if mux != nil {
		mux.Close() // it says only that it was closed already
	}
	t.serving.Wait()
}

// deliver hands yamux what came for it. Its receiver is always ready: it copies into a window that it has granted.
func (t *streams) deliver(b []byte) error {
	if _, err := t.open(); err != nil {
		return err
	}
	select {
	case t.pipe.in <- b:
	case <-t.session.done:
	}
	return nil
}

// muxPipe is the connection under yamux: frames of the session.
type muxPipe struct {
	*Session
	in   chan []byte
	left []byte // of what came last; yamux's receiver's own
}

func (p *muxPipe) Read(b []byte) (int, error) {
	for len(p.left) == 0 {
		select {
		case p.left = <-p.in:
		case <-p.done:
			return 0, io.EOF
		}
	}
	n := copy(b, p.left)
	p.left = p.left[n:]
	return n, nil
}

func (p *muxPipe) Write(b []byte) (n int, err error) {
	for piece := b; len(piece) > 0; piece = b[n:] {
		piece = piece[:min(len(piece), muxPiece)]
		if err := p.write(frame(frameMux, 0, piece)); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return n, nil
}

// LocalAddr is for yamux, which asks for it.
func (p *muxPipe) LocalAddr() net.Addr { return p.conn.LocalAddr() }

// Close ends the whole session: yamux closes what it finds broken.
func (p *muxPipe) Close() error {
	p.end(errors.New("its streams broke"))
	return nil
}

// listener gives the other side's streams to an HTTP server.
type listener struct{ mux *yamux.Session }

func (l *listener) Accept() (net.Conn, error) {
	stream, err := l.mux.AcceptStream()
	if err != nil {
		// Not err itself: http.Server takes a timeout for a passing trouble and tries again, for ever.
		return nil, net.ErrClosed
	}
	return &served{stream}, nil
}

func (l *listener) Close() error   { return nil }
func (l *listener) Addr() net.Addr { return l.mux.LocalAddr() }

// served is a stream whose other side asks. HTTP never closes one half: an end of what can be read means that nobody
// waits for the answer any more, so a handler that is stuck in writing it is set free.
type served struct{ *yamux.Stream }

func (c *served) Read(b []byte) (int, error) {
	n, err := c.Stream.Read(b)
	if errors.Is(err, io.EOF) {
		c.Stream.Close()
	}
	return n, err
}
