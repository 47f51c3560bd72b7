package rest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
	"github.com/hashicorp/go-hclog"

	"cube/api"
)

// Headers of the API.
const (
	HeaderIndex     = "X-Cube-Index"      // on every read: what to wait on
	HeaderStale     = "X-Cube-Stale"      // "true" when the answer was not verified with a leader
	HeaderRequestID = "X-Cube-Request-ID" // on writes: makes them idempotent
	HeaderWho       = "X-Cube-Who"        // on writes: for the record
	HeaderCode      = "X-Cube-Code"       // on errors: the api.Code, for those who forward
	HeaderNode      = "X-Cube-Node"       // on /v1/health: the ID of the node that the agent runs, if it runs one
)

const (
	maxJSONBody     = 2 << 20 // a source of 1 MiB, escaped
	maxSnapshotBody = 4 << 30 // bounds a runaway upload; it is spooled to disk, not held in memory
	maxRequestID    = 64
)

// handler serves an api.Cluster.
type handler struct {
	cluster api.Cluster
	logger  hclog.Logger
	flights flights
}

// NewHandler returns the HTTP API of a cluster: every route under /v1 but /v1/metrics, which is the agent's.
func NewHandler(c api.Cluster, logger hclog.Logger) http.Handler {
	h := &handler{cluster: c, logger: logger}
	r := chi.NewRouter()
	r.Use(h.guard)
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, api.Errorf(api.CodeNotFound, "there is no %s %s", r.Method, r.URL.Path))
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		writeStatus(w, http.StatusMethodNotAllowed, api.Errorf(api.CodeInvalid, "%s does not take %s", r.URL.Path, r.Method))
	})
	r.Route("/v1", func(r chi.Router) {
		h.jobRoutes(r)
		h.historyRoutes(r)
		h.foresightRoutes(r)
		h.nodeRoutes(r)
		h.volumeRoutes(r)
		h.rebalanceRoutes(r)
		h.allocationRoutes(r)
		h.evaluationRoutes(r)
		h.eventRoutes(r)
		h.deploymentRoutes(r)
		h.operatorRoutes(r)
	})
	// A page in an operator's browser must not be able to write through it.
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, api.Errorf(api.CodeForbidden, "a page of another site may not write here"))
	}))
	return protection.Handler(unrouted(r))
}

// unrouted has a router begin at the path's beginning, also inside another router, and also the second time: what that one
// and the first time left in the request's context is none of its business.
func unrouted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if chi.RouteContext(r.Context()) != nil {
			r = r.WithContext(context.WithValue(r.Context(), chi.RouteCtxKey, (*chi.Context)(nil)))
		}
		next.ServeHTTP(w, r)
	})
}

// Local reports whether a request is answered by the agent it reached, whoever leads: facts about that agent itself.
func Local(r *http.Request) bool {
	switch r.URL.Path {
	case "/v1/health", "/v1/leader", "/v1/members", "/v1/metrics", "/v1/validate", "/v1/events", "/v1/operator/leave":
		return true
	}
	return isStale(r) && (r.Method == http.MethodGet || r.URL.Path == "/v1/simulate")
}

// AnsweredByAny reports whether any server may answer a request when there is no leader to: who the servers are is what a
// person asks then.
func AnsweredByAny(r *http.Request) bool { return r.URL.Path == "/v1/operator/raft/peers" }

func isStale(r *http.Request) bool {
	q := r.URL.Query()
	return q.Has("stale") && q.Get("stale") != "false"
}

// guard turns a panic of one request into its failure, and sets what every answer carries.
func (h *handler) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v)
			}
			h.fail(w, r, &fault{value: v, stack: debug.Stack()})
		}()
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

// fail answers a request that panicked.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, f *fault) {
	h.logger.Error("request failed", "method", r.Method, "path", r.URL.Path, "panic", f.value, "stack", string(f.stack))
	writeError(w, api.Errorf(api.CodeInternal, "%s %s failed: %v", r.Method, r.URL.Path, f.value))
}

// read makes a handler of one read of the cluster, about what the named parameter of the path says.
func read[T any](h *handler, of string, f func(ctx context.Context, id string, q api.Query) (T, api.ReadMeta, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := parseQuery(r.URL.Query())
		if err != nil {
			writeError(w, err)
			return
		}
		id := ""
		if of != "" {
			id = param(r, of)
		}
		a, err := h.flights.take(r.Context(), r.URL.EscapedPath(), q, func(ctx context.Context, q api.Query) (finding, error) {
			v, meta, err := f(ctx, id, q)
			if err != nil {
				return finding{}, err
			}
			body, err := encodeJSON(v)
			return finding{body, meta}, err
		})
		var f *fault
		switch {
		case errors.As(err, &f):
			h.fail(w, r, f)
		case err != nil:
			writeError(w, err)
		default:
			a.send(w)
		}
	}
}

// list is read for lists: an empty one is [], never null.
func list[T any](h *handler, of string, f func(ctx context.Context, id string, q api.Query) ([]T, api.ReadMeta, error)) http.HandlerFunc {
	return read(h, of, func(ctx context.Context, id string, q api.Query) ([]T, api.ReadMeta, error) {
		v, meta, err := f(ctx, id, q)
		if v == nil {
			v = []T{}
		}
		return v, meta, err
	})
}

