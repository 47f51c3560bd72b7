package rest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"cube/api"
)

// estates answers with who asked for what, and passes on what a node says.
type estates struct{ api.Worker }

func (e estates) Fetch(ctx context.Context, node string, r api.FetchRequest) (io.ReadCloser, error) {
	if node != "n2" || r.Allocation != 9 {
		return nil, api.Errorf(api.CodeInternal, "%s asks for %+v", node, r)
	}
	return e.Estate(ctx, r.Former, r.Taken)
}

// TestDirectoriesOnTheirWay, over both legs: what breaks does not look like an end, and a node speaks for itself only.
func TestDirectoriesOnTheirWay(t *testing.T) {
	worker := httptest.NewServer(NewWorkerHandler(&node{}))
	defer worker.Close()
	role, who := api.RoleClient, "n2"
	server := httptest.NewServer(NewEstatesHandler(estates{NewWorker(redirect{worker.URL})},
		func(context.Context) (api.Role, string) { return role, who }))
	defer server.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	fetch := func(node string, former api.ID, taken bool) (string, error) {
		in, err := NewTransportClient(redirect{server.URL}).Fetch(t.Context(), node, api.FetchRequest{Allocation: 9, Former: former, Taken: taken})
		if err != nil || in == nil {
			return "", err
		}
		defer in.Close()
		b, err := io.ReadAll(in)
		return string(b), err
	}
	if got, err := fetch("n2", 7, false); got != "of 7" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := fetch("n2", 7, true); got != "" || err != nil {
		t.Errorf("taken: %q, %v", got, err)
	}
	if _, err := fetch("n2", 0, false); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("of nothing: %v", err)
	}
	if got, err := fetch("n2", 1, false); err == nil {
		t.Errorf("half of it is taken for all: %q", got)
	}
	if _, err := fetch("n1", 7, false); api.CodeOf(err) != api.CodeForbidden {
		t.Errorf("a node speaks for another: %v", err)
	}
	role, who = api.RoleServer, "s1"
	if got, err := fetch("n2", 7, false); got != "of 7" || err != nil {
		t.Errorf("a server passes it on: %q, %v", got, err)
	}
}
