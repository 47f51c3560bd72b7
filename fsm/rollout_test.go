package fsm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cube/api"
	"cube/fsm/deployment"
)

// deploy registers a version of web with an image, to be rolled out.
func (c *cluster) deploy(image string, edit ...func(*api.Update)) *api.Deployment {
	c.t.Helper()
	j := imageJob("web", image, 2)
	for _, e := range edit {
		e(&j.Tasks[0].Update)
	}
	c.ok(&RegisterJobs{Jobs: []*api.Job{j}, Deploy: true})
	return c.m.Snapshot().Deployment("web")
}

// judge passes what the leader found of the deployment of the version in force, and returns what became of it.
func (c *cluster) judge(to, reason string) *api.Deployment {
	c.t.Helper()
	d := c.m.Snapshot().Deployment("web")
	c.ok(&JudgeDeployments{Moves: []deployment.Move{{ID: d.ID, Seen: d.ModifyIndex, To: to, Reason: reason, Healthy: 1, Tasks: d.Tasks}}})
	return c.m.Snapshot().Deployments().Get(d.ID)
}

func (c *cluster) steer(id api.ID, action string) Result {
	c.t.Helper()
	return c.apply(&SteerDeployment{ID: id, DeploymentOrder: api.DeploymentOrder{Action: action}})
}

func autoRevert(u *api.Update) { u.AutoRevert = true }

func TestAFailedDeploymentRevertsOnce(t *testing.T) {
	c := newCluster(t)
	c.deploy("v1", autoRevert)
	if d := c.judge(api.MoveFail, "web[0] failed"); d.Status != api.DeploymentFailed || !strings.Contains(d.Reason, "no stable version") {
		t.Fatalf("the first version has nothing to revert to: %+v", d)
	}
	c.deploy("v2", autoRevert)
	equal(t, "status", c.judge(api.MoveSucceed, "").Status, api.DeploymentSuccessful)
	equal(t, "stable", c.m.Snapshot().JobVersion("web", 2).Stable, true)

	c.deploy("v3", autoRevert)
	d := c.judge(api.MoveFail, "web[0] failed")
	equal(t, "status", d.Status, api.DeploymentReverted)
	equal(t, "reverted to", d.RevertedTo, uint64(4))
	now := c.m.Snapshot().Job("web")
	equal(t, "image", now.Tasks[0].Image, "v2")
	equal(t, "origin", now.Origin, "reverted to version 2 automatically: version 3 failed: web[0] failed")
	equal(t, "the new version is not stable yet", now.Stable, false)

	d = c.judge(api.MoveFail, "web[1] failed")
	equal(t, "the revert's own failure", d.Status, api.DeploymentFailed)
	equal(t, "reason", d.Reason, "web[1] failed; not reverted again, since it was an automatic revert itself")
	equal(t, "version", c.m.Snapshot().Job("web").Version, uint64(4))

	c.deploy("v5")
	equal(t, "without auto_revert", c.judge(api.MoveFail, "slow").Status, api.DeploymentFailed)
	equal(t, "version", c.m.Snapshot().Job("web").Version, uint64(5))
}

func TestAJudgementCountsOnceAndForTheRowItSaw(t *testing.T) {
	c := newCluster(t)
	d := c.deploy("v1")
	c.steer(d.ID, api.DeploymentPause)
	late := deployment.Move{ID: d.ID, Seen: d.ModifyIndex, To: api.MoveFail}
	c.ok(&JudgeDeployments{Moves: []deployment.Move{late, {ID: 12345}}})
	equal(t, "status", c.m.Snapshot().Deployment("web").Status, api.DeploymentPaused)
	c.ok(&StopJob{Name: "web"})
	equal(t, "of a stopped job", c.m.Snapshot().Deployment("web").Status, api.DeploymentCancelled)
	old := c.deploy("v2")
	next := c.deploy("v3")
	equal(t, "of an older version", c.m.Snapshot().Deployments().Get(old.ID).Reason, "version 3 took its place")
	c.ok(&JudgeDeployments{Moves: []deployment.Move{{ID: old.ID, Seen: old.ModifyIndex, To: api.MoveSucceed}}})
	equal(t, "the newer one", c.m.Snapshot().Deployment("web").Status, next.Status)
}

