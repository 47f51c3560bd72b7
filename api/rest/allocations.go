package rest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"cube/api"
)

func (h *handler) allocationRoutes(r chi.Router) {
	r.Get("/allocations", listAll(h, h.cluster.ListAllocations))
	r.Get("/allocations/{id}", read(h, "id", h.cluster.Allocation))
	r.Post("/allocations/{id}/stop", writeWith(func(ctx context.Context, r *http.Request, how api.StopRequest, m api.WriteMeta) (*api.EvaluationView, error) {
		return h.cluster.StopAllocation(ctx, param(r, "id"), how, m)
	}))
	r.Get("/allocations/{id}/logs", func(w http.ResponseWriter, r *http.Request) {
		serveLogs(w, r, func(ctx context.Context, req api.LogRequest) (io.ReadCloser, error) {
			return h.cluster.Logs(ctx, param(r, "id"), req)
		})
	})
	r.Post("/allocations/{id}/exec", func(w http.ResponseWriter, r *http.Request) {
		serveExec(w, r, func(ctx context.Context, req api.ExecRequest) (io.ReadWriteCloser, error) {
			return h.cluster.Exec(ctx, param(r, "id"), req)
		})
	})
}

// serveLogs answers a log request with what open gives, as plain text, each piece as it comes.
func serveLogs(w http.ResponseWriter, r *http.Request, open func(context.Context, api.LogRequest) (io.ReadCloser, error)) {
	req, err := parseLogRequest(r.URL.Query())
	if err != nil {
		writeError(w, err)
		return
	}
	body, err := open(r.Context(), req)
	if err != nil {
		writeError(w, err)
		return
	}
	defer body.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	control.Flush() // a follower of a silent instance must see that it is connected
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
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
			panic(http.ErrAbortHandler) // the only way left to tell the reader that this is not the end
		}
	}
}

func parseLogRequest(v url.Values) (api.LogRequest, error) {
	req := api.LogRequest{Stream: v.Get("stream"), Part: v.Get("part"), Tail: -1, Follow: v.Has("follow") && v.Get("follow") != "false"}
	switch req.Stream {
	case "", "stdout", "stderr":
	default:
		return req, api.Errorf(api.CodeInvalid, "stream=%.40q is neither stdout nor stderr", req.Stream)
	}
	if s := v.Get("tail"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < -1 {
			return req, api.Errorf(api.CodeInvalid, "tail=%.40q is not a number of lines", s)
		}
		req.Tail = n
	}
	if s := v.Get("since"); s != "" {
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return req, api.Errorf(api.CodeInvalid, "since=%.40q is no time such as 2026-11-23T10:00:00Z", s)
		}
		req.Since = at
	}
	req.Timestamps = v.Has("timestamps") && v.Get("timestamps") != "false"
	return req, nil
}

func logQuery(r api.LogRequest) string {
	v := url.Values{"tail": {strconv.Itoa(r.Tail)}}
	if r.Stream != "" {
		v.Set("stream", r.Stream)
	}
	if r.Part != "" {
		v.Set("part", r.Part)
	}
	if r.Follow {
		v.Set("follow", "true")
	}
	if !r.Since.IsZero() {
		v.Set("since", r.Since.UTC().Format(time.RFC3339Nano))
	}
	if r.Timestamps {
		v.Set("timestamps", "true")
	}
	return "?" + v.Encode()
}

// ListAllocations implements api.Allocations.
func (c *Client) ListAllocations(ctx context.Context, q api.Query) ([]*api.Allocation, api.ReadMeta, error) {
	return get[[]*api.Allocation](ctx, c, path("allocations"), q)
}

// Allocation implements api.Allocations.
func (c *Client) Allocation(ctx context.Context, id string, q api.Query) (*api.Allocation, api.ReadMeta, error) {
	return get[*api.Allocation](ctx, c, path("allocations", id), q)
}

// StopAllocation implements api.Allocations.
func (c *Client) StopAllocation(ctx context.Context, id string, r api.StopRequest, w api.WriteMeta) (*api.EvaluationView, error) {
	return post[*api.EvaluationView](ctx, c, path("allocations", id, "stop"), r, w)
}

