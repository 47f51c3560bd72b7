package rest

import (
	"context"
	"net/http"

	"github.com/go-chi/chi/v5"

	"cube/api"
)

func (h *handler) jobRoutes(r chi.Router) {
	r.Get("/jobs", listAll(h, h.cluster.ListJobs))
	r.Post("/jobs", h.registerJobs)
	r.Post("/validate", h.validateJobs)
	r.Get("/jobs/{name}", read(h, "name", h.cluster.Job))
	r.Get("/jobs/{name}/versions", list(h, "name", h.cluster.JobVersions))
	r.Get("/jobs/{name}/allocations", list(h, "name", h.cluster.JobAllocations))
	r.Get("/jobs/{name}/evaluations", list(h, "name", h.cluster.JobEvaluations))
	r.Post("/jobs/{name}/stop", writeWith(func(ctx context.Context, r *http.Request, how api.StopRequest, m api.WriteMeta) (*api.EvaluationView, error) {
		return h.cluster.StopJob(ctx, param(r, "name"), how, m)
	}))
	r.Post("/jobs/{name}/purge", write(func(ctx context.Context, r *http.Request, m api.WriteMeta) (struct{}, error) {
		return struct{}{}, h.cluster.PurgeJob(ctx, param(r, "name"), m)
	}))
}

func (h *handler) registerJobs(w http.ResponseWriter, r *http.Request) {
	write(func(ctx context.Context, r *http.Request, m api.WriteMeta) (*api.Registered, error) {
		s, err := readSubmission(w, r)
		if err != nil {
			return nil, err
		}
		return h.cluster.RegisterJobs(ctx, s, m)
	})(w, r)
}

func (h *handler) validateJobs(w http.ResponseWriter, r *http.Request) {
	write(func(ctx context.Context, r *http.Request, _ api.WriteMeta) (*api.Validation, error) {
		s, err := readSubmission(w, r)
		if err != nil {
			return nil, err
		}
		return h.cluster.ValidateJobs(ctx, s)
	})(w, r)
}

func readSubmission(w http.ResponseWriter, r *http.Request) (api.Submission, error) {
	var s api.Submission
	if err := readJSON(w, r, &s); err != nil {
		return s, err
	}
	switch {
	case s.Job != nil && s.Source != "":
		return s, api.Errorf(api.CodeInvalid, "the body has both Source and Job; give one of them")
	case s.Job == nil && s.Source == "":
		return s, api.Errorf(api.CodeInvalid, `the body has neither Source nor Job; send {"Source": "task \"web\" { ... }"} or {"Job": {...}}`)
	case len(s.Source) > api.MaxSourceBytes:
		return s, api.Errorf(api.CodeTooLarge, "the source has %d bytes; at most %d are taken", len(s.Source), api.MaxSourceBytes)
	}
	return s, nil
}

// RegisterJobs implements api.Jobs.
func (c *Client) RegisterJobs(ctx context.Context, s api.Submission, w api.WriteMeta) (*api.Registered, error) {
	return post[*api.Registered](ctx, c, path("jobs"), s, w)
}

// ValidateJobs implements api.Jobs.
func (c *Client) ValidateJobs(ctx context.Context, s api.Submission) (*api.Validation, error) {
	return post[*api.Validation](ctx, c, path("validate"), s, api.WriteMeta{})
}

// StopJob implements api.Jobs.
func (c *Client) StopJob(ctx context.Context, name string, r api.StopRequest, w api.WriteMeta) (*api.EvaluationView, error) {
	return post[*api.EvaluationView](ctx, c, path("jobs", name, "stop"), r, w)
}

// PurgeJob implements api.Jobs.
func (c *Client) PurgeJob(ctx context.Context, name string, w api.WriteMeta) error {
	_, err := post[struct{}](ctx, c, path("jobs", name, "purge"), struct{}{}, w)
	return err
}

// ListJobs implements api.Jobs.
func (c *Client) ListJobs(ctx context.Context, q api.Query) ([]*api.JobSummary, api.ReadMeta, error) {
	return get[[]*api.JobSummary](ctx, c, path("jobs"), q)
}

// Job implements api.Jobs.
func (c *Client) Job(ctx context.Context, name string, q api.Query) (*api.JobStatus, api.ReadMeta, error) {
	return get[*api.JobStatus](ctx, c, path("jobs", name), q)
}

// JobVersions implements api.Jobs.
func (c *Client) JobVersions(ctx context.Context, name string, q api.Query) ([]*api.Job, api.ReadMeta, error) {
	return get[[]*api.Job](ctx, c, path("jobs", name, "versions"), q)
}

// JobAllocations implements api.Jobs.
func (c *Client) JobAllocations(ctx context.Context, name string, q api.Query) ([]*api.Allocation, api.ReadMeta, error) {
	return get[[]*api.Allocation](ctx, c, path("jobs", name, "allocations"), q)
}

// JobEvaluations implements api.Jobs.
func (c *Client) JobEvaluations(ctx context.Context, name string, q api.Query) ([]*api.EvaluationView, api.ReadMeta, error) {
	return get[[]*api.EvaluationView](ctx, c, path("jobs", name, "evaluations"), q)
}

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
