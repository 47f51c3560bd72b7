package fsm

import (
	"fmt"
	"strings"
	"testing"

	"cube/api"
)

func imageJob(name, image string, count int) *api.Job {
	j := testJob(name, api.JobService, count)
	j.Tasks[0].Image = image
	return j
}

func (c *cluster) kept(name string) []uint64 {
	var out []uint64
	for _, j := range c.m.Snapshot().Versions(name) {
		out = append(out, j.Version)
	}
	return out
}

// refusedSaying applies a command that must be refused with the code, in words that hold those.
func (c *cluster) refusedSaying(code api.Code, words string, body Body) {
	c.t.Helper()
	r := c.apply(body)
	if api.CodeOf(r.Err) != code || !strings.Contains(r.Err.Error(), words) {
		c.t.Fatalf("%T: want %s saying %q, got %v", body, code, words, r.Err)
	}
}

func TestATaggedVersionIsKept(t *testing.T) {
	c := newCluster(t)
	c.register(imageJob("web", "v1", 1))
	c.register(imageJob("web", "v2", 1))
	before := c.m.Snapshot().Job("web").ModifyIndex
	r := c.ok(&TagVersion{Name: "web", Version: "1", Tag: "good"}).Registered[0]
	equal(t, "result", r, RegisteredJob{Name: "web", Version: 1, Changed: true})
	equal(t, "again", c.ok(&TagVersion{Name: "web", Version: "good", Tag: "good"}).Registered[0].Changed, false)
	equal(t, "a tag leaves the modify index alone", c.m.Snapshot().Job("web").ModifyIndex, before)
	for i := range 20 {
		c.register(imageJob("web", fmt.Sprint("later ", i), 1))
	}
	equals(t, "kept", c.kept("web"), []uint64{22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 1})
	v, err := c.m.Snapshot().FindVersion("web", "good")
	if err != nil || v.Tasks[0].Image != "v1" {
		t.Fatalf("good: %v, %v", v, err)
	}

	equal(t, "moved", c.ok(&TagVersion{Name: "web", Version: api.VersionPrevious, Tag: "good"}).Registered[0].Version, 21)
	equal(t, "tags of the old one", len(c.m.Snapshot().JobVersion("web", 1).Tags), 0)
	c.register(imageJob("web", "the last", 1))
	equals(t, "kept", c.kept("web"), []uint64{23, 22, 21, 20, 19, 18, 17, 16, 15, 14})
	c.ok(&TagVersion{Name: "web", Tag: "good", Remove: true})
	c.refusedSaying(api.CodeNotFound, `job "web" has no tag good; it has versions 23, 22, 21`, &TagVersion{Name: "web", Tag: "good", Remove: true})
}

func TestTagsAreBoundedAndAreNoNumbers(t *testing.T) {
	c := newCluster(t)
	c.register(imageJob("web", "v1", 1))
	for i := range api.MaxTags {
		c.ok(&TagVersion{Name: "web", Version: "1", Tag: fmt.Sprintf("t%d", i)})
	}
	c.refusedSaying(api.CodeConflict, "has 10 tags", &TagVersion{Name: "web", Version: "1", Tag: "more"})
	for tag, words := range map[string]string{"": "is empty", "12": "is a number", "current": "by its place", "previous": "by its place", "No": "is not a name"} {
		c.refusedSaying(api.CodeInvalid, words, &TagVersion{Name: "web", Version: "1", Tag: tag})
	}
	c.refusedSaying(api.CodeNotFound, `no job "nobody"`, &TagVersion{Name: "nobody", Version: "1", Tag: "x"})
	c.refusedSaying(api.CodeNotFound, `job "web" has no version 7; it has version 1 (t0, t1,`, &TagVersion{Name: "web", Version: "7", Tag: "t1"})
	c.refusedSaying(api.CodeNotFound, `job "web" has no version before 1`, &TagVersion{Name: "web", Version: "previous", Tag: "t1"})
	c.refusedSaying(api.CodeNotFound, `job "web" has no tag stabel`, &RevertJob{Name: "web", To: "stabel"})
}

