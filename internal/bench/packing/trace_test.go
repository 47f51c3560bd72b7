package packing

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// write puts a trace into a new directory, under names as the published ones.
func write(t *testing.T, nodes, tasks string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"x_node_list_all.csv": nodes, "x_pod_list_default.csv": tasks} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	nodeHeader = "sn,cpu_milli,memory_mib,gpu,model\n"
	taskHeader = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n"
)

func TestTraceIsReadByColumnNames(t *testing.T) {
	dir := write(t, "\ufeffmodel,gpu,sn,cpu_milli,memory_mib,rack\nA10,2,a,8000,1024,7\n,0,b,4000,512,\n",
		"name,creation_time,num_gpu,gpu_milli,cpu_milli,memory_mib,gpu_spec\nlate,20.0,1,500,1000,64,\nearly,10,8.0,,2000,,A10|B 20\nplain,15,0,0,,,A10\n")
	trace, err := ReadTrace(dir, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if a, b := trace.Machines[0], trace.Machines[1]; a.GPUs != 2 || a.Model != "A10" || b.CPU != 4000 || b.GPUs != 0 {
		t.Errorf("the machines are read as %+v", trace.Machines)
	}
	early, plain, late := trace.Tasks[0], trace.Tasks[1], trace.Tasks[2]
	if early.Name != "early" || plain.Name != "plain" || late.Name != "late" {
		t.Errorf("not in the order of creation: %s, %s, %s", early.Name, plain.Name, late.Name)
	}
	if early.GPUs != 8 || early.Share != whole || early.Memory != 0 || !math.IsInf(early.Deleted, 1) {
		t.Errorf("empty fields are not read as defaults: %+v", early)
	}
	if late.Share != 500 || late.models != everyModel || early.models&trace.Machines[0].model == 0 {
		t.Errorf("shares or models are wrong: %+v, %+v", late, early)
	}
	if plain.GPUs != 0 || plain.Models != nil {
		t.Errorf("a task without GPUs has a model: %+v", plain)
	}
	if early.kind == late.kind || trace.kinds != 3 {
		t.Errorf("%d kinds of tasks, want 3", trace.kinds)
	}
}

func TestBrokenTraces(t *testing.T) {
	goodNodes, goodTasks := nodeHeader+"a,1000,100,1,T4\n", taskHeader+"p,10,10,1,100,,,,1,2,3\n"
	for name, c := range map[string]struct{ nodes, tasks, want string }{
		"not a number":   {nodeHeader + "a,1000,100,1,T4\nb,many,100,0,\n", goodTasks, `node_list_all.csv:3: cpu_milli is "many", not a whole number from 0`},
		"negative":       {goodNodes, taskHeader + "p,-1,10,1,100,,,,1,2,3\n", `pod_list_default.csv:2: cpu_milli is "-1"`},
		"a fraction":     {goodNodes, taskHeader + "p,1,10,1.5,100,,,,1,2,3\n", `num_gpu is "1.5"`},
		"too large":      {goodNodes, taskHeader + "p,1,10,1,1100,,,,1,2,3\n", "gpu_milli is 1100, more than one GPU"},
		"too many":       {nodeHeader + "a,1000,100,65,T4\n", goodTasks, "gpu is 65, more than 64"},
		"no time":        {goodNodes, taskHeader + "p,1,10,1,100,,,,soon,2,3\n", `creation_time is "soon", not a time in seconds`},
		"missing fields": {goodNodes, taskHeader + "p,1,10\n", "pod_list_default.csv: record on line 2: wrong number of fields"},
		"nothing":        {nodeHeader, goodTasks, "0 nodes and 1 tasks"},
		"empty file":     {"", goodTasks, "read the names of the columns"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadTrace(write(t, c.nodes, c.tasks), "", "")
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is %q, want one line with %q", err, c.want)
			}
		})
	}
	if _, err := ReadTrace(t.TempDir(), "", ""); err == nil || !strings.Contains(err.Error(), "has 0 files *node_list*.csv") {
		t.Errorf("of an empty directory the error is %v", err)
	}
	dir := write(t, goodNodes, goodTasks)
	other := filepath.Join(dir, "y_pod_list_other.csv")
	if err := os.WriteFile(other, []byte(goodTasks+"q,10,10,0,0,,,,1,2,3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTrace(dir, "", ""); err == nil || !strings.Contains(err.Error(), "has 2 files *pod_list*.csv") {
		t.Errorf("of two lists of tasks the error is %v", err)
	}
	if trace, err := ReadTrace(dir, "", "y_pod_list_other.csv"); err != nil || len(trace.Tasks) != 2 {
		t.Errorf("one of two lists cannot be chosen: %v", err)
	}
}