// Logs implements api.Allocations.
func (c *Client) Logs(ctx context.Context, id string, r api.LogRequest) (io.ReadCloser, error) {
	resp, err := c.send(ctx, http.MethodGet, path("allocations", id, "logs")+logQuery(r), nil, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// protocolExec is what a connection speaks once it has been switched over: package attach's frames.
const protocolExec = "cube-exec/1"

// serveExec answers a request for a command. What is wrong is said in HTTP; then the connection is switched over, and what
// comes on one side goes out on the other until either ends.
func serveExec(w http.ResponseWriter, r *http.Request, open func(context.Context, api.ExecRequest) (io.ReadWriteCloser, error)) {
	var req api.ExecRequest
	if err := readJSON(w, r, &req); err != nil {
		writeError(w, err)
		return
	}
	if err := req.Check(); err != nil {
		writeError(w, err)
		return
	}
	if r.Header.Get("Upgrade") != protocolExec {
		writeError(w, api.Errorf(api.CodeInvalid, "this takes a connection that may be switched over: send Connection: Upgrade and Upgrade: %s", protocolExec))
		return
	}
	stream, err := open(r.Context(), req)
	if err != nil {
		writeError(w, err)
		return
	}
	switchOver(w, r, protocolExec, stream)
}

// SwitchOver passes on an answer by which the other side switches its connection over, and then what goes over it in both
// directions until either side ends it or the request's context does.
func SwitchOver(w http.ResponseWriter, r *http.Request, resp *http.Response) {
	stream, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		resp.Body.Close()
		writeError(w, api.Errorf(api.CodeInternal, "%s switches over to %.40q, which cannot be passed on", r.URL.Path, resp.Header.Get("Upgrade")))
		return
	}
	switchOver(w, r, resp.Header.Get("Upgrade"), stream)
}

// Switching reports whether a request asks for its connection to be switched over, and to what.
func Switching(r *http.Request) (protocol string, ok bool) {
	protocol = r.Header.Get("Upgrade")
	return protocol, protocol == protocolExec
}

func switchOver(w http.ResponseWriter, r *http.Request, protocol string, stream io.ReadWriteCloser) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		stream.Close()
		writeError(w, api.Errorf(api.CodeInternal, "switch the connection over: %w", err))
		return
	}
	head := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + protocol + "\r\n\r\n"
	if _, err := io.WriteString(conn, head); err != nil {
		stream.Close()
		conn.Close()
		return // there is nobody left to tell
	}
	splice(r.Context(), &hijacked{conn, buffered.Reader}, stream)
}

// hijacked is a connection taken from the HTTP server, which may have read some of it already.
type hijacked struct {
	net.Conn
	in *bufio.Reader
}

func (h *hijacked) Read(p []byte) (int, error) { return h.in.Read(p) }

// splice passes on what comes on each side to the other, until one ends or ctx does. Then both are closed.
func splice(ctx context.Context, a, b io.ReadWriteCloser) {
	both := func() { a.Close(); b.Close() }
	stop := context.AfterFunc(ctx, both)
	defer stop()
	var copying sync.WaitGroup
	for _, way := range [][2]io.ReadWriteCloser{{a, b}, {b, a}} {
		copying.Go(func() {
			defer both()
			buffer := make([]byte, 32<<10)
			_, _ = io.CopyBuffer(struct{ io.Writer }{way[0]}, struct{ io.Reader }{way[1]}, buffer) // how it ended, both sides see for themselves
		})
	}
	copying.Wait()
}

// askExec asks for a command and returns the connection to it.
func askExec(ctx context.Context, h *http.Client, url string, r api.ExecRequest) (*http.Response, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode the request for a command: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the request for a command: %w", err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Connection": {"Upgrade"}, "Upgrade": {protocolExec}}
	return h.Do(req)
}

// switched returns the connection that an answer gives, or the error that it carries.
func switched(resp *http.Response, from string) (io.ReadWriteCloser, error) {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		stream, ok := resp.Body.(io.ReadWriteCloser)
		if ok && strings.EqualFold(resp.Header.Get("Upgrade"), protocolExec) {
			return stream, nil
		}
		resp.Body.Close()
		return nil, api.Errorf(api.CodeIncompatible, "%s switches over to %.40q instead of %s", from, resp.Header.Get("Upgrade"), protocolExec)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 {
		return nil, api.Errorf(api.CodeIncompatible, "%s does not know how to run a command; update it", from)
	}
	return nil, answerError(resp, from)
}

// Exec implements api.Allocations.
func (c *Client) Exec(ctx context.Context, id string, r api.ExecRequest) (io.ReadWriteCloser, error) {
	resp, err := askExec(ctx, c.http, c.base+path("allocations", id, "exec"), r)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	return switched(resp, c.shown)
}
