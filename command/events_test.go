package command

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cube/api"
)

// eventTerminal shows a cluster in which a little has happened.
func eventTerminal(t *testing.T, c *fakeCluster) *terminal {
	p := newTerminal(t, c)
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	p.meta.Now = func() time.Time { return now }
	at := func(ago time.Duration) time.Time { return now.Add(-ago) }
	c.events = []*api.EventView{
		{Index: 4, At: at(26 * time.Hour), Topic: api.TopicJob, Type: "submitted", Job: "web", Version: 1, Text: "version 1 submitted by ada@host: web.hcl", By: "ada@host"},
		{Index: 6, At: at(time.Hour), Topic: api.TopicAllocation, Type: "placed", Job: "web", Task: "web", Nodes: []string{"n1", "n2"}, Instances: "web[0..2]", Count: 3, Text: "web[0..2] placed on n1, n2: version 1", Evaluation: "3d869af200000000"},
		{Index: 9, At: at(time.Minute), Topic: api.TopicAllocation, Type: "restarted", Job: "web", Task: "db", Nodes: []string{"n1"}, Instances: "web/db[1]", Count: 7, Text: "web/db[1] restarted 7 times in 3m: exit code 1\x1b[2J", Allocation: "d2e7b4b900000000"},
	}
	return p
}

func TestTimeline(t *testing.T) {
	c := newFakeCluster()
	p := eventTerminal(t, c)
	p.cube(0, "task", "timeline", "web")
	golden(t, "task_timeline", p.stdout.String())

	p = eventTerminal(t, c)
	p.cube(0, "task", "timeline", "-verbose", "-n", "1", "web/web")
	if got := p.stdout.String(); got != "2026-11-23T11:00:00Z  web[0..2] placed on n1, n2: version 1 [index 6, evaluation 3d869af200000000]\n" {
		t.Errorf("%q", got)
	}
	p = eventTerminal(t, c)
	p.cube(0, "task", "timeline", "-t", "{{range .}}{{.Type}} {{end}}", "-n", "-1", "web")
	p.shows("submitted placed restarted")
	p = eventTerminal(t, c)
	for _, n := range []string{"-2", "0"} {
		p = eventTerminal(t, c)
		p.cube(1, "task", "timeline", "-n", n, "web")
		p.complains("-n is a number of lines, or -1 for all")
	}
	c.events = nil
	p = newTerminal(t, c)
	p.cube(0, "task", "timeline", "web")
	p.shows("Nothing is known")
}

func TestEventsCommand(t *testing.T) {
	c := newFakeCluster()
	p := eventTerminal(t, c)
	p.cube(0, "events")
	golden(t, "events", p.stdout.String())
	if d := cmp.Diff(c.asks, any(api.EventRequest{Tail: 50})); d != "" {
		t.Error(d)
	}
	p = eventTerminal(t, c)
	p.cube(0, "events", "-since", "4", "-json", "-topic", "allocation,job", "-job", "web", "-node", "n1")
	if lines := strings.Split(strings.TrimSpace(p.stdout.String()), "\n"); len(lines) != 3 || lines[2] != `{"Index":9}` || !strings.HasPrefix(lines[0], `{"Index":6,`) {
		t.Errorf("%q", lines)
	}
	four := uint64(4)
	if d := cmp.Diff(c.asks, any(api.EventRequest{Topics: []api.Topic{api.TopicAllocation, api.TopicJob}, Job: "web", Node: "n1", After: &four, Tail: 50})); d != "" {
		t.Error(d)
	}

	p = eventTerminal(t, c)
	p.cube(0, "events", "-since", "999")
	p.shows("No such events, of those that the server which was asked still has in memory")
	p = eventTerminal(t, c)
	p.cube(0, "events", "-since", "999", "-json")
	if got := p.stdout.String(); got != "" {
		t.Errorf("%q", got)
	}

	// A server that goes away in the middle is replaced by another: nothing twice, nothing left out.
	c.streams = 1
	p = eventTerminal(t, c)
	p.cube(0, "events", "-f")
	golden(t, "events", p.stdout.String())
	if got := p.stderr.String(); got != "The stream broke off (the server went away); it is taken up again as soon as it can be\n" {
		t.Errorf("%q", got)
	}
	c.stays = true
	p = eventTerminal(t, c)
	time.AfterFunc(50*time.Millisecond, p.interrupt)
	p.cube(0, "events", "-f")
	if got := p.stderr.String(); got != "" {
		t.Errorf("who stops reading is told %q", got)
	}
	for args, want := range map[string]string{"-topic deploy": `-topic "deploy" is none of job, deployment, evaluation, allocation, node`, "-n -2": "-n is a number of events", "-since x": "x", "web": "takes no arguments"} {
		p = newTerminal(t, c)
		p.cube(1, append([]string{"events"}, strings.Fields(args)...)...)
		p.complains(want)
	}
}
