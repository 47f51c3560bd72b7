package session

import (
	"net/http"
	"runtime"
	"sync"
	"testing"

	"cube/internal/memnet"
)

// BenchmarkIdleSession prints what both ends of a session cost together while the node's long poll waits, as it nearly
// always does.
func BenchmarkIdleSession(b *testing.B) {
	n := memnet.New(1)
	lis, err := n.Host(serverIP).Listen(":5556")
	if err != nil {
		b.Fatal(err)
	}
	w := &wire{n, lis}
	var waiting, over sync.WaitGroup
	wait := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		waiting.Done()
		<-r.Context().Done()
	})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	var all []*Session
	count := 0
	for b.Loop() {
		incoming := w.accept(b.Context(), nil)
		conn, err := n.Host(nodeIP).Dial(b.Context(), rpcAddr)
		if err != nil {
			b.Fatal(err)
		}
		dialled, err := Dial(b.Context(), conn, node)
		if err != nil {
			b.Fatal(err)
		}
		taken := (<-incoming).in.Session
		waiting.Add(1)
		over.Go(func() { taken.Serve(b.Context(), Handler{HTTP: wait}) })
		over.Go(func() { dialled.Serve(b.Context(), Handler{HTTP: wait}) })
		over.Go(func() { get(b.Context(), dialled, "/") })
		waiting.Wait()
		all = append(all, dialled, taken)
		count++
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse)/float64(count), "B/session")
	b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/float64(count), "goroutines/session")
	for _, s := range all {
		s.Close()
	}
	over.Wait()
	lis.Close()
}
