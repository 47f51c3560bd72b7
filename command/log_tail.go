package command

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"cube/api"
)

const (
	// tailLines is how much of a failing instance's output a status shows: what systemctl has taught people to expect.
	tailLines = 10
	// tailInstances bounds how many instances' output is shown; of a hundred that fail alike the first few tell it.
	tailInstances = 3
	// tailPatience keeps a node that does not answer from holding up a status.
	tailPatience = 3 * time.Second
	// tailBytes bounds what is read of lines that do not end.
	tailBytes = 64 << 10
	// unwellFor is how long after a restart an instance that runs is still shown as one that fails.
	unwellFor = time.Minute
)

// unwell reports whether something is wrong with an instance: it failed, is unhealthy, or keeps being started again.
func unwell(a *api.Allocation, now time.Time) bool {
	switch {
	case a.Phase == api.PhaseFailed:
		return true
	case a.Health == api.HealthUnhealthy && a.Desired == api.DesiredRun:
		return true
	case a.Desired == api.DesiredStop || a.Phase.Terminal() || a.Restarts == 0:
		return false
	}
	return a.Phase != api.PhaseRunning || now.Sub(a.StartedAt) < unwellFor
}

// unwellOf returns the instances of a list whose output is worth showing; one that never started has written nothing.
func unwellOf(allocs []*api.Allocation, now time.Time) []*api.Allocation {
	var out []*api.Allocation
	for _, a := range holders(allocs) {
		if unwell(a, now) && hasWritten(a, api.PartOf(a.Message)) {
			out = append(out, a)
		}
	}
	return out
}

// printTails shows the last lines of what these instances wrote. What cannot be had is left out, with the reason: a
// status does not fail for it.
func printTails(ctx context.Context, s *session, cluster api.Cluster, allocs []*api.Allocation) {
	more := len(allocs) - tailInstances
	allocs = allocs[:min(len(allocs), tailInstances)]
	tails := make([]string, len(allocs))
	var g errgroup.Group
	for i, a := range allocs {
		g.Go(func() error {
			tails[i] = readTail(ctx, cluster, a.ID, api.PartOf(a.Message))
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors
	for i, a := range allocs {
		of := printable(a.Name)
		if part := api.PartOf(a.Message); part != "" {
			of = part + " of " + of
		}
		fmt.Fprintf(s.Stdout, "\n%s\n%s", s.style.heading("Last output of "+of), tails[i])
	}
	if more > 0 {
		fmt.Fprintf(s.Stdout, "\n%s; see 'cube alloc logs'\n", failToo(more))
	}
}

// readTail returns the last lines of an instance's output, or of a part's, made safe and set in, each with its end.
func readTail(ctx context.Context, cluster api.Cluster, id, part string) string {
	ctx, cancel := context.WithTimeout(ctx, tailPatience)
	defer cancel()
	lines, err := tailOf(ctx, cluster, id, api.LogRequest{Tail: tailLines, Part: part})
	missing := ""
	if err != nil {
		missing = err.Error()
	}
	return tailText(lines, missing)
}

// tailOf reads the last r.Tail lines of an instance's output. With an error, they are what could be read before it.
func tailOf(ctx context.Context, cluster api.Cluster, id string, r api.LogRequest) ([]string, error) {
	body, err := cluster.Logs(ctx, id, r)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, tailBytes))
	if len(text) == 0 {
		return nil, err
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSuffix(line, "\r")
	}
	if len(lines) == 1 && lines[0] == "" {
		return nil, err
	}
	return lines[max(0, len(lines)-r.Tail):], err
}

// tailText writes lines of output, made safe and set in, or why there are none.
func tailText(lines []string, missing string) string {
	switch {
	case len(lines) == 0 && missing != "":
		return "    (not available: " + printable(missing) + ")\n"
	case len(lines) == 0:
		return "    (it wrote nothing)\n"
	}
	var b strings.Builder
	for _, line := range lines {
		b.WriteString("    " + printable(strings.ReplaceAll(line, "\t", "    ")) + "\n")
	}
	return b.String()
}
