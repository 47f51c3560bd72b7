package jobspec

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"cube/api"
)

// readJob reads a job block.
func (p *parser) readJob(block *hclsyntax.Block) *api.Job {
	name, ok := p.jobName(block)
	if !ok {
		return nil
	}
	b := p.open(block, "a job")
	j := &api.Job{Name: name, Priority: api.DefaultPriority}
	p.readHead(b, j)
	b.pairs("meta", &j.Meta, 0)
	seen := map[string]string{}
	b.each("task", 1, func(t *body) {
		taskName, place := t.block.Labels[0], t.block.LabelRanges[0]
		if other, ok := seen[taskName]; ok {
			p.addf(place, "task %q is there already, at %s", taskName, other)
			t.forget()
			return
		}
		seen[taskName] = p.place(place)
		t.what = "a task in a job"
		for _, key := range headKeys() {
			t.hints[key] = "; it belongs to the job, outside the task"
		}
		if task := p.readTask(t, j); task != nil {
			j.Tasks = append(j.Tasks, task)
		}
	})
	for _, key := range taskKeys() {
		b.hints[key] = "; it belongs to a task: task \"" + name + "\" { ... }"
	}
	b.finish()
	if b.faulty() {
		return nil
	}
	return p.accept(b, j)
}

// readBareTask reads a task block that stands by itself: the job of the same name with nothing else in it.
func (p *parser) readBareTask(block *hclsyntax.Block) *api.Job {
	name, ok := p.jobName(block)
	if !ok {
		return nil
	}
	b := p.open(block, "a task")
	j := &api.Job{Name: name, Priority: api.DefaultPriority}
	p.readHead(b, j)
	task := p.readTask(b, j)
	if b.faulty() {
		return nil
	}
	j.Tasks = []*api.Task{task}
	return p.accept(b, j)
}

// jobName returns the name of a job, which must be one and be there once.
func (p *parser) jobName(block *hclsyntax.Block) (string, bool) {
	name, ok := p.label(block)
	if !ok {
		return "", false
	}
	place := block.LabelRanges[0]
	if err := api.CheckName(name); err != nil {
		p.addf(place, "%.80q %s", name, err)
		return "", false
	}
	if other, ok := p.jobs[name]; ok {
		p.addf(place, "%s %q is there already, at %s", block.Type, name, p.place(other))
		return "", false
	}
	p.jobs[name] = place
	return name, true
}

// headKeys are what a job has besides tasks and meta; a bare task takes them too.
func headKeys() []string {
	return []string{"datacenters", "parameterized", "periodic", "priority", "scheduler", "type"}
}

func (p *parser) readHead(b *body, j *api.Job) {
	var kind string
	b.texts("datacenters", &j.Datacenters, 0)
	b.whole("priority", &j.Priority, api.MinPriority, api.MaxPriority)
	b.text("scheduler", &j.Scheduler)
	b.text("type", &kind)
	j.Type = api.JobType(kind)
	b.block1("periodic", func(r *body) {
		j.Periodic = &api.Periodic{}
		r.texts("crons", &j.Periodic.Crons, 0)
		r.text("time_zone", &j.Periodic.TimeZone)
		r.flag("prohibit_overlap", &j.Periodic.ProhibitOverlap)
		r.text("on_missed", &j.Periodic.OnMissed)
	})
	b.block1("parameterized", func(r *body) {
		j.Parameterized = &api.Parameterized{}
		r.text("payload", &j.Parameterized.Payload)
		r.texts("meta_required", &j.Parameterized.MetaRequired, 0)
		r.texts("meta_optional", &j.Parameterized.MetaOptional, 0)
	})
}

// accept has api check a job that has no fault yet. The block is the job's, or that of its only task.
func (p *parser) accept(b *body, j *api.Job) *api.Job {
	slices.Sort(j.Datacenters)
	j.Canonicalize()
	if err := j.Validate(); err != nil {
		outer := 0
		var fault *api.Fault
		if errors.As(err, &fault) && b.block.Type == "task" && fault.Path[0] == fmt.Sprintf("task %q", j.Name) {
			outer = 1
		}
		b.refuse(err, outer)
		return nil
	}
	return j
}
