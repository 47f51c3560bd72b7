package packing

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"cube/api"
	"cube/scheduler"
)

// gpuType is what the nodes' devices and the tasks' requests are called.
const gpuType = "gpu"

// cube is the real scheduler: each task is a job of one instance, and each arrival one evaluation, answered on a world that
// knows no more than what was placed and has not ended.
type cube struct {
	world    scheduler.World
	options  scheduler.Options
	machines map[string]int // by node ID
	running  map[int]running
}

type running struct {
	job        string
	allocation api.ID
}

// newCube makes a scheduler with one of its algorithms; "" is the one it uses when nobody names one.
func newCube(c *cluster, algorithm string) *cube {
	b := &cube{options: scheduler.Options{Algorithm: algorithm}, machines: map[string]int{}, running: map[int]running{}}
	for i := range c.machines {
		m := &c.machines[i]
		n := &api.Node{ID: fmt.Sprintf("%032d", i), Name: m.Name, Datacenter: "dc1", Status: api.NodeReady,
			Resources: api.Resources{CPU: m.CPU, Memory: m.Memory, Disk: 1 << 20},
			Drivers:   map[string]api.DriverInfo{"docker": {Detected: true, Healthy: true}}}
		if m.GPUs > 0 {
			g := api.DeviceGroup{Type: gpuType, Model: m.Model}
			for d := range m.GPUs {
				g.IDs = append(g.IDs, fmt.Sprint(d))
			}
			n.Devices = []api.DeviceGroup{g}
		}
		b.world.PutNode(n)
		b.machines[n.ID] = i
	}
	return b
}

func (b *cube) place(arrival int, t *Task) (spot, bool) {
	job := b.job(fmt.Sprintf("task-%d", arrival), t)
	b.world.PutJob(job)
	plan := scheduler.Schedule(&b.world, []*api.Evaluation{{ID: api.ID(arrival + 1), Job: job.Name, Priority: 50}}, b.options)
	answer := &plan.Jobs[0]
	if len(answer.Placements) == 0 {
		b.world.RemoveJob(job.Name)
		return spot{}, false
	}
	b.world.Apply(plan)
	p := &answer.Placements[0]
	s := spot{machine: b.machines[p.Node]}
	for _, c := range p.Devices {
		device, err := strconv.Atoi(c.ID)
		if err != nil {
			return spot{machine: -1}, true // not a device of this cluster: the book-keeping will say so
		}
		s.gpus |= 1 << device
	}
	for row := range b.world.Allocations(job.Name) {
		b.running[arrival] = running{job.Name, row.ID}
	}
	return s, true
}

// job is the job of a task.
func (b *cube) job(name string, t *Task) *api.Job {
	task := api.DefaultTask("task")
	task.Resources = api.Resources{CPU: t.CPU, Memory: t.Memory}
	if t.GPUs > 0 {
		request := api.DeviceRequest{Type: gpuType, Count: t.GPUs, Share: t.Share}
		switch models := t.Models; len(models) {
		case 0:
		case 1:
			request.Constraints = []api.Constraint{{Attribute: "device.model", Operator: "=", Value: models[0]}}
		default:
			quoted := make([]string, len(models))
			for i, m := range models {
				quoted[i] = regexp.QuoteMeta(m)
			}
			request.Constraints = []api.Constraint{{Attribute: "device.model", Operator: "regexp", Value: "^(" + strings.Join(quoted, "|") + ")$"}}
		}
		task.Devices = []api.DeviceRequest{request}
	}
	return &api.Job{Name: name, Type: api.JobService, Version: 1, Tasks: []*api.Task{task}}
}

func (b *cube) remove(arrival int) {
	r := b.running[arrival]
	delete(b.running, arrival)
	b.world.Report(r.allocation, api.PhaseComplete, 0)
	b.world.RemoveJob(r.job)
}
