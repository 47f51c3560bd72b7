package cluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Metrics reads what a server counts of itself: the samples of /v1/metrics by name, those without labels.
func (c *Cluster) Metrics(ctx context.Context, i int) (map[string]float64, error) {
	body, err := c.get(ctx, i, "/v1/metrics")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	m, err := parseMetrics(body)
	if err != nil {
		return nil, fmt.Errorf("read the metrics of %s: %w", c.servers[i].name, err)
	}
	return m, nil
}

func parseMetrics(r io.Reader) (map[string]float64, error) {
	m := map[string]float64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || name == "#" || strings.Contains(name, "{") {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("sample %.100q: %w", lines.Text(), err)
		}
		m[name] = v
	}
	return m, lines.Err()
}

// Profile writes a server's CPU profile over the given time to DIR/NAME.cpu, and its heap and what it has allocated after
// that to DIR/NAME.heap. The cluster must have been started with Debug.
func (c *Cluster) Profile(ctx context.Context, i int, d time.Duration, dir, name string) error {
	for _, p := range []struct{ path, file string }{
		{fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(1, int(d.Seconds()))), name + ".cpu"},
		{"/debug/pprof/heap", name + ".heap"},
	} {
		if err := c.save(ctx, i, p.path, filepath.Join(dir, p.file)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) save(ctx context.Context, i int, path, file string) error {
	body, err := c.get(ctx, i, path)
	if err != nil {
		return err
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("read %s of %s: %w", path, c.servers[i].name, err)
	}
	if err := os.WriteFile(file, b, 0o644); err != nil {
		return fmt.Errorf("save a profile: %w", err)
	}
	return nil
}

func (c *Cluster) get(ctx context.Context, i int, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.servers[i].api.Address()+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s for %s: %w", c.servers[i].name, path, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s for %s: %w", c.servers[i].name, path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s to GET %s: %w", c.servers[i].name, resp.Status, path, resp.Body.Close())
	}
	return resp.Body, nil
}
