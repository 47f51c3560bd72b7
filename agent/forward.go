package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"cube/agent/server"
	"cube/api"
	"cube/api/rest"
)

const (
	headerHops = "X-Cube-Hops"
	maxHops    = 2 // a client's server, and the leader: a third hop means that two servers point at each other

	// leaderWait is how long a request waits for a leader: longer than an election takes, shorter than a person's patience.
	leaderWait = 5 * time.Second
	// electionWait is the same for what can be answered without one: about an election.
	electionWait = 2 * time.Second
	// maxForwardBody bounds what is held to send a request again: three times the largest inventory of a node. Snapshots
	// are streamed, once.
	maxForwardBody = 16 << 20
	retryPause     = 50 * time.Millisecond // when a server denies leadership before we have heard of its successor
)

// leadership is what the forwarder must know of the servers.
type leadership interface {
	LeaderInfo() (leader api.Leader, self, known bool)
	LeaderChanged() <-chan struct{} // closed at the next change
	Transport(serverID string) http.RoundTripper
}

// forwarder hands to the leader what only the leader can answer, and everything else to next. The same request is sent
// again only when it is certain that nothing was written.
type forwarder struct {
	leadership leadership
	local      func(*http.Request) bool
	next       http.Handler
}

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.local(r) {
		f.next.ServeHTTP(w, r)
		return
	}
	hops, _ := strconv.Atoi(r.Header.Get(headerHops)) // absent or nonsense: a first hop
	var body *replayBody
	patience := leaderWait
	if rest.AnsweredByAny(r) {
		patience = electionWait
	}
	for giveUp := time.Now().Add(patience); ; {
		tried, changed := time.Now(), f.leadership.LeaderChanged()
		leader, self, known := f.leadership.LeaderInfo()
		if !self && hops >= maxHops {
			rest.WriteError(w, api.Errorf(api.CodeNotLeader, "this server does not lead, and the request was forwarded %d times already", hops))
			return
		}
		if body == nil && known {
			var err error
			if body, err = newReplayBody(r); err != nil {
				rest.WriteError(w, err)
				return
			}
		}
		if self && f.serve(w, r, body) || known && !self && f.forward(w, r, f.leadership.Transport(leader.ID), hops+1, body) {
			return
		}
		if time.Since(tried) >= patience {
			giveUp = time.Now().Add(patience) // a long poll whose leader left it: the wait for another begins now
		}
		if !pause(r.Context(), giveUp, changed, known) {
			if rest.AnsweredByAny(r) {
				f.next.ServeHTTP(w, r)
				return
			}
			rest.WriteError(w, api.Errorf(api.CodeNoLeader, "the servers have no leader; nothing was done, try again (server members shows who is missing)"))
			return
		}
	}
}

// pause waits for a change of leader, or briefly when a leader is named that denies it. It reports false when the time
// is over.
func pause(ctx context.Context, giveUp time.Time, changed <-chan struct{}, known bool) bool {
	wait := time.Until(giveUp)
	if known {
		wait = min(wait, retryPause)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-changed:
		return true
	case <-t.C:
		return time.Now().Before(giveUp)
	case <-ctx.Done():
		return false
	}
}

// serve answers the request here. It reports false, with nothing written to w, when this server does not lead any more
// and the request may be sent to its successor.
func (f *forwarder) serve(w http.ResponseWriter, r *http.Request, body *replayBody) bool {
	r.Body = body.reader()
	if !body.replayable {
		f.next.ServeHTTP(w, r)
		return true
	}
	d := &deniable{ResponseWriter: w}
	f.next.ServeHTTP(d, r)
	return !d.denied
}

// deniable passes on an answer, unless it is that this server does not lead.
type deniable struct {
	http.ResponseWriter
	begun, denied bool
}

func (d *deniable) WriteHeader(status int) {
	if !d.begun && api.Code(d.Header().Get(rest.HeaderCode)) == api.CodeNotLeader {
		d.denied = true
		d.Header().Del(rest.HeaderCode)
	}
	d.begun = true
	if !d.denied {
		d.ResponseWriter.WriteHeader(status)
	}
}

