package jobspec

import (
	"fmt"
	"slices"

	"cube/api"
)

// readParts reads the further containers of a task. Its driver and its volumes are read already.
func (p *parser) readParts(b *body, t *api.Task) {
	seen, sound := map[string]string{}, !b.faulty()
	for _, kind := range api.PartKinds() {
		b.each(string(kind), 1, func(r *body) {
			part := api.DefaultPart(kind, r.block.Labels[0])
			place := r.block.LabelRanges[0]
			if other, ok := seen[part.Name]; ok {
				p.addf(place, "a part of the task is called %q already, at %s", part.Name, other)
			}
			seen[part.Name] = p.place(place)
			r.what = "a " + string(kind)
			for key, hint := range partHints(kind) {
				r.hints[key] = hint
			}
			r.textWith("image", &part.Image, runtimeNames)
			r.textWith("command", &part.Command, runtimeNames)
			r.texts("args", &part.Args, runtimeNames)
			part.Sensitive = r.pairs("env", &part.Env, runtimeNames|sensitiveValues)
			r.textWith("user", &part.User, runtimeNames)
			r.textWith("work_dir", &part.WorkDir, runtimeNames)
			r.texts("volumes", &part.Volumes, 0)
			if kind != api.PartSidecar {
				r.duration("timeout", &part.Timeout)
				if a := r.attr("timeout"); a != nil && part.Timeout == 0 && !r.faulty() { // to api it is one that was left out
					p.addf(a.Expr.Range(), "timeout 0s is not from 1s up")
				}
			}
			r.block1("resources", func(r *body) { readResources(r, &part.Resources) })
			alone := api.DefaultTask("x")
			alone.Driver = t.Driver
			r.block1("config", func(c *body) { readConfig(c, alone) })
			part.Config = alone.Config
			if r.finish(); sound && !r.faulty() {
				alone.Image, alone.Command, alone.Config = "x", "", nil
				if t.Driver == "raw_exec" {
					alone.Image, alone.Command = "", "x"
				}
				alone.Volumes, alone.Parts = slices.Clone(t.Volumes), []api.Part{part}
				if err := checkTask(alone, api.JobService); err != nil {
					r.refuse(err, 2)
				}
			}
			t.Parts = append(t.Parts, part)
		})
	}
}

// partHints say where keys belong that a part does not take.
func partHints(kind api.PartKind) map[string]string {
	hints := map[string]string{
		"port":    fmt.Sprintf("; a %s has none of its own: ports belong to the task, and the main container and its sidecars share them", kind),
		"volume":  "; volumes belong to the task, and volumes = [\"name\"] gives it some of them",
		"count":   "; it belongs to the task: each of its instances has one",
		"restart": fmt.Sprintf("; it belongs to the task, and counts for its %ss too", kind),
		"driver":  "; it belongs to the task, whose driver runs its parts too",
		"device":  "; devices belong to the task's main container",
	}
	for _, key := range []string{"kill_timeout", "kill_signal"} {
		hints[key] = "; it belongs to the task, and counts for its parts too"
	}
	if kind == api.PartSidecar {
		hints["timeout"] = "; it belongs into prestart \"name\" or poststop \"name\": a sidecar runs for as long as its main container"
	}
	if kind == api.PartPrestart {
		hints["restart"] = "; it belongs to the task: a prestart that fails is a failure of its instance, which the task's policy has started again"
	}
	if kind == api.PartPoststop {
		hints["restart"] = "; a poststop runs once"
	}
	return hints
}
