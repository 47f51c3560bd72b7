package docker

import (
	"context"
	"crypto/rand"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"cube/api"
	"cube/client/driver"
	"cube/client/driver/drivertest"
)

// BenchmarkStart starts containers through the driver and by the bare two calls of the API, in turns, and reports the
// medians. Their difference is what the driver adds. Run it with -benchtime 40x on an idle machine.
func BenchmarkStart(b *testing.B) {
	ctx := context.Background()
	d := open(b, driver.Owner{ClusterID: "bench-" + rand.Text(), NodeID: rand.Text()}, b.TempDir())
	defer d.Close()
	dir := b.TempDir()
	var through, bare []time.Duration
	for n := 0; b.Loop(); n++ {
		c := &driver.Config{
			Owner: d.owner, Key: driver.Key{Allocation: api.MakeID(0, uint32(2*n+1))}, Job: "bench", Task: "bench", Version: 1,
			Network: driver.Network{Address: "127.0.0.1"}, Held: api.Resources{CPU: 100, Memory: 64}, Dir: dir,
		}
		configure(c, drivertest.Program{})
		begin := time.Now()
		h, _, err := d.Start(ctx, c, func(string) {})
		if err != nil {
			b.Fatal(err)
		}
		through = append(through, time.Since(begin))
		d.discard(h.Data)

		begin = time.Now()
		made, err := d.engine.ContainerCreate(ctx, d.containerConfig(c, &options{}), hostConfig(c, &options{logMaxSize: logFileSize, logMaxFiles: logFiles}), nil, nil, "cube-bench-"+strconv.Itoa(n))
		if err == nil {
			err = d.engine.ContainerStart(ctx, made.ID, container.StartOptions{})
		}
		if err != nil {
			b.Fatal(err)
		}
		bare = append(bare, time.Since(begin))
		d.discard(made.ID)
	}
	slices.Sort(through)
	slices.Sort(bare)
	median := func(d []time.Duration) float64 { return float64(d[len(d)/2].Microseconds()) / 1000 }
	b.ReportMetric(median(through), "driver-p50-ms")
	b.ReportMetric(median(bare), "bare-p50-ms")
	b.ReportMetric(median(through)-median(bare), "added-p50-ms")
}