// listAll is list for what is not about one thing.
func listAll[T any](h *handler, f func(ctx context.Context, q api.Query) ([]T, api.ReadMeta, error)) http.HandlerFunc {
	return list(h, "", func(ctx context.Context, _ string, q api.Query) ([]T, api.ReadMeta, error) { return f(ctx, q) })
}

// write makes a handler of one write of the cluster.
func write[T any](f func(ctx context.Context, r *http.Request, m api.WriteMeta) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		m := api.WriteMeta{RequestID: r.Header.Get(HeaderRequestID), Who: r.Header.Get(HeaderWho)}
		if len(m.RequestID) > maxRequestID || len(m.Who) > maxRequestID {
			writeError(w, api.Errorf(api.CodeInvalid, "%s and %s take at most %d bytes", HeaderRequestID, HeaderWho, maxRequestID))
			return
		}
		v, err := f(r.Context(), r, m)
		if err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, v)
	}
}

// writeWith is write for what takes a body that may be left out: then it is In's zero value.
func writeWith[In, Out any](f func(ctx context.Context, r *http.Request, in In, m api.WriteMeta) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		write(func(ctx context.Context, r *http.Request, m api.WriteMeta) (out Out, err error) {
			var in In
			if r.ContentLength != 0 {
				if err := readJSON(w, r, &in); err != nil {
					return out, err
				}
			}
			return f(ctx, r, in, m)
		})(w, r)
	}
}

func parseQuery(v url.Values) (api.Query, error) {
	q := api.Query{Prefix: v.Get("prefix"), Stale: v.Has("stale") && v.Get("stale") != "false"}
	if s := v.Get("index"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return q, api.Errorf(api.CodeInvalid, "index=%.40q is not a number", s)
		}
		q.Index = n
	}
	if s := v.Get("wait"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return q, api.Errorf(api.CodeInvalid, "wait=%.40q is not a duration such as 30s", s)
		}
		q.Wait = min(d, api.MaxWait)
	}
	return q, nil
}

// param returns a path parameter as its sender wrote it.
func param(r *http.Request, name string) string {
	v := chi.URLParam(r, name)
	if u, err := url.PathUnescape(v); err == nil {
		return u
	}
	return v
}

// readJSON decodes a request's body into v: one JSON value, no unknown fields, no more than maxJSONBody.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	if r.ContentLength > maxJSONBody {
		return api.Errorf(api.CodeTooLarge, "the body has %d bytes; at most %d are taken", r.ContentLength, maxJSONBody)
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJSONBody))
	if err == nil {
		err = decodeJSON(b, v)
	}
	if err == nil {
		return nil
	}
	var tooLarge *http.MaxBytesError
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &tooLarge):
		return api.Errorf(api.CodeTooLarge, "the body has more than %d bytes", maxJSONBody)
	case errors.As(err, &mistyped):
		return api.Errorf(api.CodeInvalid, "the body is not the JSON expected: %s takes %s, not %s", cmp.Or(mistyped.Field, "it"), kindName(mistyped.Type), mistyped.Value)
	case errors.Is(err, io.EOF):
		return api.Errorf(api.CodeInvalid, "the body is empty; JSON is expected")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return api.Errorf(api.CodeInvalid, "the body ends in the middle of its JSON")
	}
	return api.Errorf(api.CodeInvalid, "the body is not the JSON expected: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// kindName is what people call the values that a field takes.
func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("a whole number of %d bits", t.Bits())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("a whole number from 0 up, of %d bits", t.Bits())
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "a list"
	}
	return "an object"
}

func decodeJSON(b []byte, v any) error {
	if !utf8.Valid(b) {
		return errors.New("it holds bytes that are not UTF-8") // the decoder would put other characters in their place
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	switch _, err := d.Token(); {
	case errors.Is(err, io.EOF):
		return once(b)
	case err != nil:
		return err
	}
	return errors.New("more follows the JSON value")
}

// once returns an error if an object of a JSON text has a name twice: the decoder would take the last value and say nothing.
func once(b []byte) error {
	var open []map[string]bool // what is open, from the outside in; nil for lists
	value := false             // what comes next is the value of a name
	for d := json.NewDecoder(bytes.NewReader(b)); ; {
		token, err := d.Token()
		if err != nil {
			return nil // its end: that it is JSON is known
		}
		inside := len(open) - 1
		switch name, isText := token.(string); {
		case token == json.Delim('{'):
			open, value = append(open, map[string]bool{}), false
			continue
		case token == json.Delim('['):
			open, value = append(open, nil), false
			continue
		case token == json.Delim('}'), token == json.Delim(']'):
			open = open[:inside]
		case inside >= 0 && open[inside] != nil && isText && !value:
			if open[inside][name] {
				return fmt.Errorf("%.80q is in one object twice", name)
			}
			open[inside][name], value = true, true
			continue
		}
		value = false
	}
}

// encodeJSON returns v as a body.
func encodeJSON(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return append(b, '\n'), nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := encodeJSON(v)
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(b) // the peer may be gone; there is nobody left to tell
}

// WriteError answers a request with err, as every route does.
func WriteError(w http.ResponseWriter, err error) { writeError(w, err) }

func writeError(w http.ResponseWriter, err error) {
	code := api.CodeOf(err)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		code = api.CodeUnavailable
	}
	e := &api.Error{Code: code, Message: err.Error()}
	writeStatus(w, code.HTTPStatus(), e)
}

func writeStatus(w http.ResponseWriter, status int, e *api.Error) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set(HeaderCode, string(e.Code))
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(e) // as in writeJSON
}
