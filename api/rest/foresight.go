package rest

import (
	"context"
	"net/http"

	"github.com/go-chi/chi/v5"

	"cube/api"
)

func (h *handler) foresightRoutes(r chi.Router) {
	r.Post("/plan", h.planJobs)
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
