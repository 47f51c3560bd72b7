package rest

import (
	"context"
	"net/http"

	"github.com/go-chi/chi/v5"

	"cube/api"
)

func (h *handler) historyRoutes(r chi.Router) {
	r.Get("/jobs/{name}/history", list(h, "name", h.cluster.JobHistory))
	r.Post("/jobs/{name}/tag", writeAbout(h.cluster.TagVersion))
	r.Post("/jobs/{name}/revert", writeAbout(h.cluster.RevertJob))
	r.Post("/jobs/{name}/scale", writeAbout(h.scaleJob))
	r.Post("/jobs/{name}/restart", writeAbout(h.cluster.RestartJob))
	r.Post("/jobs/{name}/dispatch", writeAbout(h.cluster.DispatchJob))
}

// scaling is the body of POST /v1/jobs/NAME/scale, an api.ScaleRequest in which no count and 0 differ.
type scaling struct {
	Task       string `json:",omitempty"`
	Count      *int
	CheckIndex *uint64 `json:",omitempty"`
}

func (h *handler) scaleJob(ctx context.Context, name string, in scaling, m api.WriteMeta) (*api.Registered, error) {
	if in.Count == nil {
		return nil, api.Errorf(api.CodeInvalid, `the body lacks Count; send {"Count": 3}`)
	}
	return h.cluster.ScaleJob(ctx, name, api.ScaleRequest{Task: in.Task, Count: *in.Count, CheckIndex: in.CheckIndex}, m)
}

// writeAbout makes a handler of a write about one job, with a body that says what.
func writeAbout[In, Out any](f func(ctx context.Context, name string, in In, m api.WriteMeta) (Out, error)) http.HandlerFunc {
	return writeTo("name", f)
}

// writeTo makes a handler of a write about what a part of the path names, with a body that says what.
func writeTo[In, Out any](key string, f func(ctx context.Context, name string, in In, m api.WriteMeta) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		write(func(ctx context.Context, r *http.Request, m api.WriteMeta) (Out, error) {
			var in In
			if err := readJSON(w, r, &in); err != nil {
				var none Out
				return none, err
			}
			return f(ctx, param(r, key), in, m)
		})(w, r)
	}
}

// JobHistory implements api.History.
func (c *Client) JobHistory(ctx context.Context, name string, q api.Query) ([]*api.Revision, api.ReadMeta, error) {
	return get[[]*api.Revision](ctx, c, path("jobs", name, "history"), q)
}

// TagVersion implements api.History.
func (c *Client) TagVersion(ctx context.Context, name string, r api.TagRequest, w api.WriteMeta) (*api.Job, error) {
	return post[*api.Job](ctx, c, path("jobs", name, "tag"), r, w)
}

// RevertJob implements api.History.
func (c *Client) RevertJob(ctx context.Context, name string, r api.RevertRequest, w api.WriteMeta) (*api.Registered, error) {
	return post[*api.Registered](ctx, c, path("jobs", name, "revert"), r, w)
}

// ScaleJob implements api.History.
func (c *Client) ScaleJob(ctx context.Context, name string, r api.ScaleRequest, w api.WriteMeta) (*api.Registered, error) {
	return post[*api.Registered](ctx, c, path("jobs", name, "scale"), r, w)
}

// RestartJob implements api.History.
func (c *Client) RestartJob(ctx context.Context, name string, r api.RestartRequest, w api.WriteMeta) (*api.Registered, error) {
	return post[*api.Registered](ctx, c, path("jobs", name, "restart"), r, w)
}

// DispatchJob implements api.Dispatches.
func (c *Client) DispatchJob(ctx context.Context, name string, r api.DispatchRequest, w api.WriteMeta) (*api.Registered, error) {
	return post[*api.Registered](ctx, c, path("jobs", name, "dispatch"), r, w)
}

func (h *handler) deploymentRoutes(r chi.Router) {
	r.Get("/deployments", listAll(h, h.cluster.ListDeployments))
	r.Get("/deployments/{id}", read(h, "id", h.cluster.Deployment))
	r.Post("/deployments/{id}", writeTo("id", h.cluster.SteerDeployment))
}

// ListDeployments implements api.Deployments.
func (c *Client) ListDeployments(ctx context.Context, q api.Query) ([]*api.DeploymentView, api.ReadMeta, error) {
	return get[[]*api.DeploymentView](ctx, c, path("deployments"), q)
}

// Deployment implements api.Deployments.
func (c *Client) Deployment(ctx context.Context, id string, q api.Query) (*api.DeploymentView, api.ReadMeta, error) {
	return get[*api.DeploymentView](ctx, c, path("deployments", id), q)
}

// SteerDeployment implements api.Deployments.
func (c *Client) SteerDeployment(ctx context.Context, id string, o api.DeploymentOrder, w api.WriteMeta) (*api.DeploymentView, error) {
	return post[*api.DeploymentView](ctx, c, path("deployments", id), o, w)
}
