package rest

import (
	"context"
	"net/http"

	"github.com/go-chi/chi/v5"

	"cube/api"
)

func (h *handler) foresightRoutes(r chi.Router) {
	r.Post("/plan", h.planJobs)
	r.Post("/simulate", h.simulate)
	r.Get("/jobs/{name}/explain", func(w http.ResponseWriter, r *http.Request) {
		d, err := h.cluster.ExplainJob(r.Context(), param(r, "name"))
		if err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, d)
	})
}

func (h *handler) planJobs(w http.ResponseWriter, r *http.Request) {
	write(func(ctx context.Context, r *http.Request, _ api.WriteMeta) (*api.Forecast, error) {
		s, err := readSubmission(w, r)
		if err != nil {
			return nil, err
		}
		return h.cluster.PlanJobs(ctx, s)
	})(w, r)
}

// PlanJobs implements api.Foresight.
func (c *Client) PlanJobs(ctx context.Context, s api.Submission) (*api.Forecast, error) {
	return post[*api.Forecast](ctx, c, path("plan"), s, api.WriteMeta{})
}

// ExplainJob implements api.Foresight.
func (c *Client) ExplainJob(ctx context.Context, name string) (*api.JobDiagnosis, error) {
	d, _, err := get[*api.JobDiagnosis](ctx, c, path("jobs", name, "explain"), api.Query{})
	return d, err
}

// simulate is a read, though it has a body: asked for a stale answer, any server gives it.
func (h *handler) simulate(w http.ResponseWriter, r *http.Request) {
	write(func(ctx context.Context, r *http.Request, _ api.WriteMeta) (*api.Simulation, error) {
		q, err := parseQuery(r.URL.Query())
		if err != nil {
			return nil, err
		}
		var asked api.SimulationRequest
		if err := readJSON(w, r, &asked); err != nil {
			return nil, err
		}
		s, meta, err := h.cluster.Simulate(ctx, asked, q)
		if err == nil && meta.Stale {
			w.Header().Set(HeaderStale, "true")
		}
		return s, err
	})(w, r)
}

// Simulate implements api.Foresight.
func (c *Client) Simulate(ctx context.Context, r api.SimulationRequest, q api.Query) (*api.Simulation, api.ReadMeta, error) {
	to := path("simulate")
	if q.Stale {
		to += "?stale=true"
	}
	s, err := post[*api.Simulation](ctx, c, to, r, api.WriteMeta{})
	if err != nil {
		return nil, api.ReadMeta{}, err
	}
	return s, api.ReadMeta{Index: s.Index, Stale: q.Stale}, nil
}

func (h *handler) rebalanceRoutes(r chi.Router) {
	r.Get("/rebalance", read(h, "", func(ctx context.Context, _ string, q api.Query) (*api.RebalanceStatus, api.ReadMeta, error) {
		return h.cluster.Rebalance(ctx, q)
	}))
	r.Post("/rebalance", writeWith(func(ctx context.Context, _ *http.Request, how api.RebalanceRequest, m api.WriteMeta) (*api.RebalanceStatus, error) {
		return h.cluster.BeginRebalance(ctx, how, m)
	}))
	r.Post("/rebalance/plan", writeWith(func(ctx context.Context, _ *http.Request, how api.RebalanceRequest, _ api.WriteMeta) (*api.RebalancePlan, error) {
		return h.cluster.PlanRebalance(ctx, how)
	}))
	r.Post("/rebalance/cancel", write(func(ctx context.Context, _ *http.Request, m api.WriteMeta) (*api.RebalanceStatus, error) {
		return h.cluster.CancelRebalance(ctx, m)
	}))
}

// PlanRebalance implements api.Rebalances.
func (c *Client) PlanRebalance(ctx context.Context, r api.RebalanceRequest) (*api.RebalancePlan, error) {
	return post[*api.RebalancePlan](ctx, c, path("rebalance", "plan"), r, api.WriteMeta{})
}

// BeginRebalance implements api.Rebalances.
func (c *Client) BeginRebalance(ctx context.Context, r api.RebalanceRequest, w api.WriteMeta) (*api.RebalanceStatus, error) {
	return post[*api.RebalanceStatus](ctx, c, path("rebalance"), r, w)
}

// CancelRebalance implements api.Rebalances.
func (c *Client) CancelRebalance(ctx context.Context, w api.WriteMeta) (*api.RebalanceStatus, error) {
	return post[*api.RebalanceStatus](ctx, c, path("rebalance", "cancel"), nil, w)
}

// Rebalance implements api.Rebalances.
func (c *Client) Rebalance(ctx context.Context, q api.Query) (*api.RebalanceStatus, api.ReadMeta, error) {
	return get[*api.RebalanceStatus](ctx, c, path("rebalance"), q)
}
