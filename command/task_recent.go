package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"cube/api"
)

const (
	// recentEvents is how much of a job's timeline its status shows: the end of the story, and not the story.
	recentEvents = 5
	// recentLines is how much of a failing instance's output it shows: most programs say in their last line why they end.
	recentLines = 5
)

// lastWords are the end of what an instance wrote: of its stderr, or where that is empty of its stdout.
type lastWords struct {
	Instance   string   // web[0]
	Allocation string   // ID
	Part       string   `json:",omitempty"` // the sidecar or hook of its task that wrote it, where that is what fails
	Stream     string   `json:",omitempty"` // "stderr" or "stdout"; "" if it wrote nothing, or nobody could be asked
	Lines      []string `json:",omitempty"`
	Missing    string   `json:",omitempty"` // why its output could not be had
}

// askTimeline asks what happened to a job while something else is read; the function it returns waits for the answer. That it
// cannot be had is no failure: a status is of use without.
func askTimeline(ctx context.Context, cluster api.Cluster, read *readFlags, job string) func() []*api.EventView {
	answer := make(chan []*api.EventView, 1)
	go func() {
		events, _, err := cluster.JobTimeline(ctx, job, api.Query{Stale: read.stale})
		if api.CodeOf(err) == api.CodeNoLeader && !read.stale {
			events, _, err = cluster.JobTimeline(ctx, job, api.Query{Stale: true})
		}
		if err != nil {
			events = nil
		}
		answer <- events
	}()
	return func() []*api.EventView { return <-answer }
}

// failing returns of each task the newest instance that shows what is wrong: those of one task mostly fail alike. more is how
// many fail besides. The list is by task, slot, newest first.
func failing(allocs []*api.Allocation, now time.Time) (shown []*api.Allocation, more int) {
	newest := map[string]*api.Allocation{} // by task
	for len(allocs) > 0 {
		end := slices.IndexFunc(allocs, func(a *api.Allocation) bool { return slotOf(a) != slotOf(allocs[0]) })
		if end < 0 {
			end = len(allocs)
		}
		if a := failingIn(allocs[:end], now); a != nil {
			more++
			if old := newest[a.Task]; old == nil || old.CreateIndex < a.CreateIndex {
				newest[a.Task] = a
			}
		}
		allocs = allocs[end:]
	}
	for _, task := range sortedKeys(newest)[:min(len(newest), tailInstances)] {
		shown = append(shown, newest[task])
	}
	return shown, more - len(shown)
}

// failingIn returns the instance of a slot, given newest first, that shows what is wrong with it: the one that fails, or that
// failed and whose successor is not healthy yet. nil: nothing is, or nothing ever ran.
func failingIn(slot []*api.Allocation, now time.Time) *api.Allocation {
	for i, a := range slot {
		switch {
		case (i == 0 || a.Phase == api.PhaseFailed) && unwell(a, now) && hasWritten(a, api.PartOf(a.Message)):
			return a
		case a.Phase == api.PhaseComplete || a.Phase == api.PhaseRunning && a.Health == api.HealthHealthy:
			return nil
		}
	}
	return nil
}

// readLastWords reads the end of what instances wrote, at once, waiting for none of them longer than tailPatience.
func readLastWords(ctx context.Context, cluster api.Cluster, allocs []*api.Allocation) []lastWords {
	words := make([]lastWords, len(allocs))
	var g errgroup.Group
	for i, a := range allocs {
		g.Go(func() error {
			words[i] = lastWordsOf(ctx, cluster, a)
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors
	return words
}

func lastWordsOf(ctx context.Context, cluster api.Cluster, a *api.Allocation) lastWords {
	ctx, cancel := context.WithTimeout(ctx, tailPatience)
	defer cancel()
	w := lastWords{Instance: a.Name, Allocation: a.ID, Part: api.PartOf(a.Message)}
	for _, stream := range []string{"stderr", "stdout"} {
		lines, err := tailOf(ctx, cluster, a.ID, api.LogRequest{Stream: stream, Tail: recentLines, Part: w.Part})
		switch {
		case len(lines) > 0:
			w.Stream, w.Lines = stream, lines
			return w
		case err != nil:
			w.Missing = err.Error()
			return w
		}
	}
	return w
}

func printLastWords(s *session, words []lastWords, more int) {
	for _, w := range words {
		title := "Last output of " + printable(w.Instance)
		if w.Part != "" {
			title = "Last output of " + w.Part + " of " + printable(w.Instance)
		}
		if w.Stream != "" {
			title += " (" + w.Stream + ")"
		}
		s.section(title)
		s.print(tailText(w.Lines, w.Missing))
	}
	if more > 0 {
		s.print("\n" + failToo(more) + "\n")
	}
}

// failToo says that so many more instances fail.
func failToo(more int) string {
	if more == 1 {
		return "1 more instance fails, too"
	}
	return fmt.Sprintf("%d more instances fail, too", more)
}

// recent are the latest of the events, as many as a status shows.
func recent(events []*api.EventView) []*api.EventView {
	return events[max(0, len(events)-recentEvents):]
}

func printRecent(s *session, f moments, events []*api.EventView) {
	if len(events) == 0 {
		return
	}
	s.section("Last events")
	for _, e := range events {
		s.print(timelineLine(e, f) + "\n")
	}
}

// seeAlso names the commands that say more about a job, or about a task of it.
func seeAlso(s *session, name string, logs bool) {
	commands := []string{"explain", "timeline"}
	if logs {
		commands = append(commands, "logs")
	}
	for i, c := range commands {
		commands[i] = "cube task " + c + " " + name
	}
	s.print("\n" + s.style.paint(faint, printable("See also: "+strings.Join(commands, ", "))) + "\n")
}
