package client

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cube/api"
	"cube/client/driver"
	"cube/client/driver/fake"
)

// TestManyNodesFitInOneProcess weighs simulated nodes and their instances: a million instances on 5,000 nodes are to fit
// into a few gigabytes.
func TestManyNodesFitInOneProcess(t *testing.T) {
	const nodes, each = 50, 200
	synctest.Test(t, func(t *testing.T) {
		s, engine := newServers(), fake.NewEngine()
		shared := job(nil)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		var clients []*Client
		empty := weigh()
		for n := range nodes {
			c, err := New(Config{
				Name: fmt.Sprint("node-", n), Ephemeral: true, Machine: fixedMachine{}, Address: "10.0.0.1",
				NewDrivers: func(o driver.Owner) ([]driver.Driver, error) { return []driver.Driver{engine.Driver(o)}, nil },
				Connect:    s.connect, Servers: func() []string { return []string{"s1"} },
				DecodeJob: func([]byte) (*api.Job, error) { return shared, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			clients = append(clients, c)
			running.Go(func() {
				if err := c.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Second)
		synctest.Wait()
		idle := weigh()
		goroutines := runtime.NumGoroutine()
		for _, c := range clients {
			for slot := range uint32(each) {
				s.place(c.NodeID(), shared, slot)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, n := engine.Count(); n != nodes*each {
			t.Errorf("%d instances run, want %d", n, nodes*each)
		}
		s.set(func() { s.seen, s.enrolled, s.rows = nil, nil, nil }) // the servers' weight is not the nodes'
		full := weigh()
		perNode, perInstance := (idle-empty)/nodes, (full-idle)/nodes/each
		t.Logf("an idle node: %d bytes and %.1f goroutines; an instance: %d bytes", perNode, float64(goroutines)/nodes, perInstance)
		if perNode > 100<<10 || perInstance > 2<<10 {
			t.Errorf("an idle node weighs %d bytes, an instance %d; want at most 100 KiB and 2 KiB", perNode, perInstance)
		}
		cancel()
		running.Wait()
		runtime.KeepAlive(clients)
	})
}

// weigh is the memory in use: heap and stacks.
func weigh() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
