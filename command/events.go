package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"cube/api"
)

// eventFlags say which events are to be shown.
type eventFlags struct {
	follow, json, verbose bool
	topics                string
	job, node             string
	since                 uint64
	last                  int
}

func (o *eventFlags) declare(f *flag.FlagSet) {
	f.BoolVar(&o.follow, "f", false, "Follow: go on as things happen.")
	f.StringVar(&o.topics, "topic", "", "Only events about these `topics`: job, deployment, evaluation, allocation, node; several with commas.")
	f.StringVar(&o.job, "job", "", "Only events of this `job`.")
	f.StringVar(&o.node, "node", "", "Only events of the `node` with this name or ID.")
	f.Uint64Var(&o.since, "since", 0, "All that happened after this `index` of the log, which -json shows; an error if that is not kept any more.")
	f.IntVar(&o.last, "n", 50, "Begin with the last so many `events`; -1 for all that are kept.")
	f.BoolVar(&o.json, "json", false, "Print one JSON object a line, as the API gives them; lines with an index and nothing else say how far it has been told.")
	f.BoolVar(&o.verbose, "verbose", false, "Exact times, indexes and evaluations.")
}

func (o *eventFlags) request(given func(name string) bool) (api.EventRequest, error) {
	r := api.EventRequest{Job: o.job, Node: o.node, Follow: o.follow, Tail: o.last}
	if o.last < -1 {
		return r, failed(errors.New("-n is a number of events, or -1 for all that are kept"), "reading the arguments")
	}
	if given("since") {
		r.After = &o.since
	}
	for t := range strings.SplitSeq(o.topics, ",") {
		switch topic := api.Topic(strings.TrimSpace(t)); {
		case topic == "":
		case !slices.Contains(api.Topics(), topic):
			return r, failed(fmt.Errorf("-topic %q is none of job, deployment, evaluation, allocation, node", t), "reading the arguments")
		default:
			r.Topics = append(r.Topics, topic)
		}
	}
	return r, nil
}

func newEvents(m *Meta) *command {
	var o eventFlags
	var set *flag.FlagSet
	return &command{
		meta: m, name: "events",
		synopsis: "Show what happens in the cluster",
		prose: `Shows the latest events that the server which is asked still has in memory: what became of jobs, roll-outs, evaluations, instances and nodes, who asked for it or why it happened. With -f goes on as things happen; a server that goes away is replaced by another, and nothing is told twice or left out.

What happened to one job for good, with less detail and for much longer, shows 'cube task timeline'.`,
		example: "$ cube events -f\n$ cube events -f -job web -topic job,allocation\n$ cube events -since 4711 -json",
		flags: func(f *flag.FlagSet) {
			o.declare(f)
			set = f
		},
		run: func(ctx context.Context, s *session, _ []string) error {
			request, err := o.request(func(name string) bool {
				found := false
				set.Visit(func(f *flag.Flag) { found = found || f.Name == name })
				return found
			})
			if err != nil {
				return err
			}
			cluster, err := s.cluster()
			if err != nil {
				return err
			}
			if err := o.show(ctx, s, cluster, request); err != nil && ctx.Err() == nil { // Ctrl-C is how following ends
				return failed(err, "reading the events")
			}
			return nil
		},
	}
}

// show prints events until there are no more. A stream that breaks off after it has begun is taken up where it was.
func (o *eventFlags) show(ctx context.Context, s *session, cluster api.Cluster, r api.EventRequest) error {
	silent, shown := false, false
	for {
		err := cluster.Events(ctx, r, func(b api.EventBatch) error {
			r.After, silent, shown = &b.Index, false, shown || len(b.Events) > 0
			return o.print(s, b)
		})
		if err == nil && !shown && !o.json && !o.follow {
			s.print("No such events, of those that the server which was asked still has in memory\n")
		}
		if !o.follow || r.After == nil || !unreachable(err) || ctx.Err() != nil {
			return err
		}
		if !silent {
			fmt.Fprintf(s.Stderr, "The stream broke off (%s); it is taken up again as soon as it can be\n", printable(err.Error()))
			silent = true
		}
		if err := pause(ctx, watchPause); err != nil {
			return err
		}
	}
}

func (o *eventFlags) print(s *session, b api.EventBatch) error {
	var out strings.Builder
	for _, e := range b.Events {
		line, err := eventLine(e, s.Now(), o.verbose), error(nil)
		if o.json {
			line, err = writeJSON(e, "")
		}
		if err != nil {
			return err
		}
		out.WriteString(line + "\n")
	}
	if o.json {
		fmt.Fprintf(&out, "{\"Index\":%d}\n", b.Index)
	}
	_, err := fmt.Fprint(s.Stdout, out.String())
	return err
}

// eventLine is an event for people: when, of what, what and why.
func eventLine(e *api.EventView, now time.Time, verbose bool) string {
	of := ""
	if e.Job != "" && e.Instances == "" {
		of = e.Job + ": "
	}
	line := moment(e.At, now, verbose) + "  " + printable(of+e.Text)
	if verbose {
		line += verboseEvent(e)
	}
	return line
}

// verboseEvent is what machines want to know of an event.
func verboseEvent(e *api.EventView) string {
	parts := []string{fmt.Sprintf("index %d", e.Index)}
	if e.Allocation != "" {
		parts = append(parts, "allocation "+e.Allocation)
	}
	if e.Evaluation != "" {
		parts = append(parts, "evaluation "+e.Evaluation)
	}
	return " [" + strings.Join(parts, ", ") + "]"
}

// moment writes a time of today as the time, an older one with its date, and with -verbose whole.
func moment(t, now time.Time, verbose bool) string {
	t = t.In(now.Location())
	switch {
	case verbose:
		return t.Format(time.RFC3339)
	case t.Year() == now.Year() && t.YearDay() == now.YearDay():
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}
