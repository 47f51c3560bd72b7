package api

import (
	"fmt"
	"strings"
	"time"
)

// Lines says what the explanation means as one would say it to a colleague, such as
//
//	web: 2 of 6 not placed: 3 of 5 nodes lack memory (512 MiB wanted, 96 MiB to 128 MiB free, nearest n2); 2 are not ready (down)
//
// and, if there is a note besides, a second line with it. There are no lines if there is nothing to explain.
func (e *Explanation) Lines() []string { return e.LinesAt(time.Time{}) }

// LinesAt is Lines for somebody who reads them now: what is to come is told as from now.
func (e *Explanation) LinesAt(now time.Time) []string {
	missing, note := e.Wanted-e.Placed, e.Note
	if e.Retry != nil {
		note = strings.TrimSuffix(e.Retry.Text(now)+"; "+note, "; ")
	}
	if missing <= 0 && note == "" {
		return nil
	}
	head := e.Task
	if missing > 0 {
		head = fmt.Sprintf("%s: %d of %d not placed", e.Task, missing, e.Wanted)
	}
	if len(e.Filters) == 0 {
		if note != "" {
			head += ": " + note
		}
		return []string{head}
	}
	reasons := make([]string, len(e.Filters))
	for i := range e.Filters {
		reasons[i] = e.reason(i)
	}
	lines := []string{head + ": " + strings.Join(reasons, "; ")}
	if note != "" {
		lines = append(lines, e.Task+": "+note)
	}
	return lines
}

// Text says what becomes of the instance: "web[2] failed: rescheduled in 28s (attempt 2 of 3)". Without now it says at which
// time.
func (r *Retry) Text(now time.Time) string {
	when := "at " + r.At.UTC().Format(time.TimeOnly) + " UTC"
	if left := r.At.Sub(now).Round(time.Second); !now.IsZero() {
		when = "now"
		if left > 0 {
			when = "in " + left.String()
		}
	}
	text := fmt.Sprintf("%s failed: rescheduled %s (attempt %d", r.Instance, when, r.Attempt)
	if r.Attempts > 0 {
		text += fmt.Sprintf(" of %d", r.Attempts)
	}
	text += ")"
	if r.More > 0 {
		text += fmt.Sprintf(", and %d more later", r.More)
	}
	return text
}

// reason says how many nodes a filter turned away, and why. The first one names the whole.
func (e *Explanation) reason(i int) string {
	f := &e.Filters[i]
	one := f.Nodes == 1
	subject := fmt.Sprint(f.Nodes)
	switch {
	case i > 0:
	case e.Nodes == 1:
		subject = "the only node"
	case f.Nodes == e.Nodes && e.Nodes == 2:
		subject = "both nodes"
	case f.Nodes == e.Nodes:
		subject = fmt.Sprintf("all %d nodes", e.Nodes)
	default:
		subject = fmt.Sprintf("%d of %d nodes", f.Nodes, e.Nodes)
	}
	verb := func(singular, plural string) string {
		if one {
			return subject + " " + singular
		}
		return subject + " " + plural
	}
	amounts := fmt.Sprintf("%s wanted, %s", f.Wanted, f.Seen)
	if !one && e.Nearest != nil && e.Nearest.Filter == f.Filter {
		amounts += ", nearest " + e.Nearest.Node
	}
	kind, what, _ := strings.Cut(f.Filter, " ")
	switch kind {
	case "ready":
		return fmt.Sprintf("%s not ready (%s)", verb("is", "are"), f.Seen)
	case "datacenter":
		return fmt.Sprintf("%s in another datacenter (%s wanted, %s seen)", verb("is", "are"), f.Wanted, f.Seen)
	case "driver":
		return fmt.Sprintf("%s run the %s driver (%s)", verb("cannot", "cannot"), what, f.Seen)
	case "constraint":
		if what == OpDistinctHosts {
			return verb("has", "have") + " an instance already (distinct_hosts)"
		}
		return fmt.Sprintf("%s %s (seen: %s)", verb("fails", "fail"), what, f.Seen)
	case "port":
		return fmt.Sprintf("%s port %s in use (%s)", verb("has", "have"), what, f.Seen)
	case "dynamic":
		return fmt.Sprintf("%s too few dynamic ports left (%s)", verb("has", "have"), amounts)
	case "device":
		if kind, free := strings.CutSuffix(what, " free"); free {
			return fmt.Sprintf("%s free %s (%s)", verb("lacks", "lack"), kind, amounts)
		}
		return fmt.Sprintf("%s no suitable %s (%s wanted, seen: %s)", verb("has", "have"), what, f.Wanted, f.Seen)
	case "volume":
		if name, free := strings.CutSuffix(what, " free"); free {
			return fmt.Sprintf("%s volume %s in use (%s)", verb("has", "have"), name, f.Seen)
		}
		if f.Seen == "no volume "+what {
			return verb("has", "have") + " " + f.Seen
		}
		return fmt.Sprintf("%s volume %s as it is asked for (%s)", verb("does not offer", "do not offer"), what, f.Seen)
	case "cpu", "memory", "disk":
		return fmt.Sprintf("%s %s (%s)", verb("lacks", "lack"), f.Filter, amounts)
	}
	return verb("is", "are") + " turned away by " + f.Filter
}
