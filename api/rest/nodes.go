package rest

import (
	"context"
	"net/http"
	"net/url"

	"github.com/go-chi/chi/v5"

	"cube/api"
)

// eligibility is the body of POST /v1/nodes/ID/eligibility. Absent and false differ.
type eligibility struct {
	Eligible *bool
	Reason   string `json:",omitempty"`
}

func (h *handler) nodeRoutes(r chi.Router) {
	r.Get("/nodes", listAll(h, h.cluster.ListNodes))
	r.Get("/nodes/{id}", read(h, "id", h.cluster.Node))
	r.Get("/nodes/{id}/allocations", list(h, "id", h.cluster.NodeAllocations))
	r.Post("/nodes/{id}/eligibility", h.setEligibility)
	r.Get("/nodes/{id}/drain", read(h, "id", h.cluster.NodeDrain))
	r.Post("/nodes/{id}/drain", writeWith(func(ctx context.Context, r *http.Request, how api.DrainRequest, m api.WriteMeta) (*api.NodeView, error) {
		return h.cluster.DrainNode(ctx, param(r, "id"), how, m)
	}))
	r.Post("/nodes/{id}/drain/cancel", writeWith(func(ctx context.Context, r *http.Request, how api.CancelDrainRequest, m api.WriteMeta) (*api.NodeView, error) {
		return h.cluster.CancelDrain(ctx, param(r, "id"), how, m)
	}))
	r.Get("/usage", h.usage)
}

// usage is what instances use; ?job=, ?node= and ?allocation= say of whom, each as often as wanted.
func (h *handler) usage(w http.ResponseWriter, r *http.Request) {
	v := r.URL.Query()
	q := api.UsageQuery{Jobs: v["job"], Nodes: v["node"], Allocations: v["allocation"], Stale: isStale(r)}
	if len(q.Jobs)+len(q.Nodes)+len(q.Allocations) == 0 {
		writeError(w, api.Errorf(api.CodeInvalid, "say whose use is asked for, with ?job=, ?node= or ?allocation="))
		return
	}
	report, err := h.cluster.Usage(r.Context(), q)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, report)
}

// Usage implements api.Measures.
func (c *Client) Usage(ctx context.Context, q api.UsageQuery) (*api.UsageReport, error) {
	v := url.Values{"job": q.Jobs, "node": q.Nodes, "allocation": q.Allocations}
	if q.Stale {
		v.Set("stale", "true")
	}
	report, _, err := get[*api.UsageReport](ctx, c, path("usage")+"?"+v.Encode(), api.Query{})
	return report, err
}

func (h *handler) setEligibility(w http.ResponseWriter, r *http.Request) {
	write(func(ctx context.Context, r *http.Request, m api.WriteMeta) (*api.NodeView, error) {
		var body eligibility
		if err := readJSON(w, r, &body); err != nil {
			return nil, err
		}
		if body.Eligible == nil {
			return nil, api.Errorf(api.CodeInvalid, `the body lacks Eligible; send {"Eligible": true} or {"Eligible": false}`)
		}
		return h.cluster.SetNodeEligibility(ctx, param(r, "id"), api.EligibilityRequest{Eligible: *body.Eligible, Reason: body.Reason}, m)
	})(w, r)
}

// ListNodes implements api.Nodes.
func (c *Client) ListNodes(ctx context.Context, q api.Query) ([]*api.NodeView, api.ReadMeta, error) {
	return get[[]*api.NodeView](ctx, c, path("nodes"), q)
}

// Node implements api.Nodes.
func (c *Client) Node(ctx context.Context, id string, q api.Query) (*api.NodeView, api.ReadMeta, error) {
	return get[*api.NodeView](ctx, c, path("nodes", id), q)
}

// NodeAllocations implements api.Nodes.
func (c *Client) NodeAllocations(ctx context.Context, id string, q api.Query) ([]*api.Allocation, api.ReadMeta, error) {
	return get[[]*api.Allocation](ctx, c, path("nodes", id, "allocations"), q)
}

// SetNodeEligibility implements api.Nodes.
func (c *Client) SetNodeEligibility(ctx context.Context, id string, r api.EligibilityRequest, w api.WriteMeta) (*api.NodeView, error) {
	return post[*api.NodeView](ctx, c, path("nodes", id, "eligibility"), eligibility{Eligible: &r.Eligible, Reason: r.Reason}, w)
}

// DrainNode implements api.Drains.
func (c *Client) DrainNode(ctx context.Context, id string, r api.DrainRequest, w api.WriteMeta) (*api.NodeView, error) {
	return post[*api.NodeView](ctx, c, path("nodes", id, "drain"), r, w)
}

// CancelDrain implements api.Drains.
func (c *Client) CancelDrain(ctx context.Context, id string, r api.CancelDrainRequest, w api.WriteMeta) (*api.NodeView, error) {
	return post[*api.NodeView](ctx, c, path("nodes", id, "drain", "cancel"), r, w)
}

// NodeDrain implements api.Drains.
func (c *Client) NodeDrain(ctx context.Context, id string, q api.Query) (*api.DrainStatus, api.ReadMeta, error) {
	return get[*api.DrainStatus](ctx, c, path("nodes", id, "drain"), q)
}

func (h *handler) volumeRoutes(r chi.Router) {
	r.Get("/volumes", listAll(h, h.cluster.ListVolumes))
	r.Post("/volumes", writeWith(func(ctx context.Context, _ *http.Request, o api.VolumeOrder, m api.WriteMeta) (*api.VolumeView, error) {
		return h.cluster.CreateVolume(ctx, o, m)
	}))
	r.Post("/volumes/{name}/delete", writeWith(func(ctx context.Context, r *http.Request, how api.VolumeRemoval, m api.WriteMeta) (*api.VolumeView, error) {
		return h.cluster.DeleteVolume(ctx, param(r, "name"), how, m)
	}))
}

// ListVolumes implements api.Volumes.
func (c *Client) ListVolumes(ctx context.Context, q api.Query) ([]*api.VolumeView, api.ReadMeta, error) {
	return get[[]*api.VolumeView](ctx, c, path("volumes"), q)
}

// CreateVolume implements api.Volumes.
func (c *Client) CreateVolume(ctx context.Context, o api.VolumeOrder, w api.WriteMeta) (*api.VolumeView, error) {
	return post[*api.VolumeView](ctx, c, path("volumes"), o, w)
}

// DeleteVolume implements api.Volumes.
func (c *Client) DeleteVolume(ctx context.Context, name string, r api.VolumeRemoval, w api.WriteMeta) (*api.VolumeView, error) {
	return post[*api.VolumeView](ctx, c, path("volumes", name, "delete"), r, w)
}
