package rest

import (
	"context"

	"github.com/go-chi/chi/v5"

	"cube/api"
)

func (h *handler) evaluationRoutes(r chi.Router) {
	r.Get("/evaluations", listAll(h, h.cluster.ListEvaluations))
	r.Get("/evaluations/{id}", read(h, "id", h.cluster.Evaluation))
}

// ListEvaluations implements api.Evaluations.
func (c *Client) ListEvaluations(ctx context.Context, q api.Query) ([]*api.EvaluationView, api.ReadMeta, error) {
	return get[[]*api.EvaluationView](ctx, c, path("evaluations"), q)
}

// Evaluation implements api.Evaluations.
func (c *Client) Evaluation(ctx context.Context, id string, q api.Query) (*api.EvaluationView, api.ReadMeta, error) {
	return get[*api.EvaluationView](ctx, c, path("evaluations", id), q)
}
