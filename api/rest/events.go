package rest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"

	"cube/api"
)

// eventPatience is how long a reader of events may take nothing off its connection.
const eventPatience = 30 * time.Second

func (h *handler) eventRoutes(r chi.Router) {
	r.Get("/events", h.events)
	r.Get("/jobs/{name}/timeline", list(h, "name", h.cluster.JobTimeline))
}

// eventLine is one line of a stream: an event; a mark, which has an index only and says that all up to it has been told; or
// why the stream ends before its time.
type eventLine struct {
	*api.EventView
	Error *api.Error `json:",omitempty"`
}

// events streams as ndjson.
func (h *handler) events(w http.ResponseWriter, r *http.Request) {
	req, err := parseEventRequest(r.URL.Query())
	if err != nil {
		writeError(w, err)
		return
	}
	control := http.NewResponseController(w)
	lines := json.NewEncoder(w)
	begun := false
	err = h.cluster.Events(r.Context(), req, func(b api.EventBatch) error {
		if !begun {
			w.Header().Set("Content-Type", "application/x-ndjson")
			begun = true
		}
		_ = control.SetWriteDeadline(time.Now().Add(eventPatience)) // fails only where there is no connection, as in tests
		for _, e := range b.Events {
			if err := lines.Encode(eventLine{EventView: e}); err != nil {
				return err
			}
		}
		if err := lines.Encode(eventLine{EventView: &api.EventView{Index: b.Index}}); err != nil {
			return err
		}
		return control.Flush()
	})
	switch {
	case err == nil || r.Context().Err() != nil:
	case !begun:
		writeError(w, err)
	default:
		lines.Encode(eventLine{Error: &api.Error{Code: api.CodeOf(err), Message: err.Error()}}) // the reader may be gone
	}
}

func parseEventRequest(v url.Values) (api.EventRequest, error) {
	r := api.EventRequest{Job: v.Get("job"), Node: v.Get("node"), Tail: -1, Follow: v.Has("follow") && v.Get("follow") != "false"}
	for _, t := range v["topic"] {
		r.Topics = append(r.Topics, api.Topic(t))
	}
	if s := v.Get("index"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return r, api.Errorf(api.CodeInvalid, "index=%.40q is not a number", s)
		}
		r.After = &n
	}
	if s := v.Get("tail"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < -1 {
			return r, api.Errorf(api.CodeInvalid, "tail=%.40q is not a number of events", s)
		}
		r.Tail = n
	}
	return r, nil
}

// Events implements api.Events.
func (c *Client) Events(ctx context.Context, r api.EventRequest, take func(api.EventBatch) error) error {
	v := url.Values{"tail": {strconv.Itoa(r.Tail)}}
	for _, t := range r.Topics {
		v.Add("topic", string(t))
	}
	for name, value := range map[string]string{"job": r.Job, "node": r.Node} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if r.After != nil {
		v.Set("index", strconv.FormatUint(*r.After, 10))
	}
	if r.Follow {
		v.Set("follow", "true")
	}
	resp, err := c.send(ctx, http.MethodGet, path("events")+"?"+v.Encode(), nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var batch api.EventBatch
	marked := false
	for lines := json.NewDecoder(bufio.NewReader(resp.Body)); ; {
		line := eventLine{EventView: &api.EventView{}}
		switch err := lines.Decode(&line); {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF) && !r.Follow && marked && len(batch.Events) == 0:
			return nil
		case err != nil:
			return api.Errorf(api.CodeUnavailable, "the stream of events from %s broke off: %w", c.shown, err)
		case line.Error != nil:
			return line.Error
		case line.Type != "":
			batch.Events = append(batch.Events, line.EventView)
			continue
		}
		marked = true
		batch.Index = line.Index
		if err := take(batch); err != nil {
			return err
		}
		batch = api.EventBatch{}
	}
}

// JobTimeline implements api.Events.
func (c *Client) JobTimeline(ctx context.Context, name string, q api.Query) ([]*api.EventView, api.ReadMeta, error) {
	return get[[]*api.EventView](ctx, c, path("jobs", name, "timeline"), q)
}
