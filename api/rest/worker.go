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
	pathLogs   = "/v1/worker/logs/"   // then the allocation's ID as a number
	pathExec   = "/v1/worker/exec/"   // likewise
	pathEstate = "/v1/worker/estate/" // likewise; DELETE once it is taken over
	// then the ID of the node that asks, the number of its allocation and that of the one before
	pathFetch = "/v1/dispatch/estate/"
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
	estate := numbered(func(w http.ResponseWriter, r *http.Request, id api.ID) {
		serveEstate(w, r, func(ctx context.Context, taken bool) (io.ReadCloser, error) { return worker.Estate(ctx, id, taken) })
	})
	r.Get(pathEstate+"{id}", estate)
	r.Delete(pathEstate+"{id}", estate)
	return r
}

// NewEstatesHandler serves what nodes ask servers about directories on other nodes. sender tells from a request's context whom it
// comes from: a node may speak for itself only, another server for any.
func NewEstatesHandler(e api.Estates, sender func(context.Context) (api.Role, string)) http.Handler {
	r := chi.NewRouter()
	fetch := numbered(func(w http.ResponseWriter, r *http.Request, id api.ID) {
		node := chi.URLParam(r, "node")
		if role, who := sender(r.Context()); role != api.RoleServer && who != node {
			writeError(w, api.Errorf(api.CodeForbidden, "%s %.32s speaks for node %.32s; a node may speak for itself only", role, who, node))
			return
		}
		former, err := strconv.ParseUint(chi.URLParam(r, "former"), 10, 64)
		if err != nil {
			writeError(w, api.Errorf(api.CodeInvalid, "%.40q is not an allocation's number", chi.URLParam(r, "former")))
			return
		}
		serveEstate(w, r, func(ctx context.Context, taken bool) (io.ReadCloser, error) {
			return e.Fetch(ctx, node, api.FetchRequest{Allocation: id, Former: api.ID(former), Taken: taken})
		})
	})
	r.Get(pathFetch+"{node}/{id}/{former}", fetch)
	r.Delete(pathFetch+"{node}/{id}/{former}", fetch)
	return r
}

// serveEstate streams a directory, or says that it was taken over.
func serveEstate(w http.ResponseWriter, r *http.Request, open func(ctx context.Context, taken bool) (io.ReadCloser, error)) {
	taken := r.Method == http.MethodDelete
	in, err := open(r.Context(), taken)
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-tar")
	w.WriteHeader(http.StatusOK)
	if taken {
		return
	}
	defer in.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, in, make([]byte, 128<<10)); err != nil {
		panic(http.ErrAbortHandler) // the only way left to tell the reader that this is not the end
	}
}

// fetch asks for a directory, or says that it was taken over.
func fetch(ctx context.Context, client *http.Client, path, from string, taken bool) (io.ReadCloser, error) {
	method := http.MethodGet
	if taken {
		method = http.MethodDelete
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://cube"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("make the request for a directory: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, api.Errorf(api.CodeUnavailable, "%s does not answer: %w", from, err)
	}
	if resp.StatusCode/100 == 2 && !taken {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 {
		return nil, nil
	}
	return nil, answerError(resp, from)
}

// Fetch implements api.Estates, over a session between agents: people have no directories.
func (c *Client) Fetch(ctx context.Context, node string, r api.FetchRequest) (io.ReadCloser, error) {
	return fetch(ctx, c.http, fmt.Sprintf("%s%s/%d/%d", pathFetch, node, r.Allocation, r.Former), "the server", r.Taken)
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

func (w worker) Estate(ctx context.Context, allocation api.ID, taken bool) (io.ReadCloser, error) {
	return fetch(ctx, w.http, pathEstate+strconv.FormatUint(uint64(allocation), 10), "the node", taken)
}
