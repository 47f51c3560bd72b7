package fsm

import (
	"fmt"
	"strings"
	"testing"

	"cube/api"
)

// restart asks for a restart of web.
func (c *cluster) restart(slots ...int) Result {
	c.t.Helper()
	return c.ok(&RestartJob{Name: "web", RestartRequest: api.RestartRequest{Instances: slots}, Deploy: true})
}

func TestARestartIsAVersionThatSaysTheSame(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(imageJob("web", "v1", 3))
	c.run("web", 3, "n1")
	c.deploy("v2")
	c.judge(api.MoveSucceed, "")
	r := c.request("once", &RestartJob{Name: "web", Deploy: true}).Registered[0]
	s := c.m.Snapshot()
	equal(t, "result", r, RegisteredJob{Name: "web", Version: 3, Changed: true, Evaluation: s.Open("web").ID})
	now := s.Job("web")
	equal(t, "content", api.SpecEqual(now, s.JobVersion("web", 2)), true)
	equal(t, "origin", now.Origin, "restart of version 2")
	equal(t, "by", now.SubmittedBy, "test")
	equal(t, "cause", s.Open("web").Cause, api.CauseRestart)
	equal(t, "deployment", s.Deployment("web").Version, 3)
	equal(t, "what runs is to go", now.Renews("web", 2, 2), true)
	equal(t, "what comes is not", now.Renews("web", 2, 3), false)
	equal(t, "the same request again", c.request("once", &RestartJob{Name: "web", Deploy: true}).Registered[0], r)
	c.refusedSaying(api.CodeConflict, `version 3 of job "web" is being rolled out`, &RestartJob{Name: "web"})

	c.judge(api.MoveSucceed, "")
	equal(t, "another one", c.restart(1, 0, 1).Registered[0].Version, 4)
	equal(t, "origin", c.m.Snapshot().Job("web").Origin, "restart of web[0], web[1] of version 2")
	equal(t, "the file says this already", c.register(imageJob("web", "v2", 2)).Changed, false)
	found, err := c.m.Snapshot().FindVersion("web", api.VersionPrevious)
	if err != nil || found.Version != 1 {
		t.Fatalf("the version before a restart is the one before what was restarted: %v, %v", found, err)
	}
}

func TestWhatARestartHasLeftIsTakenOver(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	c.register(imageJob("web", "v1", 3))
	c.run("web", 3, "n1")
	c.ok(&RestartJob{Name: "web", RestartRequest: api.RestartRequest{Instances: []int{1}}})
	changed := imageJob("web", "v1", 3)
	changed.Priority = 70
	c.register(changed)
	now := c.m.Snapshot().Job("web")
	equal(t, "it is no restart", now.IsRestart(), false)
	equal(t, "web[1] is still to be replaced", now.Renews("web", 1, 1), true)
	equal(t, "web[0] is not", now.Renews("web", 0, 1), false)
	for _, id := range c.live("web") {
		c.ok(&StopAllocation{ID: id})
		c.report(id, api.PhaseComplete)
	}
	changed.Priority = 71
	c.register(changed)
	equal(t, "nothing is left", c.m.Snapshot().Job("web").Restarted == nil, true)
}

func TestARestartThatFailsIsNotReverted(t *testing.T) {
	c := newCluster(t)
	c.deploy("v1", autoRevert)
	c.judge(api.MoveSucceed, "")
	c.deploy("v2", autoRevert)
	c.judge(api.MoveSucceed, "")
	c.restart()
	d := c.judge(api.MoveFail, "web[0] failed")
	equal(t, "status", d.Status, api.DeploymentFailed)
	equal(t, "reason", d.Reason, "web[0] failed; not reverted, since it was a restart: the version before it says the same")
	equal(t, "it may be tried again", c.restart().Registered[0].Version, 4)
}

func TestRestartsPushNoVersionOut(t *testing.T) {
	c := newCluster(t)
	for i := range 12 {
		c.register(imageJob("web", fmt.Sprint("v", i), 1))
	}
	for range 20 {
		c.ok(&RestartJob{Name: "web"})
	}
	equals(t, "kept", c.kept("web"), []uint64{32, 31, 30, 29, 28, 27, 26, 25, 24, 23, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3})
	equal(t, "it is one of what was submitted", c.m.Snapshot().Job("web").Origin, "restart of version 12")
}

func TestWhatCannotBeRestarted(t *testing.T) {
	c := newCluster(t)
	c.nodes("n1")
	ask := func(name, task string, slots ...int) *RestartJob {
		return &RestartJob{Name: name, RestartRequest: api.RestartRequest{Task: task, Instances: slots}}
	}
	c.refusedSaying(api.CodeNotFound, `no job "nobody"`, ask("nobody", ""))
	c.register(testJob("web", api.JobService, 3))
	c.refusedSaying(api.CodeNotFound, `job "web" has no task "db"; it has web`, ask("web", "db"))
	c.refusedSaying(api.CodeNotFound, "there is no instance 3 of web: its 3 are numbered from 0 to 2", ask("web", "", 1, 3))
	c.refusedSaying(api.CodeNotFound, "there is no instance -1", ask("web", "web", -1))
	stale := uint64(1)
	c.refusedSaying(api.CodeConflict, "has changed", &RestartJob{Name: "web", RestartRequest: api.RestartRequest{CheckIndex: &stale}})
	two := testJob("two", api.JobService, 0)
	two.Tasks = append(two.Tasks, api.DefaultTask("side"))
	two.Tasks[1].Count = 0
	c.register(two)
	c.refusedSaying(api.CodeInvalid, `job "two" has 2 tasks; name the one whose instances are meant as in two/two`, ask("two", "", 0))
	c.refusedSaying(api.CodeConflict, `job "two" has no instances to restart`, ask("two", ""))
	c.ok(&StopJob{Name: "web"})
	c.refusedSaying(api.CodeConflict, `job "web" is stopped; run it again instead`, ask("web", ""))

	c.register(testJob("sum", api.JobBatch, 2))
	ids := c.run("sum", 2, "n1")
	c.report(ids[0], api.PhaseComplete)
	c.refusedSaying(api.CodeConflict, `all of job "sum" that is to be restarted has completed`, ask("sum", "", 0))
	c.ok(ask("sum", "", 1))
	c.report(ids[1], api.PhaseComplete)
	c.refusedSaying(api.CodeConflict, "to run it from the beginning, stop it and run it again", ask("sum", ""))

	c.register(testJob("logger", api.JobSystem, 1))
	c.refusedSaying(api.CodeNotFound, "there is no instance logger[0]", ask("logger", "", 0))
	c.run("logger", 1, "n1")
	c.ok(ask("logger", "", 0))
	if words := c.m.Snapshot().Job("logger").Origin; !strings.Contains(words, "logger[0]") {
		t.Fatal(words)
	}
}
