package balancer

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"cube/api"
	"cube/fsm"
	"cube/fsm/balance"
	"cube/scheduler"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a keeper over a state, in a bubble of time, and what a scheduler and two nodes do to it. All four instances of a job are on
// n1, and with spread half of them belong on n2.
type rig struct {
	*testing.T
	Keeper
	mu    sync.Mutex // of entries
	index uint64
	told  []string // the entries of the keeper
	first func()   // what comes in before the keeper's next entry
}

func newRig(t *testing.T, auto *api.RebalanceBudget) *rig {
	r := &rig{T: t}
	r.Keeper = Keeper{Machine: fsm.New(), Now: func() int64 { return time.Now().UnixNano() }, Auto: auto, Logger: hclog.NewNullLogger(),
		Options: func() scheduler.Options { return scheduler.Options{Algorithm: api.AlgorithmSpread} }, Apply: r.commit}
	task := api.DefaultTask("web")
	task.Image, task.Count, task.Resources = "cube/hello:1", 4, api.Resources{CPU: 200, Memory: 128}
	job := &api.Job{Name: "web", Type: api.JobService, Priority: 50, Tasks: []*api.Task{task}}
	job.Canonicalize()
	r.apply(&fsm.InitCluster{ClusterID: "c"})
	r.node("n1")
	r.apply(&fsm.RegisterJobs{Jobs: []*api.Job{job}})
	r.schedule()
	r.report(api.HealthHealthy)
	r.node("n2")
	return r
}

func (r *rig) node(name string) {
	r.apply(&fsm.RegisterNode{Ready: true, Node: &api.Node{ID: name, Name: name, Resources: api.Resources{CPU: 1000, Memory: 1024, Disk: 1024},
		Drivers: map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}}})
}

func (r *rig) write(body fsm.Body, who string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.index++
	result := r.Machine.Apply(r.index, &fsm.Command{At: time.Now().UnixNano(), Who: who, Body: body})
	if len(result.Rejections) > 0 {
		r.Errorf("%T: %+v", body, result)
	}
	return result.Err
}

func (r *rig) apply(body fsm.Body) {
	r.Helper()
	if err := r.write(body, "alice"); err != nil {
		r.Fatalf("%T: %v", body, err)
	}
}

// commit is the keeper's way to the log.
func (r *rig) commit(b *fsm.Rebalance) error {
	if f := r.first; f != nil {
		r.first = nil
		f()
	}
	what := "step"
	if b.Begin != nil {
		what = fmt.Sprintf("begin %d", len(b.Begin.Moves))
	}
	r.told = append(r.told, what)
	return r.write(b, "leader/balancer")
}

// schedule has the scheduler look at the job.
func (r *rig) schedule() {
	r.Helper()
	s := r.Machine.Snapshot()
	if e := s.Open("web"); e != nil {
		r.apply(&fsm.CommitPlan{Plan: scheduler.Schedule(s, []*api.Evaluation{e}, r.Options())})
	}
}

// report has the nodes say that what is to run does, with a health, and that what is to stop has.
func (r *rig) report(health api.HealthStatus) {
	r.Helper()
	nodes := map[string][]api.AllocationStatus{}
	for row := range r.Machine.Snapshot().JobRows("web") {
		st := api.AllocationStatus{ID: row.ID, Seq: row.Seq + 1, Phase: api.PhaseRunning, Health: health}
		switch {
		case !row.Live():
			continue
		case row.Desired == api.DesiredStop:
			st.Phase, st.Health = api.PhaseComplete, row.Health
		case row.Health == api.HealthHealthy:
			continue
		}
		nodes[row.Node] = append(nodes[row.Node], st)
	}
	for _, node := range []string{"n1", "n2"} {
		if len(nodes[node]) > 0 {
			r.apply(&fsm.UpdateStatuses{Reports: []fsm.NodeReport{{Node: node, Statuses: nodes[node]}}})
		}
	}
}

// arrive has what is on the move be placed, become healthy, and take over.
func (r *rig) arrive() {
	r.Helper()
	for range 2 {
		r.schedule()
		r.report(api.HealthHealthy)
		r.pass(time.Second)
	}
}

func (r *rig) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// run has the keeper run until what is returned is called.
func (r *rig) run() (stop func()) {
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan error)
	go func() { done <- r.Keeper.Run(ctx) }()
	synctest.Wait()
	return func() {
		cancel()
		if err := <-done; err != nil {
			r.Errorf("the keeper ends with %v", err)
		}
	}
}

