package rest

import (
	"net/http"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/go-chi/chi/v5"
)

// TestEveryRouteIsDocumented compares the routes with the table in the documentation, both ways.
func TestEveryRouteIsDocumented(t *testing.T) {
	h := &handler{cluster: &echo{}}
	r := chi.NewRouter()
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
	served := []string{"GET /v1/metrics"} // the agent's own
	err := chi.Walk(r, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		served = append(served, method+" "+route)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../website/docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z]+ /v1[^`]*)`").FindAllSubmatch(text, -1) {
		documented = append(documented, string(m[1]))
	}
	slices.Sort(served)
	slices.Sort(documented)
	if !slices.Equal(served, documented) {
		t.Errorf("served:\n%q\ndocumented:\n%q", served, documented)
	}
}
