package command

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cube/api"
)

// historyTerminal shows a job of three versions.
func historyTerminal(t *testing.T, c *fakeCluster) *terminal {
	p := newTerminal(t, c)
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	p.meta.Now = func() time.Time { return now }
	var versions []*api.Job
	for i, image := range []string{"hello:1", "hello:2", "hello:1"} {
		j := webJob(3)
		j.Version, j.ModifyIndex, j.SubmittedBy = uint64(i+1), uint64(10*(i+1)), "ada@host"
		j.SubmittedAt = now.Add(-time.Duration(3-i) * time.Hour)
		j.Source = &api.Source{FileName: "web.hcl"}
		j.Tasks[0].Image = image
		versions = append(versions, j)
	}
	versions[0].Tags = []string{"good", "stable"}
	versions[2].Origin = "reverted to version 1 (good)"
	versions[2].Scaled = &api.Scaling{At: now.Add(-time.Minute), By: "bob@host", What: "web from 3 to 5"}
	c.history = []*api.Revision{{Job: versions[2], Diff: api.DiffJobs(versions[1], versions[2])}, {Job: versions[1], Diff: api.DiffJobs(versions[0], versions[1])}, {Job: versions[0]}}
	return p
}

func TestHistory(t *testing.T) {
	c := newFakeCluster()
	p := historyTerminal(t, c)
	p.cube(0, "task", "history", "web")
	golden(t, "task_history", p.stdout.String())

	p = historyTerminal(t, c)
	p.cube(0, "task", "history", "-diff", "web")
	golden(t, "task_history_diff", p.stdout.String())

	for version, want := range map[string]string{"stable": "the first one", "2": `"hello:1" => "hello:2"`, "previous": `"hello:1" => "hello:2"`, "current": `"hello:2" => "hello:1"`} {
		p = historyTerminal(t, c)
		p.cube(0, "task", "history", "-version", version, "web")
		p.shows(want)
		if n := strings.Count(p.stdout.String(), "web.hcl") + strings.Count(p.stdout.String(), "reverted"); n != 1 {
			t.Errorf("-version %s shows %d versions", version, n)
		}
	}
	p = historyTerminal(t, c)
	p.cube(1, "task", "history", "-version", "9", "web")
	p.complains(`Error reading the history of "web": no version is called "9"; there are 3, 2, 1 good stable`)
}

func TestHistoryOfRestarts(t *testing.T) {
	c := newFakeCluster()
	p := historyTerminal(t, c)
	again := *c.history[0].Job
	again.Version, again.Restarted, again.Origin, again.SubmittedBy = 4, &api.Restarted{Of: 3}, "restart of version 3", "ada@host"
	c.history = append([]*api.Revision{{Job: &again, Diff: &api.Diff{Kind: api.DiffNone}}}, c.history...)
	p.cube(0, "task", "history", "-version", "current", "web")
	p.shows("restart of version 3 by ada@host; nothing else was changed")
	p = newTerminal(t, c)
	p.cube(0, "task", "history", "-version", "previous", "web")
	p.shows(`"hello:1" => "hello:2"`) // version 3 is what was restarted
}

func TestTag(t *testing.T) {
	c := newFakeCluster()
	p := newTerminal(t, c)
	p.cube(0, "task", "tag", "web", "current", "stable")
	p.shows("Version 3 of job \"web\" has the tag stable\n")
	if d := cmp.Diff(c.asks, any(api.TagRequest{Version: "current", Tag: "stable"})); d != "" {
		t.Error(d)
	}
	p = newTerminal(t, c)
	p.cube(0, "task", "tag", "-delete", "web", "stable")
	p.shows("no longer has the tag stable")
	if d := cmp.Diff(c.asks, any(api.TagRequest{Tag: "stable", Remove: true})); d != "" {
		t.Error(d)
	}
	for args, want := range map[string]string{"web": "this command takes: <name> <version> <tag>", "web stable": "<name> <version> <tag>", "-delete web 3 stable": "-delete takes a name and a tag"} {
		c.asks = nil
		p = newTerminal(t, c)
		p.cube(1, append([]string{"task", "tag"}, strings.Fields(args)...)...)
		p.complains(want)
		if c.asks != nil {
			t.Errorf("%s: the cluster was asked", args)
		}
	}
}

func TestRevertAndScaleFollowWhatTheySetInMotion(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		node := c.addNode("n1", nil)
		job := webJob(2)
		job.Version = 4
		c.do(func() { c.jobs["web"] = job })
		for slot := range 2 {
			c.phase(c.place(job, "web", slot, node, nil), api.PhaseRunning, "")
		}
		p.cube(0, "task", "revert", "-check-index", "7", "web", "previous")
		p.shows(`Job "web" version 4 is accepted`)
		seven := uint64(7)
		if d := cmp.Diff(c.asks, any(api.RevertRequest{To: "previous", CheckIndex: &seven})); d != "" {
			t.Error(d)
		}
		p.cube(0, "task", "scale", "web/web", "2")
		if d := cmp.Diff(c.asks, any(api.ScaleRequest{Task: "web", Count: 2})); d != "" {
			t.Error(d)
		}
		p.cube(0, "task", "scale", "-detach", "web", "0")
		p.cube(0, "task", "restart", "-instance", "2", "-instance", "0", "web/web")
		if d := cmp.Diff(c.asks, any(api.RestartRequest{Task: "web", Instances: []int{2, 0}})); d != "" {
			t.Error(d)
		}
		p = newTerminal(t, c)
		p.cube(0, "task", "restart", "-json", "web")
		var answer api.Registered
		if err := json.Unmarshal([]byte(p.stdout.String()), &answer); err != nil || answer.Jobs[0].Version != 4 {
			t.Errorf("-json: %v in %s", err, p.stdout.String())
		}
	})
}

func TestRevertAndScaleOfBadInput(t *testing.T) {
	for args, want := range map[string]string{
		"scale web many": `the count "many" is not a whole number from 0 to 100000`, "scale web -- -1": "not a whole number", "scale web -1": "not a whole number", "scale web 100001": "not a whole number",
		"scale web": "this command takes: <name> <count>", "scale nobody 3": `Error scaling "nobody": there is no job "nobody"`,
		"restart nobody": `Error restarting "nobody": there is no job "nobody"`, "restart -instance x web": "not the number of an instance", "restart -instance -1 web": "not the number of an instance",
		"revert web": "this command takes: <name> <version>", "revert nobody 3": `Error reverting "nobody": there is no job "nobody"`, "revert -check-index x web 3": "not a modify index",
	} {
		p := newTerminal(t, newFakeCluster())
		p.cube(1, append([]string{"task"}, strings.Fields(args)...)...)
		p.complains(want)
		if n := strings.Count(p.stderr.String(), "\n"); n > 2 || p.stdout.String() != "" {
			t.Errorf("%s: %q, %q", args, p.stdout.String(), p.stderr.String())
		}
	}
}
