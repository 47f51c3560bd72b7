package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// lines writes a diff one field or block a line, by path.
func (d *Diff) lines(path string) []string {
	mark := map[DiffKind]string{DiffNone: "=", DiffAdded: "+", DiffRemoved: "-", DiffEdited: "~"}
	path = strings.TrimPrefix(path+"."+strings.TrimSpace(d.Block+" "+d.Name), ".")
	var out []string
	if d.Kind != DiffEdited || len(d.Fields)+len(d.Blocks) == 0 {
		out = append(out, mark[d.Kind]+" "+path)
	}
	for _, f := range d.Fields {
		line := fmt.Sprintf("%s %s.%s: %s => %s", mark[f.Kind], path, f.Name, f.Old, f.New)
		if f.Forces {
			line += " !"
		}
		out = append(out, line)
	}
	for _, b := range d.Blocks {
		out = append(out, b.lines(path)...)
	}
	return out
}

func diffJob(change func(*Job, *Task)) *Job {
	t := DefaultTask("web")
	t.Image, t.Count = "nginx:1", 3
	t.Env = map[string]string{"A": "1", "KEY": "old secret"}
	t.Sensitive = []string{"KEY"}
	t.Ports = []Port{{Label: "http", To: 80}}
	t.Constraints = []Constraint{{Attribute: "attr.class", Operator: OpEqual, Value: "edge"}}
	j := &Job{Name: "web", Type: JobService, Priority: 50, Tasks: []*Task{t}}
	if change != nil {
		change(j, t)
	}
	j.Canonicalize()
	return j
}