// synthetic is a small trace of the same nature as the published ones: GPUs that come with little and with much CPU, nodes
// without GPUs; shares, whole GPUs, a few tasks with several.
func synthetic(seed uint64) *Trace {
	r := rand.New(rand.NewPCG(seed, 1))
	trace := &Trace{}
	for _, m := range []struct {
		count int
		Machine
	}{
		{28, Machine{CPU: 96000, Memory: 393216, GPUs: 8, Model: "G2"}},
		{20, Machine{CPU: 104000, Memory: 524288, GPUs: 2, Model: "T4"}},
		{7, Machine{CPU: 32000, Memory: 131072, GPUs: 4, Model: "V100"}},
		{14, Machine{CPU: 32000, Memory: 262144}},
	} {
		for range m.count {
			m.Name = fmt.Sprintf("node-%d", len(trace.Machines))
			trace.Machines = append(trace.Machines, m.Machine)
		}
	}
	kinds := []struct {
		weight int
		Task
	}{
		{13, Task{CPU: 12000, Memory: 40000}},
		{10, Task{CPU: 3000, Memory: 5600, GPUs: 1, Share: 800}},
		{12, Task{CPU: 11000, Memory: 47000, GPUs: 1, Share: 480}},
		{6, Task{CPU: 4000, Memory: 22000, GPUs: 1, Share: 250}},
		{38, Task{CPU: 11400, Memory: 48000, GPUs: 1, Share: whole}},
		{10, Task{CPU: 4000, Memory: 24000, GPUs: 1, Share: whole}},
		{6, Task{CPU: 18700, Memory: 64000, GPUs: 1, Share: whole}},
		{1, Task{CPU: 32000, Memory: 132000, GPUs: 4, Share: whole}},
		{1, Task{CPU: 64000, Memory: 263000, GPUs: 8, Share: whole}},
	}
	var bag []Task
	for _, k := range kinds {
		bag = append(bag, slices.Repeat([]Task{k.Task}, k.weight)...)
	}
	for sum := int64(0); sum < 280*whole; {
		k := bag[r.IntN(len(bag))]
		k.Name = fmt.Sprintf("task-%d", len(trace.Tasks))
		k.Created = float64(len(trace.Tasks))
		k.Deleted = k.Created + r.ExpFloat64()*1000
		trace.Tasks = append(trace.Tasks, k)
		sum += k.gpu()
	}
	if err := trace.finish(); err != nil {
		panic(err)
	}
	return trace
}

// csv writes a trace as the published ones are.
func (t *Trace) csv() (nodes, tasks string) {
	var n, k strings.Builder
	n.WriteString(nodeHeader)
	for _, m := range t.Machines {
		fmt.Fprintf(&n, "%s,%d,%d,%d,%s\n", m.Name, m.CPU, m.Memory, m.GPUs, m.Model)
	}
	k.WriteString(taskHeader)
	for _, j := range t.Tasks {
		fmt.Fprintf(&k, "%s,%d,%d,%d,%d,%s,LS,Running,%f,%f,\n", j.Name, j.CPU, j.Memory, j.GPUs, j.Share, strings.Join(j.Models, "|"), j.Created, j.Deleted)
	}
	return n.String(), k.String()
}
