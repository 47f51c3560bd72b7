package rest

import (
	"context"
	"net/http"

	"github.com/go-chi/chi/v5"

	"cube/api"
)

func (h *handler) evaluationRoutes(r chi.Router) {
	r.Get("/evaluations", list(func(ctx context.Context, r *http.Request, q api.Query) ([]*api.EvaluationView, api.ReadMeta, error) {
		return h.cluster.ListEvaluations(ctx, q)
	}))
	r.Get("/evaluations/{id}", read(func(ctx context.Context, r *http.Request, q api.Query) (*api.EvaluationView, api.ReadMeta, error) {
		return h.cluster.Evaluation(ctx, param(r, "id"), q)
	}))
}

// ListEvaluations implements api.Evaluations.
func (c *Client) ListEvaluations(ctx context.Context, q api.Query) ([]*api.EvaluationView, api.ReadMeta, error) {
	return get[[]*api.EvaluationView](ctx, c, path("evaluations"), q)
}

// Evaluation implements api.Evaluations.
func (c *Client) Evaluation(ctx context.Context, id string, q api.Query) (*api.EvaluationView, api.ReadMeta, error) {
	return get[*api.EvaluationView](ctx, c, path("evaluations", id), q)
}