func TestDiffJobs(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Job, *Task)
		want   []string
	}{
		{"nothing", nil, []string{"= job web"}},
		{"what the state adds", func(j *Job, _ *Task) { j.Version, j.ModifyIndex, j.Source = 7, 9, &Source{HCL: "x"} }, []string{"= job web"}},
		{"a count", func(_ *Job, t *Task) { t.Count = 6 }, []string{"~ job web.task web.count: 3 => 6"}},
		{"an image", func(_ *Job, t *Task) { t.Image = "nginx:2" }, []string{`~ job web.task web.image: "nginx:1" => "nginx:2" !`}},
		{"the head", func(j *Job, _ *Task) {
			j.Priority, j.Datacenters, j.Meta = 70, []string{"a", "b"}, map[string]string{"team": "x"}
		},
			[]string{`+ job web.datacenters:  => ["a", "b"]`, "~ job web.priority: 50 => 70", "+ job web.meta", `+ job web.meta.team:  => "x"`}},
		{"resources", func(_ *Job, t *Task) { t.Resources.Memory, t.Resources.CPU = 256, 250 },
			[]string{"~ job web.task web.resources.cpu: 0.1 => 0.25", "~ job web.task web.resources.memory: 128 MiB => 256 MiB"}},
		{"times", func(_ *Job, t *Task) { t.KillTimeout, t.Restart.Interval = 90*time.Second, time.Hour },
			[]string{`~ job web.task web.kill_timeout: "5s" => "1m30s" !`, `~ job web.task web.restart.interval: "10m" => "1h"`}},
		{"a secret", func(_ *Job, t *Task) { t.Env["KEY"] = "new secret"; t.Env["B"] = "2"; delete(t.Env, "A") },
			[]string{`- job web.task web.env.A: "1" => `, `+ job web.task web.env.B:  => "2"`, "~ job web.task web.env.KEY: <sensitive> => <sensitive>"}},
		{"a secret no longer called one", func(_ *Job, t *Task) { t.Sensitive = nil; t.Env["KEY"] = "public" },
			[]string{`- job web.task web.sensitive: ["KEY"] =>  !`, "~ job web.task web.env.KEY: <sensitive> => <sensitive>"}},
		{"ports by label", func(_ *Job, t *Task) { t.Ports = []Port{{Label: "http", To: 8080}, {Label: "admin", Static: 9000}} },
			[]string{"+ job web.task web.port admin", "+ job web.task web.port admin.static:  => 9000", "~ job web.task web.port http.to: 80 => 8080"}},
		{"a constraint", func(_ *Job, t *Task) { t.Constraints[0].Value = "core" },
			[]string{"+ job web.task web.constraint", `+ job web.task web.constraint.attribute:  => "attr.class"`, `+ job web.task web.constraint.operator:  => "="`, `+ job web.task web.constraint.value:  => "core"`,
				"- job web.task web.constraint", `- job web.task web.constraint.attribute: "attr.class" => `, `- job web.task web.constraint.operator: "=" => `, `- job web.task web.constraint.value: "edge" => `}},
		{"an affinity's weight", func(_ *Job, t *Task) { t.Affinities = []Affinity{{Attribute: "attr.x", Value: "1", Weight: 10}} },
			[]string{"+ job web.task web.affinity", `+ job web.task web.affinity.attribute:  => "attr.x"`, `+ job web.task web.affinity.operator:  => "="`, `+ job web.task web.affinity.value:  => "1"`, "+ job web.task web.affinity.weight:  => 10"}},
		{"a check, which touches no instance", func(_ *Job, t *Task) {
			c := DefaultCheck("up")
			c.Type, c.RestartAfter, c.Timeout = CheckTCP, 3, time.Second
			t.Checks, t.Update.MinHealthyTime = []Check{c}, time.Minute
		}, []string{"+ job web.task web.check up", `+ job web.task web.check up.type:  => "tcp"`, `+ job web.task web.check up.port:  => "http"`,
			`+ job web.task web.check up.timeout:  => "1s"`, "+ job web.task web.check up.restart_after:  => 3", `~ job web.task web.update.min_healthy_time: "5s" => "1m"`}},
		{"a task more", func(j *Job, _ *Task) { x := DefaultTask("db"); x.Image = "pg"; j.Tasks = append(j.Tasks, x) },
			[]string{"+ job web.task db", `+ job web.task db.image:  => "pg"`}},
		{"the driver's own", func(_ *Job, t *Task) { t.Config = map[string]any{"privileged": true, "mounts": []any{"a", 1.5}} },
			[]string{"+ job web.task web.config", `+ job web.task web.config.mounts:  => ["a",1.5]`, "+ job web.task web.config.privileged:  => true"}},
	} {
		got := DiffJobs(diffJob(nil), diffJob(c.change)).lines("")
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestDiffOfNoJob(t *testing.T) {
	j := diffJob(nil)
	if got := DiffJobs(nil, j); got.Kind != DiffAdded || got.Name != "web" || len(got.Blocks) != 1 || got.Blocks[0].Kind != DiffAdded {
		t.Errorf("a new job: %v", got.lines(""))
	}
	gone := DiffJobs(j, nil)
	if gone.Kind != DiffRemoved || gone.Blocks[0].Kind != DiffRemoved {
		t.Errorf("a job that goes: %v", gone.lines(""))
	}
	if text := strings.Join(gone.lines(""), "\n"); strings.Contains(text, "old secret") || !strings.Contains(text, RedactedValue) {
		t.Errorf("a secret is shown, or not marked as one:\n%s", text)
	}
}

func TestDiffSaysWhatReplacesInstances(t *testing.T) {
	d := DiffJobs(diffJob(nil), diffJob(func(_ *Job, t *Task) {
		t.Env["A"], t.Count, t.Resources.Memory, t.Constraints = "2", 9, 512, nil
	}))
	got := map[string]bool{}
	for _, b := range d.Blocks[0].Blocks {
		got[b.Block] = b.Forces
	}
	if want := map[string]bool{"env": true, "resources": true, "constraint": false}; !cmp.Equal(got, want) {
		t.Errorf("blocks that force: %v, want %v", got, want)
	}
}

// TestDiffFindsEveryDifference: a diff is empty exactly when a registration would change nothing.
func TestDiffFindsEveryDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawDiffJob(t, "a"), drawDiffJob(t, "b")
		d := DiffJobs(a, b)
		if same := SpecEqual(a, b); same != (d.Kind == DiffNone) {
			t.Fatalf("equal: %v, diff: %q", same, d.lines(""))
		}
		if again := DiffJobs(a, b); !cmp.Equal(d, again) {
			t.Fatalf("another diff the second time: %s", cmp.Diff(d, again))
		}
		forced := false
		for _, task := range d.Blocks {
			for _, f := range task.Fields {
				forced = forced || f.Forces
			}
			for _, inner := range task.Blocks {
				forced = forced || inner.Forces
			}
		}
		if x, y := a.Task("web"), b.Task("web"); SameInstance(x, y) == forced {
			t.Fatalf("same instance: %v, forced: %v, %q", SameInstance(x, y), forced, d.lines(""))
		}
	})
}

func drawDiffJob(t *rapid.T, label string) *Job {
	some := func(what string) int { return rapid.IntRange(0, 1).Draw(t, label+" "+what) }
	return diffJob(func(j *Job, task *Task) {
		j.Priority += some("priority")
		task.Count += some("count")
		task.Args = []string{"x", "y"}[:2*some("args")]
		task.Env["KEY"] = fmt.Sprint("secret ", some("secret"))
		task.Ports[0].To += some("port")
		task.Restart.Attempts += some("attempts")
		task.Resources.Disk = int64(some("disk"))
		task.Spreads = []Spread{{Attribute: "attr.rack", Weight: 50, Targets: []SpreadTarget{{Value: "r1", Percent: 10 + some("percent")}}}}
		task.Devices = []DeviceRequest{{Type: "gpu", Count: 1 + some("devices")}}
		task.Constraints = append(task.Constraints, make([]Constraint, some("twice"))...)
	})
}
