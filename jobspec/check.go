package jobspec

import "cube/api"

// readChecks reads what each instance is asked about its health. The task's ports are read already.
func (p *parser) readChecks(b *body, t *api.Task) {
	seen, sound := map[string]string{}, !b.faulty()
	b.each("check", 1, func(r *body) {
		c := api.DefaultCheck(r.block.Labels[0])
		place := r.block.LabelRanges[0]
		if err := api.CheckName(c.Name); err != nil {
			p.addf(place, "check name %.80q %s", c.Name, err)
		}
		if other, ok := seen[c.Name]; ok {
			p.addf(place, "check %q is there already, at %s", c.Name, other)
		}
		seen[c.Name] = p.place(place)
		kind := ""
		r.text("type", &kind)
		c.Type = api.CheckType(kind)
		r.text("port", &c.Port)
		r.text("path", &c.Path)
		r.text("method", &c.Method)
		r.pairs("headers", &c.Headers, 0)
		r.text("body", &c.Body)
		r.texts("command", &c.Command, 0)
		r.duration("interval", &c.Interval)
		r.duration("timeout", &c.Timeout)
		if a := r.attr("timeout"); a != nil && c.Timeout == 0 && !r.faulty() { // to api it is one that was left out
			p.addf(a.Expr.Range(), "timeout 0s is not above 0")
		}
		r.duration("start_period", &c.StartPeriod)
		const most = 1000
		r.whole("success_before_passing", &c.SuccessBeforePassing, 1, most)
		r.whole("failures_before_critical", &c.FailuresBeforeCritical, 1, most)
		r.whole("restart_after", &c.RestartAfter, 0, most)
		if r.finish(); sound && !r.faulty() {
			alone := api.DefaultTask("x")
			alone.Image, alone.Ports, alone.Checks = "x", t.Ports, []api.Check{c}
			if err := checkTask(alone, api.JobService); err != nil {
				r.refuse(err, 2)
			}
		}
		t.Checks = append(t.Checks, c)
	})
}

// checkKeys are what a check has, for hints: those that nothing else in a task has.
func checkKeys() []string {
	return []string{"path", "method", "headers", "body", "timeout", "start_period", "success_before_passing", "failures_before_critical", "restart_after"}
}
