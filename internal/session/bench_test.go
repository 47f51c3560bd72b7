package session

import (
	"context"
	"net"
	"runtime"
	"sync"
	"testing"

	"cube/api"
)

// BenchmarkIdleSession prints what a session costs over TCP while the node's long poll waits, as it nearly always does:
// both ends together, and the accepting one alone.
func BenchmarkIdleSession(b *testing.B) {
	b.Run("both", func(b *testing.B) { idle(b, true) })
	b.Run("accepting", func(b *testing.B) { idle(b, false) })
}

func idle(b *testing.B, both bool) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var waiting, over sync.WaitGroup
	wait := func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
		waiting.Done()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var ends []interface{ Close() error }
	open := func() {
		incoming := (&wire{lis: lis}).accept(b.Context(), nil)
		conn, err := net.Dial("tcp", lis.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		waiting.Add(1)
		if both {
			dialled, err := Dial(b.Context(), conn, node)
			if err != nil {
				b.Fatal(err)
			}
			over.Go(func() { dialled.Serve(b.Context(), Handler{}) })
			over.Go(func() { dialled.Call(b.Context(), "poll", nil) })
			ends = append(ends, dialled)
		} else {
			if err := greet(b.Context(), conn, Hello{Protocol: RPC, Role: api.RoleClient, Sender: "n1"}); err != nil {
				b.Fatal(err)
			}
			if _, err := conn.Write(frame(frameCall, 1, []byte("\x04poll"))); err != nil {
				b.Fatal(err)
			}
			ends = append(ends, conn)
		}
		taken := (<-incoming).in.Session
		over.Go(func() { taken.Serve(b.Context(), Handler{Call: wait}) })
		waiting.Wait()
	}
	open() // what is made once is none of a session's
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	count := 0
	for b.Loop() {
		open()
		count++
	}
	runtime.GC()
	runtime.GC() // the first one shrinks stacks, the second one counts
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse)/float64(count), "B/session")
	b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/float64(count), "goroutines/session")
	for _, end := range ends {
		end.Close()
	}
	over.Wait()
	lis.Close()
}
