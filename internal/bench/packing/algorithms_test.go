package packing

import (
	"fmt"
	"strings"
	"testing"
)

// world is a cluster of a few machines in words, "CPU MEMORY GPUS" each, with what runs on them already.
func world(t *testing.T, machines ...string) (*cluster, *Trace) {
	t.Helper()
	trace := &Trace{}
	for i, text := range machines {
		m := Machine{Name: fmt.Sprint(i), Model: "M"}
		if _, err := fmt.Sscan(text, &m.CPU, &m.Memory, &m.GPUs); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		trace.Machines = append(trace.Machines, m)
	}
	if err := trace.finish(); err != nil {
		t.Fatal(err)
	}
	return newCluster(trace.Machines), trace
}

// use puts a task on a machine's GPUs.
func use(t *testing.T, c *cluster, machine int, gpus uint64, cpu, memory int64, share int) {
	t.Helper()
	k := Task{CPU: cpu, Memory: memory, Share: share, models: everyModel}
	for rest := gpus; rest != 0; rest &= rest - 1 {
		k.GPUs++
	}
	s := spot{machine, gpus}
	if !c.valid(s, &k) {
		t.Fatalf("%+v does not fit on machine %d", k, machine)
	}
	c.change(s, &k, 1)
}

func task(cpu, memory int64, gpus, share int) *Task {
	return &Task{CPU: cpu, Memory: memory, GPUs: gpus, Share: share, models: everyModel}
}

// goes asks for a place many times over, so that ties show.
func goes(t *testing.T, a algorithm, k *Task) string {
	t.Helper()
	seen := map[spot]bool{}
	for i := range 64 {
		s, ok := a.place(i, k)
		if !ok {
			return "nowhere"
		}
		seen[s] = true
	}
	var all []string
	for m := range 16 {
		for gpus := range uint64(16) {
			if seen[spot{m, gpus}] {
				all = append(all, fmt.Sprintf("%d:%04b", m, gpus))
			}
		}
	}
	return strings.Join(all, " ")
}

func TestScoresOfOthers(t *testing.T) {
	// Machine 0 is empty, 1 half full with a GPU in use, 2 has much CPU, 3 no GPUs.
	c, _ := world(t, "1000 1000 2", "1000 1000 2", "4000 1000 2", "1000 1000 0")
	use(t, c, 1, 0b01, 500, 500, 600)
	for _, a := range []struct {
		name  string
		score func(int, *Task) float64
		task  *Task
		want  string
	}{
		{"least allocated", c.leastAllocated, task(100, 100, 1, 500), "2:0001"},
		{"most allocated", c.mostAllocated, task(100, 100, 1, 300), "1:0001"},
		{"most allocated", c.mostAllocated, task(100, 100, 1, 500), "1:0010"}, // not on the GPU that has 400 left
		{"dot product", c.dotProduct, task(100, 100, 1, 500), "1:0010"},       // least is left there
		{"dot product", c.dotProduct, task(0, 0, 2, whole), "0:0011 2:0011"},
		{"any", func(int, *Task) float64 { return 0 }, task(100, 100, 0, 0), "0:0000 1:0000 2:0000 3:0000"},
		{"any", func(int, *Task) float64 { return 0 }, task(2000, 100, 0, 0), "2:0000"},
		{"any", func(int, *Task) float64 { return 0 }, task(100, 100, 3, whole), "nowhere"},
	} {
		if got := goes(t, &ranked{c, chance(1, "test"), a.score}, a.task); got != a.want {
			t.Errorf("%s puts %+v on %s, want %s", a.name, *a.task, got, a.want)
		}
	}
}

func TestModelsThatATaskNames(t *testing.T) {
	trace := &Trace{Machines: []Machine{{CPU: 10, GPUs: 1, Model: "A"}, {CPU: 10, GPUs: 1, Model: "B"}, {CPU: 10, GPUs: 1}},
		Tasks: []Task{{GPUs: 1, Share: whole, Models: []string{"B", "C"}}, {GPUs: 1, Share: whole}}}
	if err := trace.finish(); err != nil {
		t.Fatal(err)
	}
	c := newCluster(trace.Machines)
	any := &ranked{c, chance(1, "test"), func(int, *Task) float64 { return 0 }}
	if got := goes(t, any, &trace.Tasks[0]); got != "1:0001" {
		t.Errorf("a task for models B and C goes to %s", got)
	}
	if got := goes(t, any, &trace.Tasks[1]); got != "0:0001 1:0001 2:0001" {
		t.Errorf("a task for any model goes to %s", got)
	}
	use(t, c, 1, 1, 0, 0, 500)
	if c.roomInSum(&trace.Tasks[0]) || !c.roomInSum(&trace.Tasks[1]) {
		t.Error("room in sum must look at the models that a task allows")
	}
	// Cube's scheduler has to read the same out of a constraint.
	if s, ok := newCube(newCluster(trace.Machines), "").place(0, &trace.Tasks[0]); !ok || s.machine != 1 {
		t.Errorf("Cube puts a task for models B and C on %d (%v)", s.machine, ok)
	}
}

