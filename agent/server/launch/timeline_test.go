package launch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cube/api"
	"cube/fsm"
	order "cube/fsm/launch"
)

// told is a job's timeline with times of day, oldest first.
func (c *cluster) told(job string) string {
	var lines []string
	for _, e := range Timeline(c.m.Snapshot(), job) {
		lines = append(lines, e.At.Format("15:04:05 ")+e.Text)
	}
	return strings.Join(lines, "\n")
}

func (c *cluster) tells(job string, want ...string) {
	c.t.Helper()
	if got := c.told(job); got != strings.Join(want, "\n") {
		c.t.Errorf("the timeline of %s is\n%s\nwant\n%s", job, got, strings.Join(want, "\n"))
	}
}

// ask has a person dispatch a job, and returns the name of the one that is launched.
func (c *cluster) ask(r api.DispatchRequest) string {
	c.t.Helper()
	c.index++
	result := c.m.Apply(c.index, &fsm.Command{At: time.Now().UnixNano(), Who: "ada@host", Body: &fsm.LaunchJob{Order: order.Order{Name: "job", Asked: &r}}})
	if result.Err != nil {
		c.t.Fatal(result.Err)
	}
	return result.Registered[0].Name
}

func (c *cluster) must(b fsm.Body) {
	c.t.Helper()
	if err := c.apply(b); err != nil {
		c.t.Fatal(err)
	}
}

// TestTimelineOfAPeriodicJob: each time that was launched, each dispatch with who asked for it, and the latest time if it was passed over,
// with the reason; between what has happened to the job itself.
func TestTimelineOfAPeriodicJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it is 2000-01-01 00:00 UTC
		c := newCluster(t)
		c.must(&fsm.RaiseRules{Version: fsm.RulesVersion})
		c.register(&api.Periodic{Crons: []string{"0 * * * *"}, ProhibitOverlap: true, OnMissed: api.MissedSkip})
		c.tells("job", "00:00:00 version 1 submitted")
		c.lead(time.Hour + time.Minute)
		c.tells("job", "00:00:00 version 1 submitted", "01:00:00 launched job-20000101-0100: for 2000-01-01T01:00:00Z")
		c.tells("job-20000101-0100", "01:00:00 version 1 submitted: launched for 2000-01-01T01:00:00Z")

		c.lead(time.Hour) // nothing runs it, so that it does not finish
		c.tells("job", "00:00:00 version 1 submitted", "01:00:00 launched job-20000101-0100: for 2000-01-01T01:00:00Z",
			"02:00:00 not launched for 2000-01-01T02:00:00Z: job-20000101-0100 still runs")
		c.must(&fsm.StopJob{Name: "job-20000101-0100"})
		time.Sleep(90 * time.Minute) // without a leader
		c.lead(time.Second)
		c.tells("job", "00:00:00 version 1 submitted", "01:00:00 launched job-20000101-0100: for 2000-01-01T01:00:00Z",
			"03:00:00 not launched for 2000-01-01T03:00:00Z: missed: there was no leader")
		by := c.ask(api.DispatchRequest{})
		want := []string{"00:00:00 version 1 submitted", "01:00:00 launched job-20000101-0100: for 2000-01-01T01:00:00Z",
			"03:00:00 not launched for 2000-01-01T03:00:00Z: missed: there was no leader", "03:31:01 launched " + by + " by ada@host: dispatched"}
		c.tells("job", want...)

		var b strings.Builder
		if err := c.m.Snapshot().Persist(&b); err != nil {
			t.Fatal(err)
		}
		c.m = fsm.New()
		if err := c.m.Restore(strings.NewReader(b.String())); err != nil {
			t.Fatal(err)
		}
		c.tells("job", want...)
		c.must(&fsm.StopJob{Name: "job"})
		c.tells("job", append(want, "03:31:01 job stopped")...)
	})
}

// TestTimelineOfAParameterizedJob: each dispatch with its ID and the keys of its meta, whose values are nobody's business, and no more
// lines than any timeline has.
func TestTimelineOfAParameterizedJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.must(&fsm.RaiseRules{Version: fsm.RulesVersion})
		task := api.DefaultTask("job")
		task.Image = "hello"
		j := &api.Job{Name: "job", Type: api.JobBatch, Tasks: []*api.Task{task}, Parameterized: &api.Parameterized{Payload: api.PayloadOptional, MetaOptional: []string{"size", "zone"}}}
		j.Canonicalize()
		c.must(&fsm.RegisterJobs{Jobs: []*api.Job{j}})
		changed := c.m.Watch(fsm.WatchKey{Table: fsm.TableJobs, Key: "job"})
		first := c.ask(api.DispatchRequest{ID: "photo-17", Meta: map[string]string{"zone": "secret", "size": "800"}})
		select {
		case <-changed:
		default:
			t.Error("who waits for news of the job is not woken by a dispatch")
		}
		c.ask(api.DispatchRequest{ID: "photo-17", Meta: map[string]string{"zone": "secret", "size": "800"}}) // the same
		second := c.ask(api.DispatchRequest{})
		c.tells("job", "00:00:00 version 1 submitted", "00:00:00 launched "+first+` by ada@host: dispatched as "photo-17", meta size, zone`,
			"00:00:00 launched "+second+" by ada@host: dispatched")
		e := Timeline(c.m.Snapshot(), "job")[1]
		if e.Type != "launched" || e.Topic != api.TopicJob || e.By != "ada@host" || e.Job != "job" || e.Index != c.index-2 {
			t.Errorf("for machines it is %+v", e)
		}

		var last []string
		for n := range api.KeptMoments + 20 {
			time.Sleep(time.Second)
			if name := c.ask(api.DispatchRequest{ID: fmt.Sprint(n)}); n >= 20 {
				last = append(last, name)
			}
		}
		var got []string
		for _, e := range Timeline(c.m.Snapshot(), "job") {
			got = append(got, strings.Fields(e.Text)[1])
		}
		if !slices.Equal(got, last) {
			t.Errorf("the latest %d are\n%v\nwant\n%v", api.KeptMoments, got, last)
		}
	})
}
