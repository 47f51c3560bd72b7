package rest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"

	"cube/api"
)

const (
	pathPing   = "/v1/worker/ping"
	pathStats  = "/v1/worker/stats"
	pathUsage  = "/v1/worker/usage"
	pathVolume = "/v1/worker/volume"
	pathLogs   = "/v1/worker/logs/" // then the allocation's ID as a number
	pathExec   = "/v1/worker/exec/" // likewise
)

// NewWorkerHandler serves what servers ask of a node, on the node's end of its session.
func NewWorkerHandler(worker api.Worker) http.Handler {
	r := chi.NewRouter()
	r.Post(pathPing, exchange(func(ctx context.Context, _ *struct{}) (*struct{}, error) {
		return &struct{}{}, worker.Ping(ctx)
	}))
	r.Post(pathStats, exchange(func(ctx context.Context, _ *struct{}) (*api.NodeLoad, error) {
		return worker.Stats(ctx)
	}))
	r.Post(pathUsage, exchange(func(ctx context.Context, ids *[]api.ID) (*[]api.AllocationUsage, error) {
		measured, err := worker.Usage(ctx, *ids)
		return &measured, err
	}))
	r.Post(pathVolume, exchange(func(ctx context.Context, c *api.VolumeChange) (*api.VolumeDone, error) {
		return worker.Volume(ctx, *c)
	}))
	r.Get(pathLogs+"{id}", numbered(func(w http.ResponseWriter, r *http.Request, id api.ID) {
		serveLogs(w, r, func(ctx context.Context, req api.LogRequest) (io.ReadCloser, error) { return worker.Logs(ctx, id, req) })
	}))
	r.Post(pathExec+"{id}", numbered(func(w http.ResponseWriter, r *http.Request, id api.ID) {
		serveExec(w, r, func(ctx context.Context, req api.ExecRequest) (io.ReadWriteCloser, error) {
			return worker.Exec(ctx, id, req)
		})
	}))
	return r
}

// numbered makes a handler of one that is about an allocation.
func numbered(h func(http.ResponseWriter, *http.Request, api.ID)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.ParseUint(chi.URLParam(r, "id"), 10, 64)
		if err != nil {
			writeError(w, api.Errorf(api.CodeInvalid, "%.40q is not an allocation's number", chi.URLParam(r, "id")))
			return
		}
		h(w, r, api.ID(id))
	}
}

// worker is api.Worker over a node's session.
type worker struct{ machine }

// NewWorker returns the node behind a session's transport.
func NewWorker(rt http.RoundTripper) api.Worker { return worker{machine{&http.Client{Transport: rt}}} }

func (w worker) Ping(ctx context.Context) error {
	_, err := call[struct{}, struct{}](ctx, w.machine, pathPing, &struct{}{})
	return err
}

func (w worker) Stats(ctx context.Context) (*api.NodeLoad, error) {
	return call[struct{}, api.NodeLoad](ctx, w.machine, pathStats, &struct{}{})
}

func (w worker) Usage(ctx context.Context, allocations []api.ID) ([]api.AllocationUsage, error) {
	measured, err := call[[]api.ID, []api.AllocationUsage](ctx, w.machine, pathUsage, &allocations)
	if api.CodeOf(err) == api.CodeNotFound {
		err = api.Errorf(api.CodeNotYet, "its agent does not measure instances yet; update it")
	}
	if err != nil {
		return nil, err
	}
	return *measured, nil
}

func (w worker) Logs(ctx context.Context, allocation api.ID, r api.LogRequest) (io.ReadCloser, error) {
	url := "http://cube" + pathLogs + strconv.FormatUint(uint64(allocation), 10) + logQuery(r)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("make the request for logs: %w", err)
	}
	resp, err := w.http.Do(req)
	if err != nil {
		return nil, api.Errorf(api.CodeUnavailable, "the node does not answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, answerError(resp, "the node")
	}
	return resp.Body, nil
}

func (w worker) Exec(ctx context.Context, allocation api.ID, r api.ExecRequest) (io.ReadWriteCloser, error) {
	resp, err := askExec(ctx, w.http, "http://cube"+pathExec+strconv.FormatUint(uint64(allocation), 10), r)
	if err != nil {
		return nil, api.Errorf(api.CodeUnavailable, "the node does not answer: %w", err)
	}
	return switched(resp, "the node")
}

func (w worker) Volume(ctx context.Context, c api.VolumeChange) (*api.VolumeDone, error) {
	return call[api.VolumeChange, api.VolumeDone](ctx, w.machine, pathVolume, &c)
}
