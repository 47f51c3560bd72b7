package cubetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/internal/memnet"
)

// TestLaunchesGoOnBubble: a periodic job on a whole cluster, whose leader dies shortly before a time comes.
func TestLaunchesGoOnBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 2)
		c.NodesReady(2, 30*time.Second)
		c.Submit(`
task "backup" {
  type   = "batch"
  driver = "fake"
  periodic {
    crons = ["*/10 * * * *"]
  }
  config {
    run_for = "30s"
  }
}
`)
		launched := func(want int) func(context.Context) error {
			return func(ctx context.Context) error {
				status, _, err := c.Up().Job(ctx, "backup", api.Query{})
				if err != nil {
					return err
				}
				if status.Summary.Status != api.JobWaiting || status.Launches == nil || len(status.Launches.Next) != 3 {
					return fmt.Errorf("it is %+v, %+v", status.Summary, status.Launches)
				}
				names := map[string]bool{}
				for _, child := range status.Launches.Children {
					if child.Status != api.JobComplete || !strings.HasPrefix(child.Name, "backup-") {
						return fmt.Errorf("%s is %s", child.Name, child.Status)
					}
					names[child.Name] = true
				}
				if len(names) != want || len(status.Launches.Children) != want {
					return fmt.Errorf("%d were launched, want %d", len(names), want)
				}
				return nil
			}
		}
		c.Eventually("two are launched and complete", 22*time.Minute, launched(2))
		status, _, err := c.Up().Job(t.Context(), "backup", api.Query{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(status.Launches.Next[0]) - 200*time.Millisecond)
		c.Leader().Crash()
		c.Eventually("the next leader launches the third, once", 2*time.Minute, launched(3))
		c.Eventually("and the fourth", 10*time.Minute, launched(4))
	})
}

// TestADispatchIsDoneOnceBubble: requests that name themselves are made while leaders die, again and again until they are answered,
// of any server. Each launches one job, and what was answered stays.
func TestADispatchIsDoneOnceBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 2)
		c.NodesReady(2, 30*time.Second)
		c.Submit(`
task "resize" {
  type   = "batch"
  driver = "fake"
  parameterized {
    meta_required = ["size"]
  }
  config {
    run_for = "5s"
  }
}
`)
		const requests = 10             // as many as are kept
		answered := map[string]string{} // request ID -> the job
		dispatch := func(id string) {
			t.Helper()
			c.Eventually("dispatch "+id, time.Minute, func(ctx context.Context) error {
				r := api.DispatchRequest{ID: id, Meta: map[string]string{"size": id}, Payload: []byte(id)}
				got, err := c.Up().DispatchJob(ctx, "resize", r, api.WriteMeta{})
				if err != nil {
					return err
				}
				name := got.Jobs[0].Name
				if old := answered[id]; old != "" && old != name {
					t.Errorf("%s is %s, and then %s", id, old, name)
				}
				answered[id] = name
				return nil
			})
		}
		for n := range requests {
			var crash func()
			if n%4 == 1 {
				leader := c.Leader()
				leader.Crash()
				crash = leader.Return
			}
			dispatch(fmt.Sprint("photo-", n))
			dispatch(fmt.Sprint("photo-", n/2)) // one that was asked for before
			if crash != nil {
				crash()
			}
		}
		c.Eventually("each was launched once, and is complete", 2*time.Minute, func(ctx context.Context) error {
			status, _, err := c.Up().Job(ctx, "resize", api.Query{})
			if err != nil {
				return err
			}
			if status.Launches.Counts[api.JobComplete] != requests || status.Launches.Known() != requests {
				return fmt.Errorf("there are %v", status.Launches.Counts)
			}
			return nil
		})
		names := map[string]bool{}
		for _, name := range answered {
			names[name] = true
		}
		if len(names) != requests {
			t.Errorf("%d jobs for %d requests: %v", len(names), requests, answered)
		}
		for id, name := range answered {
			status, _, err := c.Up().Job(t.Context(), name, api.Query{})
			if err == nil && (status.Job.Parent != "resize" || status.Job.Dispatched.Meta["size"] != id || string(status.Job.Dispatched.Payload) != id) {
				t.Errorf("%s was launched as %+v", id, status.Job.Dispatched)
			}
		}
	})
}