func TestWhatAPersonMayAskOfADeployment(t *testing.T) {
	conflicts := func(words string, r Result) {
		t.Helper()
		if api.CodeOf(r.Err) != api.CodeConflict || !strings.Contains(r.Err.Error(), words) {
			t.Fatalf("want a conflict that says %q, got %v", words, r.Err)
		}
	}
	c := newCluster(t)
	c.nodes("n1")
	c.deploy("v1")
	ids := c.run("web", 2, "n1")
	c.judge(api.MoveSucceed, "")
	d := c.deploy("v2", func(u *api.Update) { u.Canary = 1 })
	equal(t, "canaries", d.Tasks[0].Canaries, 1)
	conflicts("of task web 0 of 1 canaries are healthy", c.steer(d.ID, api.DeploymentPromote))
	p := c.plan("web", api.EvalComplete)
	canary := c.put(p, 0, "n1")
	canary.Replaces, canary.Beside = ids[0], true
	c.ok(&CommitPlan{Plan: p})
	c.report(c.live("web")[1], api.PhaseRunning)
	equal(t, "open", c.status("web"), "")
	equal(t, "promote", c.steer(d.ID, api.DeploymentPromote).Err, nil)
	equal(t, "promoted", c.m.Snapshot().Deployment("web").Tasks[0].Promoted, true)
	equal(t, "the job is looked at", c.m.Snapshot().Open("web").Cause, api.CauseDeployment)
	conflicts("nothing to promote", c.steer(d.ID, api.DeploymentPromote))

	c.wait(time.Hour)
	equal(t, "pause", c.steer(d.ID, api.DeploymentPause).Err, nil)
	conflicts("is paused: there is nothing to pause", c.steer(d.ID, api.DeploymentPause))
	c.wait(time.Hour)
	equal(t, "resume", c.steer(d.ID, api.DeploymentResume).Err, nil)
	if now := c.m.Snapshot().Deployment("web"); now.Since.Sub(d.Since) < 2*time.Hour || now.ProgressAt != now.Since {
		t.Fatalf("after a pause its deadlines begin anew: %+v", now)
	}
	equal(t, "fail", c.steer(d.ID, api.DeploymentFail).Err, nil)
	equal(t, "reason", c.m.Snapshot().Deployment("web").Reason, "failed on request")
	conflicts("is failed: there is nothing to fail", c.steer(d.ID, api.DeploymentFail))
	equal(t, "try again", c.steer(d.ID, api.DeploymentResume).Err, nil)
	c.refused(api.CodeInvalid, &SteerDeployment{ID: d.ID, DeploymentOrder: api.DeploymentOrder{Action: "dance"}})
	c.refused(api.CodeNotFound, &SteerDeployment{ID: 99999})
	c.deploy("v3")
	conflicts("is cancelled: there is nothing to resume", c.steer(d.ID, api.DeploymentResume))
}

func TestCanariesAreForWhatIsReplaced(t *testing.T) {
	canary := func(u *api.Update) { u.Canary = 1 }
	c := newCluster(t)
	equal(t, "a first version has none", c.deploy("v1", canary).Tasks[0].Canaries, 0)
	equal(t, "an untouched instance", c.deploy("v1", canary, autoRevert).Tasks[0].Canaries, 0)
	equal(t, "another image", c.deploy("v2", canary).Tasks[0].Canaries, 1)
	equal(t, "of a version that was never promoted", c.deploy("v2", canary, autoRevert).Tasks[0].Canaries, 1)
	c.ok(&StopJob{Name: "web"})
	equal(t, "a job that was stopped", c.deploy("v4", canary).Tasks[0].Canaries, 0)
	c.judge(api.MoveSucceed, "")
	c.deploy("v5", canary, autoRevert)
	c.judge(api.MoveFail, "web[0] failed")
	equal(t, "an automatic revert", c.m.Snapshot().Deployment("web").Automatic, true)
	equal(t, "its canaries", c.m.Snapshot().Deployment("web").Tasks[0].Canaries, 0)
}

func TestTheLastStableVersionIsKept(t *testing.T) {
	c := newCluster(t)
	c.deploy("good")
	c.judge(api.MoveSucceed, "")
	for i := range 15 {
		c.deploy(fmt.Sprint("bad", i))
	}
	equals(t, "kept", c.kept("web"), []uint64{16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 1})
	equal(t, "deployments", c.m.Snapshot().Deployments().Len(), api.KeptDeployments)
	c.deploy("better")
	c.judge(api.MoveSucceed, "")
	c.deploy("next")
	equals(t, "kept", c.kept("web"), []uint64{18, 17, 16, 15, 14, 13, 12, 11, 10, 9})
	c.ok(&StopJob{Name: "web"})
	c.ok(&Reap{Jobs: []string{"web"}})
	equal(t, "of a purged job", c.m.Snapshot().Deployments().Len(), 0)
}

// rolloutStory is what the stories lack: deployments in each status, and an instance beside the one that it succeeds. It may not
// change either.
func rolloutStory(t failer) *cluster {
	c := newCluster(t)
	c.nodes("n1", "n2")
	c.deploy("v1")
	ids := c.run("web", 2, "n1")
	for _, id := range ids {
		c.report(id, api.PhaseRunning)
	}
	c.judge(api.MoveSucceed, "2 of 2 healthy")
	d := c.deploy("v2", autoRevert, func(u *api.Update) { u.Canary, u.MaxParallel, u.Order = 1, 2, api.OrderStartFirst })
	p := c.plan("web", api.EvalBlocked)
	canary := c.put(p, 0, "n2")
	canary.Replaces, canary.Beside = ids[0], true
	c.ok(&CommitPlan{Plan: p})
	c.judge(api.MoveProgress, "")
	c.steer(d.ID, api.DeploymentPause)
	c.steer(d.ID, api.DeploymentResume)
	c.report(c.live("web")[1], api.PhaseRunning)
	c.steer(d.ID, api.DeploymentPromote)
	c.judge(api.MoveFail, "web[1] was not healthy within 5m0s")
	c.judge(api.MoveFail, "web[1] failed")
	c.deploy("v4")
	c.request("r1", &RevertJob{Name: "web", To: "1", Deploy: true})
	return c
}