func (d *deniable) Write(b []byte) (int, error) {
	if d.begun = true; d.denied {
		return len(b), nil
	}
	return d.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (d *deniable) Unwrap() http.ResponseWriter { return d.ResponseWriter }

// forward sends the request through rt and copies the answer. It reports false, with nothing written to w, when the
// request may be sent again.
func (f *forwarder) forward(w http.ResponseWriter, r *http.Request, rt http.RoundTripper, hops int, body *replayBody) bool {
	sent := &askedBody{ReadCloser: body.reader()}
	out := outgoing(r, sent)
	out.ContentLength = body.length
	out.Header.Set(headerHops, strconv.Itoa(hops))
	resp, err := rt.RoundTrip(out)
	if err != nil {
		if fault := sent.fault.Load(); fault != nil {
			rest.WriteError(w, bodyError(*fault))
			return true
		}
		unlessGone(r)
		if body.replayable && (r.Method == http.MethodGet || errors.Is(err, server.ErrNotSent)) {
			return false
		}
		rest.WriteError(w, api.Errorf(api.CodeUnknown, "the leader went away while it answered; the request may or may not have been carried out: %w", err))
		return true
	}
	defer resp.Body.Close()
	if body.replayable && api.Code(resp.Header.Get(rest.HeaderCode)) == api.CodeNotLeader {
		return false
	}
	copyAnswer(w, r, resp)
	return true
}

// outgoing is r as it is sent on.
func outgoing(r *http.Request, body io.ReadCloser) *http.Request {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host = "http", "cube"
	out.Host, out.RequestURI, out.Body = "cube", "", body
	for _, h := range []string{"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		out.Header.Del(h)
	}
	if protocol, ok := rest.Switching(r); ok {
		out.Header.Set("Connection", "Upgrade")
		out.Header.Set("Upgrade", protocol)
	}
	return out
}

// copyAnswer passes the answer to r on, each piece as it comes, so that logs and long polls flow, and both ways where the
// connection is switched over.
func copyAnswer(w http.ResponseWriter, r *http.Request, resp *http.Response) {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		rest.SwitchOver(w, r, resp)
		return
	}
	for k, v := range resp.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(resp.StatusCode)
	control := http.NewResponseController(w)
	if resp.ContentLength < 0 {
		control.Flush() // a stream: its reader must see that it is connected
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return // the reader left
			}
			control.Flush()
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler) // so that a part is not taken for the whole
		}
	}
}

// replayBody is a request's body, held so that it can be sent again unless it is too large for that.
type replayBody struct {
	held       []byte
	rest       io.ReadCloser // nil when all is held
	length     int64
	replayable bool
}

func newReplayBody(r *http.Request) (*replayBody, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return &replayBody{replayable: true}, nil
	}
	if r.Method == http.MethodPut {
		return &replayBody{rest: r.Body, length: r.ContentLength}, nil
	}
	held, err := io.ReadAll(io.LimitReader(r.Body, maxForwardBody+1))
	if err != nil {
		return nil, bodyError(err)
	}
	if len(held) > maxForwardBody {
		return nil, api.Errorf(api.CodeTooLarge, "the body has more than %d bytes", maxForwardBody)
	}
	return &replayBody{held: held, length: int64(len(held)), replayable: true}, nil
}

func (b *replayBody) reader() io.ReadCloser {
	if b.rest != nil {
		return b.rest
	}
	return io.NopCloser(bytes.NewReader(b.held))
}

// askedBody is an asker's body on its way to another agent. It keeps why it could not be read, which is the asker's fault
// and not that agent's.
type askedBody struct {
	io.ReadCloser
	fault atomic.Pointer[error]
}

func (b *askedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.fault.Store(&err)
	}
	return n, err
}

// bodyError says what is wrong with a request whose body could not be read.
func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return api.Errorf(api.CodeTooLarge, "the body has more than %d bytes", tooLarge.Limit)
	}
	return api.Errorf(api.CodeInvalid, "the body cannot be read: %w", err)
}

// unlessGone ends a request whose asker has left. To return without a word would be an empty 200, and an asker who has
// closed only its own half would take it for success.
func unlessGone(r *http.Request) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
}

// proxy hands every request to whatever server the client is connected to.
type proxy struct {
	current func() (http.RoundTripper, bool)
	changed func() <-chan struct{} // closed at the next change
	servers func() []string        // known, for the message
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	giveUp := time.Now().Add(leaderWait)
	if r.URL.Path == "/v1/health" {
		giveUp = time.Now() // how things are is answered as they are
	}
	for {
		changed := p.changed()
		rt, ok := p.current()
		if ok {
			tried := time.Now()
			if p.forward(w, r, rt) {
				return
			}
			if time.Since(tried) >= leaderWait {
				giveUp = time.Now().Add(leaderWait) // a long poll whose server left it: the wait for another begins now
			}
		}
		if !pause(r.Context(), giveUp, changed, ok) {
			rest.WriteError(w, p.unconnected())
			return
		}
	}
}

// unconnected says that there is no server to ask, and what to look at.
func (p *proxy) unconnected() error {
	known := p.servers()
	if len(known) == 0 {
		return api.Errorf(api.CodeUnavailable, "this client is not connected to a server and sees none alive; check that one is up and that -join names it")
	}
	return api.Errorf(api.CodeUnavailable, "this client is not connected to a server; it sees %s and goes on trying", strings.Join(known, ", "))
}

// forward sends the request through rt and copies the answer. It reports false, with nothing written to w, when a read
// got no answer: it may be sent again.
func (p *proxy) forward(w http.ResponseWriter, r *http.Request, rt http.RoundTripper) bool {
	body := &askedBody{ReadCloser: r.Body}
	resp, err := rt.RoundTrip(outgoing(r, body))
	if err != nil {
		if fault := body.fault.Load(); fault != nil {
			rest.WriteError(w, bodyError(*fault))
			return true
		}
		unlessGone(r)
		if r.Method == http.MethodGet {
			return false
		}
		rest.WriteError(w, api.Errorf(api.CodeUnknown, "the server went away while it answered: %w", err))
		return true
	}
	defer resp.Body.Close()
	copyAnswer(w, r, resp)
	return true
}
