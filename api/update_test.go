package api_test

import (
	"testing"
	"time"

	"cube/api"
)

func TestRollOutsInWords(t *testing.T) {
	for _, c := range []struct {
		want     string
		kind     api.JobType
		replaced int
		change   func(*api.Update)
	}{
		{"rolls 1 at a time, stop-first, each healthy after 5s at the earliest; stops there if one is not healthy within 5m", api.JobService, 4, nil},
		{"rolls 2 at a time, start-first, each healthy after 10s at the earliest; reverts by itself if one is not healthy within 1m30s", api.JobService, 4, func(u *api.Update) {
			u.MaxParallel, u.Order, u.MinHealthyTime, u.HealthyDeadline, u.AutoRevert = 2, api.OrderStartFirst, 10*time.Second, 90*time.Second, true
		}},
		{"rolls all at once, stop-first; stops there if one is not healthy within 1h", api.JobService, 1, func(u *api.Update) {
			u.MinHealthyTime, u.HealthyDeadline = 0, time.Hour
		}},
		{"first places 2 beside the old (canary), until somebody promotes the deployment; then rolls 1 at a time, stop-first, each healthy after 5s at the earliest; stops there if one is not healthy within 5m",
			api.JobService, 4, func(u *api.Update) { u.Canary = 2 }},
		{"first places 4 beside the old (canary); when healthy, it goes on by itself and rolls 1 at a time, stop-first, each healthy after 5s at the earliest; reverts by itself if one is not healthy within 5m",
			api.JobService, 4, func(u *api.Update) { u.Canary, u.AutoPromote, u.AutoRevert = 9, true, true }},
		{"rolls 3 at a time, stop-first, each healthy after 5s at the earliest", api.JobSystem, 4, func(u *api.Update) { u.MaxParallel, u.Order = 3, api.OrderStartFirst }},
	} {
		task := api.DefaultTask("web")
		task.Count = 4
		if c.change != nil {
			c.change(&task.Update)
		}
		if got := task.RollOut(c.kind, c.replaced); got != c.want {
			t.Errorf("%q\nwant %q", got, c.want)
		}
	}
}
