package scheduler

import (
	"testing"

	"cube/api"
)

// An instance of an older version goes with the name of whoever brought the version in force.
func TestWhyAnOlderVersionGoes(t *testing.T) {
	for _, c := range []struct {
		want      string
		job       api.Job
		automatic bool
	}{
		{"replaced by version 3", api.Job{Version: 3}, false},
		{"replaced by version 3, submitted by alice@laptop", api.Job{Version: 3, SubmittedBy: "alice@laptop"}, false},
		{"replaced by version 4, reverted to version 2, asked for by alice@laptop", api.Job{Version: 4, Origin: "reverted to version 2", SubmittedBy: "alice@laptop"}, false},
		{"replaced by version 4, reverted to version 2 automatically: version 3 failed",
			api.Job{Version: 4, Origin: "reverted to version 2 automatically: version 3 failed: web[0] failed", SubmittedBy: "deployer"}, true},
	} {
		w := &World{}
		c.job.Name = "web"
		w.PutJob(&c.job)
		w.PutDeployment(&api.Deployment{Job: "web", Version: c.job.Version, Automatic: c.automatic})
		change := &change{batch: &batch{state: w}, job: &c.job}
		if got := change.replaced(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