func TestRevertingMakesAVersionOfTheOldContent(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(imageJob("web", "v1", 2))
	c.ok(&TagVersion{Name: "web", Version: "1", Tag: "good"})
	c.register(imageJob("web", "v2", 3))
	r := c.request("once", &RevertJob{Name: "web", To: "good"}).Registered[0]
	s := c.m.Snapshot()
	equal(t, "result", r, RegisteredJob{Name: "web", Version: 3, Changed: true, Evaluation: s.Open("web").ID})
	equal(t, "content", api.SpecEqual(s.Job("web"), s.JobVersion("web", 1)), true)
	equal(t, "origin", s.Job("web").Origin, "reverted to version 1 (good)")
	equal(t, "by", s.Job("web").SubmittedBy, "test")
	equal(t, "tags", len(s.Job("web").Tags), 0)
	equal(t, "cause", s.Open("web").Cause, api.CauseRevert)
	equal(t, "the same request again", c.request("once", &RevertJob{Name: "web", To: "good"}).Registered[0], r)
	equal(t, "what is in force already", c.ok(&RevertJob{Name: "web", To: "1"}).Registered[0].Changed, false)
	equal(t, "back again", c.ok(&RevertJob{Name: "web", To: api.VersionPrevious}).Registered[0].Version, 4)
	equal(t, "content", c.m.Snapshot().Job("web").Tasks[0].Image, "v2")

	c.ok(&StopJob{Name: "web"})
	equal(t, "a stopped job runs again", c.ok(&RevertJob{Name: "web", To: api.VersionCurrent}).Registered[0].Changed, true)
	equal(t, "stopped", c.m.Snapshot().Job("web").Stopped, false)
}

func TestScalingStaysInTheVersion(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(testJob("web", api.JobService, 2))
	c.run("web", 2, "n1")
	before := c.m.Snapshot()
	r := c.ok(&ScaleJob{Name: "web", Count: 4}).Registered[0]
	s := c.m.Snapshot()
	equal(t, "result", r, RegisteredJob{Name: "web", Version: 1, Changed: true, Evaluation: s.Open("web").ID})
	equal(t, "versions", len(s.Versions("web")), 1)
	equal(t, "count", s.Job("web").Tasks[0].Count, 4)
	equal(t, "queued", s.Summary("web").Counts.Queued, 2)
	equal(t, "scaled", s.Job("web").Scaled.What, "web from 2 to 4")
	equal(t, "what was read before", before.Job("web").Tasks[0].Count, 2)
	if s.Job("web").ModifyIndex <= before.Job("web").ModifyIndex {
		t.Fatal("scaling does not raise the modify index")
	}
	equal(t, "to the same", c.ok(&ScaleJob{Name: "web", Task: "web", Count: 4}).Registered[0].Changed, false)
	equal(t, "a file that says the old count", c.register(testJob("web", api.JobService, 2)).Version, 2)
	equal(t, "a version begins unscaled", c.m.Snapshot().Job("web").Scaled == nil, true)

	c.refusedSaying(api.CodeInvalid, "count -1 is not from 0 to 100000", &ScaleJob{Name: "web", Count: -1})
	c.refusedSaying(api.CodeNotFound, `job "web" has no task "db"; it has web`, &ScaleJob{Name: "web", Task: "db", Count: 1})
	c.refusedSaying(api.CodeNotFound, `no job "nobody"`, &ScaleJob{Name: "nobody", Count: 1})
	two := testJob("two", api.JobService, 1)
	two.Tasks = append(two.Tasks, api.DefaultTask("side"))
	c.register(two)
	c.refusedSaying(api.CodeInvalid, `job "two" has 2 tasks; name one as in two/two`, &ScaleJob{Name: "two", Count: 1})
	c.ok(&StopJob{Name: "web"})
	c.refusedSaying(api.CodeConflict, `job "web" is stopped`, &ScaleJob{Name: "web", Count: 1})
}

func TestAChangeDecidedOnAnotherStateIsRefused(t *testing.T) {
	c := newCluster(t)
	at := func(n uint64) *uint64 { return &n }
	both := []*api.Job{imageJob("a", "v1", 1), imageJob("b", "v1", 1)}
	c.refusedSaying(api.CodeConflict, `job "a" does not exist`, &RegisterJobs{Jobs: both, CheckIndex: at(7)})
	c.ok(&RegisterJobs{Jobs: both, CheckIndex: at(0)})
	planned := c.m.Snapshot().Job("b").ModifyIndex
	c.refusedSaying(api.CodeConflict, "has changed", &RegisterJobs{Jobs: both, CheckIndex: at(0)})

	c.ok(&ScaleJob{Name: "a", Count: 2, CheckIndex: at(planned)})
	now := c.m.Snapshot().Job("a").ModifyIndex
	words := fmt.Sprintf(`job "a" has changed: its modify index is %d, not %d`, now, planned)
	c.refusedSaying(api.CodeConflict, words, &RegisterJobs{Jobs: both, CheckIndex: at(planned)})
	c.refusedSaying(api.CodeConflict, words, &ScaleJob{Name: "a", Count: 3, CheckIndex: at(planned)})
	c.refusedSaying(api.CodeConflict, words, &RevertJob{Name: "a", To: "1", CheckIndex: at(planned)})
	c.ok(&RegisterJobs{Jobs: both, CheckIndex: at(now)})
	equal(t, "next", c.m.Snapshot().NextVersion("a"), 3)
	equal(t, "next of one that never was", c.m.Snapshot().NextVersion("c"), 1)
}
