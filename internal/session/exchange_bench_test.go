package session

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"cube/api"
	"cube/api/rest"
)

// stub answers machines with what it was given.
type stub struct {
	poll api.PollAnswer
}

func (s *stub) Register(context.Context, *api.Registration) (*api.RegistrationAnswer, error) {
	return &api.RegistrationAnswer{}, nil
}
func (s *stub) Poll(ctx context.Context, r *api.PollRequest) (*api.PollAnswer, error) {
	if r.Index == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &s.poll, nil
}
func (s *stub) Report(ctx context.Context, r *api.Report) (*api.ReportAnswer, error) {
	return &api.ReportAnswer{Index: 12345, Spacing: time.Second}, nil
}
func (s *stub) Sessions(context.Context, *api.SessionReport) (*api.SessionAnswer, error) {
	return &api.SessionAnswer{}, nil
}

func (s *stub) Enroll(context.Context, *api.Registration) (*api.RegistrationAnswer, error) {
	return &api.RegistrationAnswer{}, nil
}
func (s *stub) Deliver(context.Context, *api.ReportBatch) (*api.ReportBatchAnswer, error) {
	return &api.ReportBatchAnswer{}, nil
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// pair connects a node and a server over TCP, as agents do.
func pair(b *testing.B, lis net.Listener, s *stub, over *sync.WaitGroup) (*Session, api.Dispatcher) {
	taken := make(chan *Session, 1)
	go func() {
		conn, err := lis.Accept()
		if err != nil {
			panic(err)
		}
		in, err := Accept(context.Background(), conn, nil)
		if err != nil {
			panic(err)
		}
		taken <- in.Session
	}()
	conn, err := net.Dial("tcp", lis.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	dialled, err := Dial(b.Context(), conn, node)
	if err != nil {
		b.Fatal(err)
	}
	call := rest.MachineCalls(s, s, func(ctx context.Context) (api.Role, string) {
		h, _ := From(ctx)
		return h.Role, h.Sender
	})
	quiet := func() time.Duration { return 5 * time.Second } // as a server with a thousand sessions says
	in := <-taken
	over.Go(func() { in.Serve(b.Context(), Handler{Call: call, Quiet: quiet}) })
	over.Go(func() { dialled.Serve(b.Context(), Handler{}) })
	return dialled, rest.NewDispatcher(dialled.Call)
}

func BenchmarkExchange(b *testing.B) {
	for _, k := range []int{1, 20, 200} {
		s := &stub{}
		statuses := []api.AllocationStatus{}
		for i := range k {
			s.poll.Assignments = append(s.poll.Assignments, api.Assignment{ID: api.ID(1<<32 + i), Job: "job-0123", Version: 3, Task: "web", Slot: uint32(i), Phase: 1})
			statuses = append(statuses, api.AllocationStatus{ID: api.ID(1<<32 + i), Seq: 2, Phase: 3, StartedAt: 1700000000000})
		}
		s.poll.Specs = []api.JobSpec{{Job: "job-0123", Version: 3, Body: make([]byte, 600)}}
		s.poll.Servers = []string{"10.0.0.1:5556", "10.0.0.2:5556", "10.0.0.3:5556"}
		for _, what := range []string{"poll", "report"} {
			b.Run(fmt.Sprintf("%s-%d", what, k), func(b *testing.B) {
				lis, _ := net.Listen("tcp", "127.0.0.1:0")
				defer lis.Close()
				var over sync.WaitGroup
				const pairs = 64
				var all []*Session
				var ds []api.Dispatcher
				for range pairs {
					p, d := pair(b, lis, s, &over)
					all, ds = append(all, p), append(ds, d)
				}
				b.ReportAllocs()
				b.ResetTimer()
				before := cpu()
				var wg sync.WaitGroup
				for i := range pairs {
					n := b.N / pairs
					if i < b.N%pairs {
						n++
					}
					wg.Go(func() {
						for range n {
							var err error
							if what == "poll" {
								_, err = ds[i].Poll(b.Context(), &api.PollRequest{Node: node.Sender, Incarnation: 99999999999, Epoch: 1, Index: 12345, Seen: 12345})
							} else {
								_, err = ds[i].Report(b.Context(), &api.Report{Node: node.Sender, Incarnation: 99999999999, Statuses: statuses})
							}
							if err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64((cpu()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
				b.StopTimer()
				for _, x := range all {
					x.Close()
				}
				over.Wait()
			})
		}
	}
}

// BenchmarkQuiet prints what sessions on which nothing is said cost both sides: processor time a session and second.
func BenchmarkQuiet(b *testing.B) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer lis.Close()
	const sessions, lasts = 1000, 5 * time.Second
	var over sync.WaitGroup
	var all []*Session
	for range sessions {
		s, _ := pair(b, lis, &stub{}, &over)
		all = append(all, s)
	}
	for b.Loop() {
		before := cpu()
		<-time.After(lasts)
		b.ReportMetric(float64((cpu()-before).Nanoseconds())/sessions/lasts.Seconds(), "cpu-ns/session/s")
	}
	for _, s := range all {
		s.Close()
	}
	over.Wait()
}
