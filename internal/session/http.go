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
	// idleStreams is how many streams a side keeps for its next requests: one for the poll, one for whatever else.
	idleStreams = 2
	// idleTimeout closes a kept stream. The serving side waits longer, so that it never closes one that is just being
	// taken for a request.
	idleTimeout      = 90 * time.Second
	serveIdleTimeout = 2 * idleTimeout
	// headerTimeout bounds the reading of a request's header. Bodies and answers have no bound: logs and long polls last.
	headerTimeout = 10 * time.Second
)

// transport sends requests over streams of one session.
type transport struct {
	s    *Session
	pool *http.Transport
}

func newTransport(s *Session) http.RoundTripper {
	return &transport{s: s, pool: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return s.mux.Open()
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
func (s *Session) Transport() http.RoundTripper { return s.http }

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

// Serve answers the other side's requests until the session ends, and returns why it did. When ctx ends, Serve closes
// the session. The contexts of requests carry the peer (see From) and end with the session; Serve returns after the last
// handler has. Call it once.
func (s *Session) Serve(ctx context.Context, h http.Handler) error {
	base, cancel := context.WithCancel(context.WithValue(ctx, peerKey{}, s.peer))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()

	var streams sync.WaitGroup
	server := &http.Server{
		Handler:           h,
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       serveIdleTimeout,
		ErrorLog:          log.New(io.Discard, "", 0),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				streams.Add(1)
			case http.StateClosed, http.StateHijacked:
				streams.Done()
			}
		},
	}
	err := server.Serve(&listener{s})
	s.Close() // nothing more can be served
	cancel()
	server.Close()
	streams.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if gone := s.Err(); gone != nil {
		return gone
	}
	return err
}

// listener gives the other side's streams to an HTTP server.
type listener struct{ s *Session }

func (l *listener) Accept() (net.Conn, error) {
	stream, err := l.s.mux.AcceptStream()
	if err != nil {
		// Not err itself: a session that ended for silence ends with a timeout, which http.Server takes for a passing
		// trouble and tries again, for ever.
		return nil, net.ErrClosed
	}
	return &served{stream}, nil
}

func (l *listener) Close() error   { return nil }
func (l *listener) Addr() net.Addr { return l.s.mux.LocalAddr() }

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