func TestSwarmCountsInstances(t *testing.T) {
	c, _ := world(t, "1000 1000 0", "100 100 0")
	s := newSwarm(c, chance(1, "test"))
	on := [2]int{}
	for i := range 10 {
		to, ok := s.place(i, task(1, 1, 0, 0))
		if !ok {
			t.Fatal("refused")
		}
		on[to.machine]++
	}
	if on != [2]int{5, 5} {
		t.Errorf("ten small tasks are spread %v over a large and a small machine, want evenly", on)
	}
	for i := range 10 {
		if s.on[i] == 1 {
			s.remove(i)
		}
	}
	if to, _ := s.place(10, task(1, 1, 0, 0)); to.machine != 1 {
		t.Error("tasks that ended still count")
	}
}

func TestNomadLooksAtAFew(t *testing.T) {
	machines := make([]string, 1000)
	for i := range machines {
		machines[i] = "1000 1000 0"
	}
	c, _ := world(t, machines...)
	use(t, c, 7, 0, 600, 600, 0) // the best fit
	n := newNomad(c, chance(1, "test"))
	best := 0
	for i := range 2000 {
		if s, ok := n.place(i, task(10, 10, 0, 0)); ok && s.machine == 7 {
			best++
		}
	}
	if best < 5 || best > 50 { // it is among 10 of 1,000 in one of a hundred shuffles
		t.Errorf("the best of 1,000 machines was found %d times in 2,000, want about 20", best)
	}

	few, _ := world(t, "1000 1000 0", "1000 1000 0", "1000 1000 0")
	use(t, few, 1, 0, 500, 500, 0)
	// Two of three: the full one, unless the other two come first.
	if got := goes(t, newNomad(few, chance(1, "test")), task(10, 10, 0, 0)); got != "0:0000 1:0000 2:0000" {
		t.Errorf("of three machines it takes %s", got)
	}
	// A task that asks for nothing scores zero on an empty machine, which is put aside as long as there are others.
	if got := goes(t, newNomad(few, chance(1, "test")), task(0, 0, 0, 0)); got != "1:0000" {
		t.Errorf("machines with a score of zero were not put aside: %s", got)
	}
	empty, _ := world(t, "1000 1000 0", "1000 1000 0")
	if got := goes(t, newNomad(empty, chance(1, "test")), task(0, 0, 0, 0)); got == "nowhere" {
		t.Error("machines put aside do not come back")
	}
}

func TestFragmentation(t *testing.T) {
	c, trace := world(t, "1000 1000 2")
	use(t, c, 0, 0b01, 400, 0, 500) // left: 500 and 1000 of the GPUs, 600 CPU
	trace.Tasks = []Task{*task(100, 0, 1, 600), *task(100, 0, 1, 300), *task(700, 0, 1, 300), *task(100, 0, 0, 0)}
	if err := trace.finish(); err != nil {
		t.Fatal(err)
	}
	f := newFGD(c, trace, nil)
	// Of 1,500 the first can use 1,000, the second all, the third has too little CPU, the fourth wants no GPU.
	if got, want := f.fragmentation(c.machines[0].model, &c.rooms[0]), (500+0+1500+1500)/4.0; got != want {
		t.Errorf("the fragmentation is %v, want %v", got, want)
	}
	if got := f.fragmentation(1<<5, &c.rooms[0]); got != 1500-0.25*1000-0.25*1500 {
		t.Errorf("for any model the fragmentation is %v", got)
	}
}

func TestFGDDescends(t *testing.T) {
	c, trace := world(t, "1000 1000 2", "1000 1000 2")
	use(t, c, 0, 0b10, 0, 0, 700)
	trace.Tasks = []Task{*task(10, 0, 1, 300), *task(10, 0, 1, whole), *task(900, 0, 0, 0)}
	if err := trace.finish(); err != nil {
		t.Fatal(err)
	}
	f := newFGD(c, trace, nil)
	if got := goes(t, f, &trace.Tasks[0]); got != "0:0010" {
		t.Errorf("a share goes to %s, not to the rest of a GPU that nobody else could use", got)
	}
	if got := goes(t, f, &trace.Tasks[1]); got != "0:0001" && got != "1:0001" {
		t.Errorf("a whole GPU is taken at %s", got)
	}
	// Most of the CPU of a machine with GPUs: where fewer of them are left to be useless.
	use(t, c, 0, 0b01, 0, 0, whole)
	if got := goes(t, f, &trace.Tasks[2]); got != "0:0000" {
		t.Errorf("a task that takes the CPU goes to %s", got)
	}
}

func TestChoose(t *testing.T) {
	all, err := choose("")
	if err != nil || all[0].name != Ours {
		t.Fatalf("all algorithms: %v, %v", all, err)
	}
	some, err := choose("fgd,cube:spread")
	if err != nil || len(some) != 2 || some[1].name != "cube:spread" {
		t.Errorf("two algorithms: %v, %v", some, err)
	}
	if _, err := choose("fgd,best"); err == nil || !strings.Contains(err.Error(), `"best"`) {
		t.Errorf("an algorithm that is not there: %v", err)
	}
}
