package rest

import (
	"errors"
	"net/http"
	"reflect"
	"testing"

	"cube/api"
)

// TestEvents: a request and its events come over as they were, and what ends a stream before its time comes last.
func TestEvents(t *testing.T) {
	e := &echo{}
	c := start(t, e)
	after := uint64(4)
	want := api.EventRequest{Topics: []api.Topic{api.TopicJob, api.TopicNode}, Job: "a b", Node: "n/1", After: &after, Tail: 7, Follow: true}
	var got, sent []api.EventBatch
	keep := func(to *[]api.EventBatch) func(api.EventBatch) error {
		return func(b api.EventBatch) error { *to = append(*to, b); return nil }
	}
	err := c.Events(t.Context(), want, keep(&got))
	if api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("a stream that is followed and ends without a word: %v", err)
	}
	if !reflect.DeepEqual(e.sent, want) {
		t.Errorf("the request came as %+v", e.sent)
	}
	if err := e.Events(t.Context(), want, keep(&sent)); err != nil || !reflect.DeepEqual(got, sent) {
		t.Errorf("%+v, %v; want %+v", got, err, sent)
	}

	got = nil
	if err := c.Events(t.Context(), api.EventRequest{Tail: -1}, keep(&got)); err != nil || len(got) != 2 || !reflect.DeepEqual(e.sent, api.EventRequest{Tail: -1}) {
		t.Errorf("%d batches, %v; the request came as %+v", len(got), err, e.sent)
	}
	if err := c.Events(t.Context(), api.EventRequest{Job: "cut"}, keep(&got)); api.CodeOf(err) != api.CodeTooOld {
		t.Errorf("a reader that was too slow gets %v", err)
	}
	stop := errors.New("enough")
	if err := c.Events(t.Context(), api.EventRequest{}, func(api.EventBatch) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a reader that has enough gets %v", err)
	}
	e.err = api.Errorf(api.CodeTooOld, "gone")
	if err := c.Events(t.Context(), api.EventRequest{}, keep(&got)); api.CodeOf(err) != api.CodeTooOld {
		t.Errorf("a refused reader gets %v", err)
	}
}

func TestBadEventRequests(t *testing.T) {
	for _, q := range []string{"index=x", "index=-1", "tail=x", "tail=-2"} {
		resp, err := http.Get(start(t, &echo{}).Address() + "/v1/events?" + q)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", q, resp.Status)
		}
	}
}
