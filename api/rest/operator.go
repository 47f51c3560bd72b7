package rest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"

	"cube/api"
)

func (h *handler) operatorRoutes(r chi.Router) {
	r.Get("/health", h.health)
	r.Get("/leader", h.fact(func(ctx context.Context) (any, error) { return h.cluster.Leader(ctx) }))
	r.Get("/members", h.fact(func(ctx context.Context) (any, error) {
		m, err := h.cluster.Members(ctx)
		if m == nil {
			m = []api.Member{}
		}
		return m, err
	}))
	r.Get("/status", read(h, "", func(ctx context.Context, _ string, q api.Query) (*api.ClusterStatus, api.ReadMeta, error) {
		return h.cluster.ClusterStatus(ctx, q)
	}))
	r.Get("/operator/raft/peers", h.fact(func(ctx context.Context) (any, error) {
		p, err := h.cluster.RaftPeers(ctx)
		if p == nil {
			p = []api.RaftPeer{}
		}
		return p, err
	}))
	r.Post("/operator/raft/peers/{id}/remove", write(func(ctx context.Context, r *http.Request, m api.WriteMeta) (struct{}, error) {
		return struct{}{}, h.cluster.RemovePeer(ctx, param(r, "id"), m)
	}))
	r.Post("/operator/leave", write(func(ctx context.Context, r *http.Request, _ api.WriteMeta) (struct{}, error) {
		return struct{}{}, h.cluster.Leave(ctx)
	}))
	r.Get("/operator/snapshot", h.saveSnapshot)
	r.Put("/operator/snapshot", h.restoreSnapshot)
}

// health answers 200 when the agent can do its work and 503, with the same body, while it knows no leader.
func (h *handler) health(w http.ResponseWriter, r *http.Request) {
	v, err := h.cluster.Health(r.Context())
	if err != nil {
		writeError(w, err)
		return
	}
	status := http.StatusOK
	if v.Leader == "" {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set(HeaderIndex, strconv.FormatUint(v.Index, 10))
	writeJSON(w, status, v)
}

// fact is a read that has no index of its own; it carries what the agent has applied.
func (h *handler) fact(f func(ctx context.Context) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r.Context())
		if err != nil {
			writeError(w, err)
			return
		}
		if health, err := h.cluster.Health(r.Context()); err == nil {
			w.Header().Set(HeaderIndex, strconv.FormatUint(health.Index, 10))
		}
		writeJSON(w, http.StatusOK, v)
	}
}

func (h *handler) saveSnapshot(w http.ResponseWriter, r *http.Request) {
	body, err := h.cluster.SaveSnapshot(r.Context())
	if err != nil {
		writeError(w, err)
		return
	}
	defer body.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := io.Copy(w, body); err != nil {
		panic(http.ErrAbortHandler) // so that the reader does not take a part for the whole
	}
}

func (h *handler) restoreSnapshot(w http.ResponseWriter, r *http.Request) {
	write(func(ctx context.Context, r *http.Request, m api.WriteMeta) (struct{}, error) {
		if r.ContentLength > maxSnapshotBody {
			return struct{}{}, api.Errorf(api.CodeTooLarge, "the snapshot has %d bytes; at most %d are taken", r.ContentLength, int64(maxSnapshotBody))
		}
		return struct{}{}, h.cluster.RestoreSnapshot(ctx, http.MaxBytesReader(w, r.Body, maxSnapshotBody), m)
	})(w, r)
}

// Health implements api.Operator. An agent that knows no leader answers too, with Leader empty.
func (c *Client) Health(ctx context.Context) (*api.Health, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path("health"), nil)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "ask %s for its health: %w", c.shown, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	defer resp.Body.Close()
	return decodeHealth(resp, c.shown)
}

// Leader implements api.Operator.
func (c *Client) Leader(ctx context.Context) (*api.Leader, error) {
	v, _, err := get[*api.Leader](ctx, c, path("leader"), api.Query{})
	return v, err
}

// Members implements api.Operator.
func (c *Client) Members(ctx context.Context) ([]api.Member, error) {
	v, _, err := get[[]api.Member](ctx, c, path("members"), api.Query{})
	return v, err
}

// ClusterStatus implements api.Operator.
func (c *Client) ClusterStatus(ctx context.Context, q api.Query) (*api.ClusterStatus, api.ReadMeta, error) {
	return get[*api.ClusterStatus](ctx, c, path("status"), q)
}

// RaftPeers implements api.Operator.
func (c *Client) RaftPeers(ctx context.Context) ([]api.RaftPeer, error) {
	v, _, err := get[[]api.RaftPeer](ctx, c, path("operator", "raft", "peers"), api.Query{})
	return v, err
}

// RemovePeer implements api.Operator.
func (c *Client) RemovePeer(ctx context.Context, id string, w api.WriteMeta) error {
	_, err := post[struct{}](ctx, c, path("operator", "raft", "peers", id, "remove"), struct{}{}, w)
	return err
}

// Leave implements api.Operator.
func (c *Client) Leave(ctx context.Context) error {
	_, err := post[struct{}](ctx, c, path("operator", "leave"), struct{}{}, api.WriteMeta{})
	return err
}

// SaveSnapshot implements api.Operator.
func (c *Client) SaveSnapshot(ctx context.Context) (io.ReadCloser, error) {
	resp, err := c.send(ctx, http.MethodGet, path("operator", "snapshot"), nil, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// RestoreSnapshot implements api.Operator.
func (c *Client) RestoreSnapshot(ctx context.Context, r io.Reader, w api.WriteMeta) error {
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	setMeta(header, w)
	resp, err := c.send(ctx, http.MethodPut, path("operator", "snapshot"), header, r)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func decodeHealth(resp *http.Response, from string) (*api.Health, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, api.Errorf(api.CodeUnavailable, "read the health of %s: %w", from, err)
	}
	var v struct {
		api.Health
		Code    api.Code
		Message string
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, api.Errorf(api.CodeInternal, "%s answered %s to a question of health: %w", from, resp.Status, err)
	}
	if v.Code != "" {
		return nil, &api.Error{Code: v.Code, Message: v.Message}
	}
	v.Health.Node = resp.Header.Get(HeaderNode)
	return &v.Health, nil
}
