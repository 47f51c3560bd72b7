package packing

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// Vary makes another trace of a trace, as the FGD paper does to see what holds beyond one: by names with commas between,
// applied from left to right.
//
//	gpushareN   N % of the GPUs are asked for by tasks that share one
//	multigpuN   N % of the GPUs are asked for by tasks that want several
//	gpuspecN    N % of the tasks with GPUs name the model, or one of two; models as often as the cluster has them
//	cpuN        tasks without GPUs ask for N % of what they did, being more or fewer
//	nodesN      N % of the nodes
//	gpunodes    only nodes with GPUs
//	shuffled    tasks come in another order
func Vary(t *Trace, names string, seed uint64) (*Trace, error) {
	for name := range strings.SplitSeq(names, ",") {
		if name == "" {
			continue
		}
		word := strings.TrimRight(name, "0123456789")
		percent, _ := strconv.Atoi(name[len(word):])
		part, r := float64(percent)/100, chance(seed, name)
		n := &Trace{Machines: slices.Clone(t.Machines), Tasks: slices.Clone(t.Tasks)}
		switch word {
		case "gpushare":
			n.Tasks = remix(t, r, part, func(k *Task) bool { return k.Share < whole })
		case "multigpu":
			n.Tasks = remix(t, r, part, func(k *Task) bool { return k.GPUs > 1 })
		case "gpuspec":
			nameModels(n, r, part)
		case "cpu":
			n.Tasks = repeat(t.Tasks, r, part, func(k *Task) bool { return k.GPUs == 0 })
		case "nodes":
			n.Machines = slices.DeleteFunc(n.Machines, func(Machine) bool { return r.Float64() >= part })
		case "gpunodes":
			n.Machines = slices.DeleteFunc(n.Machines, func(m Machine) bool { return m.GPUs == 0 })
		case "shuffled":
			shuffle(n.Tasks, r)
		default:
			return nil, fmt.Errorf("there is no variant %q: gpushareN, multigpuN, gpuspecN, cpuN, nodesN (N in percent), gpunodes or shuffled", name)
		}
		if err := n.finish(); err != nil {
			return nil, err
		}
		t = n
	}
	return t, nil
}

// shuffle gives the tasks another order. They keep how long they last.
func shuffle(tasks []Task, r *rand.Rand) {
	r.Shuffle(len(tasks), func(i, j int) { tasks[i], tasks[j] = tasks[j], tasks[i] })
	for i := range tasks {
		k := &tasks[i]
		lasts := k.lasts()
		k.Created, k.Deleted = float64(i), float64(i)+lasts
	}
}

// remix draws tasks with GPUs anew, so that those which are chosen ask for a part of the GPUs that all asked for before.
func remix(t *Trace, r *rand.Rand, part float64, chosen func(*Task) bool) []Task {
	var tasks, in, out []Task
	sum := int64(0)
	for _, k := range t.Tasks {
		sum += k.gpu()
		switch {
		case k.GPUs == 0:
			tasks = append(tasks, k)
		case chosen(&k):
			in = append(in, k)
		default:
			out = append(out, k)
		}
	}
	draw := func(from []Task, want float64) {
		for have := 0.0; have < want && len(from) > 0; {
			k := from[r.IntN(len(from))]
			tasks = append(tasks, k)
			have += float64(k.gpu())
		}
	}
	draw(in, part*float64(sum))
	draw(out, (1-part)*float64(sum))
	shuffle(tasks, r)
	return tasks
}

// repeat has the chosen tasks times as often as before.
func repeat(from []Task, r *rand.Rand, times float64, chosen func(*Task) bool) []Task {
	var tasks, in []Task
	for _, k := range from {
		if chosen(&k) {
			in = append(in, k)
		} else {
			tasks = append(tasks, k)
		}
	}
	for i := range int(times * float64(len(in))) {
		if i < len(in) {
			tasks = append(tasks, in[i])
		} else {
			tasks = append(tasks, in[r.IntN(len(in))])
		}
	}
	shuffle(tasks, r)
	return tasks
}

// nameModels has a part of the tasks with GPUs name a model, a third of these one of two.
func nameModels(t *Trace, r *rand.Rand, part float64) {
	var models []string
	for i := range t.Machines {
		for range t.Machines[i].GPUs {
			models = append(models, t.Machines[i].Model)
		}
	}
	for i := range t.Tasks {
		k := &t.Tasks[i]
		if k.GPUs == 0 || len(models) == 0 || r.Float64() >= part {
			continue
		}
		k.Models = []string{models[r.IntN(len(models))]}
		if r.IntN(3) == 0 {
			k.Models = append(k.Models, models[r.IntN(len(models))])
		}
	}
}
