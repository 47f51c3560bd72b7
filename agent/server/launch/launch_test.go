package launch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"cube/api"
	"cube/fsm"
	order "cube/fsm/launch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is a state with leaders that come and go, in a bubble.
type cluster struct {
	t     *testing.T
	m     *fsm.Machine
	index uint64
	done  []string // names of the jobs that were launched, in order
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, m: fsm.New()}
	if err := c.apply(&fsm.InitCluster{ClusterID: "c1"}); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) apply(b fsm.Body) error {
	c.index++
	r := c.m.Apply(c.index, &fsm.Command{At: time.Now().UnixNano(), Body: b})
	if _, launch := b.(*fsm.LaunchJob); launch {
		for _, j := range r.Registered {
			c.done = append(c.done, j.Name)
		}
	}
	return r.Err
}

func (c *cluster) register(p *api.Periodic) {
	c.t.Helper()
	task := api.DefaultTask("job")
	task.Image = "hello"
	j := &api.Job{Name: "job", Type: api.JobBatch, Tasks: []*api.Task{task}, Periodic: p}
	j.Canonicalize()
	if err := j.Validate(); err != nil {
		c.t.Fatal(err)
	}
	if err := c.apply(&fsm.RegisterJobs{Jobs: []*api.Job{j}}); err != nil {
		c.t.Fatal(err)
	}
}

// lead leads for so long.
func (c *cluster) lead(d time.Duration) {
	c.t.Helper()
	ctx, lose := context.WithTimeout(c.t.Context(), d)
	defer lose()
	l := &Loop{Machine: c.m, Now: func() int64 { return time.Now().UnixNano() }, Logger: hclog.NewNullLogger(),
		Launch: func(b *fsm.LaunchJob) error { return c.apply(b) }}
	if err := l.Run(ctx); err != nil {
		c.t.Error(err)
	}
	synctest.Wait()
}

// TestAYearOfLaunches walks a job that is launched at half past two each night, in a zone whose clocks change twice a year, with
// leaders of a few days each: every night once, also in the night that has no such time and in the one that has it twice.
func TestAYearOfLaunches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it is 2000-01-01 00:00 UTC
		c := newCluster(t)
		c.register(&api.Periodic{Crons: []string{"30 2 * * *"}, TimeZone: "Europe/Berlin"})
		end := time.Now().AddDate(1, 0, 0)
		for lap := 0; time.Now().Before(end); lap++ {
			c.lead(time.Duration(1+lap%5)*24*time.Hour + time.Duration(lap)*time.Minute)
			time.Sleep(20 * time.Second) // an election
		}
		want := []string{}
		for day := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC); len(want) < len(c.done); day = day.AddDate(0, 0, 1) {
			at := day.Add(90 * time.Minute) // 02:30 in winter
			switch {
			case day.Equal(time.Date(2000, 3, 26, 0, 0, 0, 0, time.UTC)):
				at = day.Add(time.Hour) // clocks go from 02:00 to 03:00
			case day.After(time.Date(2000, 3, 26, 0, 0, 0, 0, time.UTC)) && !day.After(time.Date(2000, 10, 29, 0, 0, 0, 0, time.UTC)):
				at = day.Add(30 * time.Minute) // in summer, and the first of the two of 29 October
			}
			want = append(want, api.LaunchName("job", at))
		}
		if len(c.done) < 365 || !slices.Equal(c.done, want) {
			t.Errorf("it was launched %d times:\n%s\nwant\n%s", len(c.done), strings.Join(c.done, "\n"), strings.Join(want, "\n"))
		}
	})
}

// TestMissedTimes: what becomes of times that passed without a leader.
func TestMissedTimes(t *testing.T) {
	for _, c := range []struct {
		crons, missed string
		away          time.Duration
		done          string // by the new leader at once
		note          string
	}{
		{"0 * * * *", api.MissedSkip, 30 * time.Minute, "", ""},
		{"0 * * * *", api.MissedSkip, 60*time.Minute + 50*time.Second, "job-20000101-0200", ""}, // late, but not missed
		{"0 * * * *", api.MissedSkip, 62 * time.Minute, "", "missed: there was no leader"},
		{"0 * * * *", api.MissedRun, 62 * time.Minute, "job-20000101-0200", ""},
		{"0 * * * *", api.MissedRun, 5*time.Hour + 62*time.Minute, "job-20000101-0700", ""}, // the latest, once
		{"* * * * *", api.MissedRun, 2 * 365 * 24 * time.Hour, "job-20011231-0100", ""},
		{"0 0 1 7 *", api.MissedRun, 2 * 365 * 24 * time.Hour, "job-20010701-0000", ""},
	} {
		t.Run(fmt.Sprint(c.crons, c.missed, c.away), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newCluster(t)
				time.Sleep(time.Hour)
				k.register(&api.Periodic{Crons: []string{c.crons}, OnMissed: c.missed})
				k.lead(time.Millisecond)
				k.done = nil
				time.Sleep(c.away)
				k.lead(time.Second)
				if got := strings.Join(k.done, " "); got != c.done || k.m.Snapshot().Job("job").Launched.Note != c.note {
					t.Errorf("launched %q with %+v; want %q", got, k.m.Snapshot().Job("job").Launched, c.done)
				}
			})
		})
	}
}

// TestWhatNeverFinishes: a job whose launches hang does not pile up without end, and goes on once they are gone.
func TestWhatNeverFinishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.register(&api.Periodic{Crons: []string{"* * * * *"}})
		for range api.MaxUnfinished {
			if err := c.apply(&fsm.LaunchJob{Order: order.Order{Name: "job", Asked: &api.DispatchRequest{}}}); err != nil {
				t.Fatal(err)
			}
		}
		hung := slices.Clone(c.done)
		c.done = nil
		c.lead(150 * time.Second)
		if note := c.m.Snapshot().Job("job").Launched.Note; len(c.done) > 0 || note != "1000 that were launched before have not finished" {
			t.Errorf("launched %v, with %q", c.done, note)
		}
		if err := c.apply(&fsm.StopJob{Name: hung[7]}); err != nil {
			t.Fatal(err)
		}
		c.lead(90 * time.Second)
		if len(c.done) != 1 {
			t.Errorf("with room for one, %d were launched", len(c.done))
		}
	})
}

// TestALoopHearsOfChanges: a job that is registered, changed or stopped while the loop waits.
func TestALoopHearsOfChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		go func() {
			time.Sleep(90 * time.Minute)
			c.register(&api.Periodic{Crons: []string{"0 * * * *"}})
			time.Sleep(45 * time.Minute) // 02:15
			c.register(&api.Periodic{Crons: []string{"30 * * * *"}})
			time.Sleep(30 * time.Minute) // 02:45
			if err := c.apply(&fsm.StopJob{Name: "job"}); err != nil {
				t.Error(err)
			}
		}()
		c.lead(6 * time.Hour)
		if got := strings.Join(c.done, " "); got != "job-20000101-0200 job-20000101-0230" {
			t.Errorf("launched %s", got)
		}
	})
}
