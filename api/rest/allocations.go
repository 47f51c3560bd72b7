package rest

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/go-chi/chi/v5"

	"cube/api"
)

func (h *handler) allocationRoutes(r chi.Router) {
	r.Get("/allocations", listAll(h, h.cluster.ListAllocations))
	r.Get("/allocations/{id}", read(h, "id", h.cluster.Allocation))
	r.Post("/allocations/{id}/stop", write(func(ctx context.Context, r *http.Request, m api.WriteMeta) (*api.EvaluationView, error) {
		return h.cluster.StopAllocation(ctx, param(r, "id"), m)
	}))
	r.Get("/allocations/{id}/logs", func(w http.ResponseWriter, r *http.Request) {
		serveLogs(w, r, func(ctx context.Context, req api.LogRequest) (io.ReadCloser, error) {
			return h.cluster.Logs(ctx, param(r, "id"), req)
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
	req := api.LogRequest{Stream: v.Get("stream"), Tail: -1, Follow: v.Has("follow") && v.Get("follow") != "false"}
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
	return req, nil
}

func logQuery(r api.LogRequest) string {
	v := url.Values{"tail": {strconv.Itoa(r.Tail)}}
	if r.Stream != "" {
		v.Set("stream", r.Stream)
	}
	if r.Follow {
		v.Set("follow", "true")
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
func (c *Client) StopAllocation(ctx context.Context, id string, w api.WriteMeta) (*api.EvaluationView, error) {
	return post[*api.EvaluationView](ctx, c, path("allocations", id, "stop"), struct{}{}, w)
}

// Logs implements api.Allocations.
func (c *Client) Logs(ctx context.Context, id string, r api.LogRequest) (io.ReadCloser, error) {
	resp, err := c.send(ctx, http.MethodGet, path("allocations", id, "logs")+logQuery(r), nil, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
