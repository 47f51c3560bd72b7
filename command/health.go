package command

import (
	"fmt"
	"slices"

	"cube/api"
)

// awaitsHealth reports whether a person who runs the task waits until its instances are healthy: it has checks, or asks for
// more than the usual min_healthy_time. An instance of any other task counts when it has run for stableFor: that it will be
// healthy two seconds later is for a rolling update to know.
func awaitsHealth(t *api.Task) bool {
	return len(t.Checks) > 0 || t.Update.MinHealthyTime > api.DefaultMinHealthyTime
}

// hasChecks reports whether the health of the job's instances is found out by asking them.
func hasChecks(j *api.Job) bool {
	return slices.ContainsFunc(j.Tasks, func(t *api.Task) bool { return len(t.Checks) > 0 })
}

// healthNote is what there is to say of the health of an instance that runs, if a person waits for it; "" for nothing.
func healthNote(t *api.Task, a *api.Allocation) string {
	if a.Phase != api.PhaseRunning || t == nil || !awaitsHealth(t) {
		return ""
	}
	note := ""
	switch a.Health {
	case api.HealthHealthy:
		return ""
	case api.HealthUnhealthy:
		note = "unhealthy"
	default:
		note = "waiting for health"
	}
	switch {
	case a.Message != "":
		note += ": " + a.Message
	case len(t.Checks) == 0:
		note += fmt.Sprintf(": it is to run for %s", duration(t.Update.MinHealthyTime))
	}
	return note
}

// healthOf is an instance's health for a table: only what runs has one.
func healthOf(a *api.Allocation) string {
	if a.Phase != api.PhaseRunning {
		return none
	}
	return a.Health.String()
}
