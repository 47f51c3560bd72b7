package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/hashicorp/go-hclog"

	"cube/api"
	"cube/api/rest"
	"cube/internal/session"
)

const (
	headerTimeout = 5 * time.Second  // a peer that cannot send its headers in this time does not mean to
	bodyTimeout   = 60 * time.Second // likewise for a body of at most a few MiB, or for the next piece of a snapshot
	maxPosted     = 4 << 20          // no body that people post is larger; what exactly is allowed the routes say
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10
)

// serveHTTP serves the people's API on l until ctx is done, then gives what is under way a moment to end.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler, logger hclog.Logger) error {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          logger.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve HTTP on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := s.Shutdown(grace); err != nil {
		s.Close() // what is still open after the grace is cut off
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP on %s: %w", l.Addr(), err)
	}
	return nil
}

// public guards the people's API: on loopback only names of this machine are served, so that a page whose name was made
// to point here (DNS rebinding) reaches nothing; what agents ask of each other is not served at all, since here nobody
// has said who asks; and a body that is too large or trickles in is cut off.
func public(next http.Handler, addr net.Addr, name string) http.Handler {
	loopback := false
	if t, ok := addr.(*net.TCPAddr); ok {
		loopback = t.IP.IsLoopback()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case loopback && !localName(r.Host, name):
			rest.WriteError(w, api.Errorf(api.CodeForbidden, "this address is not served under the name %.80q", r.Host))
			return
		case forMachines(r.URL.Path):
			rest.WriteError(w, api.Errorf(api.CodeNotFound, "there is no %s %s", r.Method, r.URL.Path))
			return
		}
		switch r.Method {
		case http.MethodPost:
			body := newTimedBody(w, r.Body, false)
			r.Body = http.MaxBytesReader(w, body, maxPosted)
		case http.MethodPut:
			r.Body = newTimedBody(w, r.Body, true)
		}
		next.ServeHTTP(w, r)
	})
}

// forMachines reports whether a path is one that agents use among themselves, over sessions. A client's proxy and a
// server's forwarder must not carry it from the people's address into a session, where it would speak for this agent.
func forMachines(path string) bool {
	for _, p := range []string{"/v1/dispatch/", "/v1/peer/", "/v1/relay/", "/v1/worker/"} {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}

// timedBody is a body that must come within bodyTimeout: all of it, or with each every next piece.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
	each    bool
}

func newTimedBody(w http.ResponseWriter, body io.ReadCloser, each bool) io.ReadCloser {
	b := &timedBody{ReadCloser: body, control: http.NewResponseController(w), each: each}
	b.until(time.Now().Add(bodyTimeout))
	return b
}

// until fails only where there is no connection, as in tests of handlers.
func (b *timedBody) until(t time.Time) { _ = b.control.SetReadDeadline(t) }

func (b *timedBody) Read(p []byte) (int, error) {
	if b.each {
		b.until(time.Now().Add(bodyTimeout))
	}
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.until(time.Time{}) // else the deadline would end the request, however long its answer may take
	}
	return n, err
}

// localName reports whether a Host header names this machine: an IP address, localhost, or the agent's own name.
func localName(host, name string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	return host == "" || host == "localhost" || host == "cube" || strings.EqualFold(host, name) || net.ParseIP(host) != nil
}

// serverHandlers are what a server agent serves: people's requests on its HTTP address, and on sessions those, machines'
// calls, and what is relayed to nodes.
func serverHandlers(s serverSide, metrics http.Handler, logger hclog.Logger) (people http.Handler, sessions session.Handler) {
	routes := withMetrics(metrics, &forwarder{leadership: s, local: rest.Local, next: rest.NewHandler(s, logger)})

	inside := chi.NewRouter()
	inside.Handle("/v1/relay/{node}/*", relay(s))
	inside.Handle("/v1/dispatch/estate/*", rest.NewEstatesHandler(s, sender))
	inside.Mount("/", routes)
	inside.MethodNotAllowed(routes.ServeHTTP) // methods that chi does not know are for the routes to refuse, too
	return routes, session.Handler{HTTP: inside, Call: rest.MachineCalls(s, s, sender)}
}

// withMetrics serves an agent's own metrics, whoever leads, and leaves all other requests as they are to next: a router
// here would answer some of them itself, with a redirect or without a body.
func withMetrics(metrics, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/metrics" {
			metrics.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// withNode has answers about this agent's health name the node that it runs; "" is none. Whoever answers, a client's server for
// one, does not know.
func withNode(id string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id != "" && r.URL.Path == "/v1/health" {
			w.Header().Set(rest.HeaderNode, id)
		}
		next.ServeHTTP(w, r)
	})
}

// sender says who opened the session that something was asked on. Without a session there is no sender, who speaks for
// nobody.
func sender(ctx context.Context) (api.Role, string) {
	hello, ok := session.From(ctx)
	if !ok {
		return api.RoleClient, ""
	}
	return hello.Role, hello.Sender
}

// relay passes requests of another server on to a node whose session is here: /v1/relay/NODE/rest.
func relay(s serverSide) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if role, _ := sender(r.Context()); role != api.RoleServer {
			rest.WriteError(w, api.Errorf(api.CodeForbidden, "only servers relay"))
			return
		}
		node := chi.URLParam(r, "node")
		rt, ok := s.NodeTransport(node)
		if !ok {
			rest.WriteError(w, api.Errorf(api.CodeUnavailable, "node %s has no session with this server", node))
			return
		}
		out := outgoing(r, r.Body)
		out.URL.Path = "/" + chi.URLParam(r, "*")
		out.URL.RawPath = ""
		resp, err := rt.RoundTrip(out)
		if err != nil {
			unlessGone(r)
			rest.WriteError(w, api.Errorf(api.CodeUnavailable, "node %s does not answer: %w", node, err))
			return
		}
		defer resp.Body.Close()
		copyAnswer(w, r, resp)
	}
}