// want checks what the keeper has written since it was last asked.
func (r *rig) want(what string, entries ...string) {
	r.Helper()
	synctest.Wait()
	if got, want := strings.Join(r.told, ", "), strings.Join(entries, ", "); got != want {
		r.Fatalf("%s: the keeper writes %q, want %q", what, got, want)
	}
	r.told = nil
}

func (r *rig) status(want ...string) {
	r.Helper()
	s := Status(r.Machine.Snapshot())
	got := []string{string(s.Stage)}
	for _, m := range s.Moves {
		got = append(got, m.Name+" "+m.Text)
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		r.Fatalf("the status is %q, want %q", got, want)
	}
}

var tenMinutes = api.RebalanceBudget{MaxMoves: 1, Per: 10 * time.Minute, MinGain: 5}

// TestServersRebalanceByThemselves: one move in ten minutes, as the budget says, through a change of leaders, until nothing is left to
// move. Then nothing is written for days.
func TestServersRebalanceByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &tenMinutes)
		stop := r.run()
		r.pass(10*time.Minute - time.Second)
		r.want("who leads since a moment ago waits first")
		r.pass(time.Second)
		r.want("then it begins what the budget allows", "begin 1", "step")
		if s := Status(r.Machine.Snapshot()); !s.Automatic || s.By != "" {
			t.Errorf("nobody asked for it, and the status says %+v", s)
		}
		r.status("moving", "web[0] waits to be placed on n2")
		r.schedule()
		r.status("moving", "web[0] waits to run on n2")
		stop()
		stop = r.run()
		r.want("a new leader has nothing to add")
		r.report(api.HealthHealthy)
		r.arrive()
		r.want("it has arrived", "step")
		r.status("complete", "web[0] moved")

		r.pass(9 * time.Minute)
		r.want("the ten minutes are not over")
		r.pass(time.Minute)
		r.want("the next one", "begin 1", "step")
		r.arrive()
		r.want("arrives too", "step")
		r.pass(72 * time.Hour)
		r.want("nothing is left to move")
		stop()
	})
}

// TestAFailedMoveHasAnHour: nothing is begun by itself for an hour after a move has failed.
func TestAFailedMoveHasAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &tenMinutes)
		stop := r.run()
		r.pass(10 * time.Minute)
		r.want("it begins", "begin 1", "step")
		r.schedule()
		r.pass(api.DefaultHealthyDeadline)
		r.want("what is not healthy in time is undone", "step")
		r.schedule()
		r.report(api.HealthHealthy)
		r.pass(time.Second)
		r.want("and its move over", "step")
		r.status("complete", "web[0] what was to take its place was not healthy on n2 within "+api.DefaultHealthyDeadline.String())
		r.pass(time.Hour - api.DefaultHealthyDeadline - 2*time.Second)
		r.want("within the hour nothing else begins")
		r.pass(2 * time.Second)
		r.want("then it is tried again", "begin 1", "step")
		stop()
	})
}

// TestAPersonIsFirst: a rebalance that a person begins just before the servers' own is the one that is made, and the keeper goes on.
func TestAPersonIsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &tenMinutes)
		stop := r.run()
		r.first = func() {
			_, moves := Plan(r.Machine.Snapshot(), api.DefaultRebalanceBudget(), r.Options())
			r.apply(&fsm.Rebalance{Begin: &balance.Order{Budget: api.DefaultRebalanceBudget(), Moves: moves}})
		}
		r.pass(10 * time.Minute)
		r.want("the keeper's is refused, and it takes the first step of the other", "begin 1", "step")
		r.status("moving", "web[0] waits to be placed on n2", "web[1] waits to be placed on n2")
		r.arrive()
		r.want("which comes to its end", "step")
		r.status("complete", "web[0] moved", "web[1] moved")
		stop()
	})
}

// TestNobodyAsksForIt: without a rebalance block nothing is ever begun, and what a person begins is kept going.
func TestNobodyAsksForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		stop := r.run()
		r.pass(72 * time.Hour)
		r.want("nobody asks for it")
		plan, moves := Plan(r.Machine.Snapshot(), api.DefaultRebalanceBudget(), r.Options())
		if plan.Sentence() != "2 moves" || plan.Before.Used != 1 || plan.After.Used != 2 || plan.After.Fullest != plan.After.Emptiest {
			t.Errorf("the plan is %+v", plan)
		}
		r.apply(&fsm.Rebalance{Begin: &balance.Order{Budget: api.DefaultRebalanceBudget(), Moves: moves}})
		r.want("somebody does", "step")
		r.apply(&fsm.Rebalance{Cancel: true})
		r.arrive()
		r.want("what is under way arrives", "step")
		r.status("cancelled", "web[0] moved", "web[1] moved")
		stop()
	})
}
