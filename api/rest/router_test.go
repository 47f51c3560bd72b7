package rest

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/hashicorp/go-hclog"
)

// TestInsideAnotherRouter: a request is routed by its path however often it comes, as when a server that just lost its
// leadership finds that it leads again.
func TestInsideAnotherRouter(t *testing.T) {
	h := NewHandler(&echo{}, hclog.NewNullLogger())
	outside := chi.NewRouter()
	outside.Mount("/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(httptest.NewRecorder(), r)
		h.ServeHTTP(w, r)
	}))
	for _, path := range []string{"/v1/jobs", "/v1/jobs/web", "/v1/jobs/web/versions"} {
		w := httptest.NewRecorder()
		outside.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != http.StatusOK {
			t.Errorf("GET %s: %d %s", path, w.Code, w.Body)
		}
	}
}
