package api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestHolds(t *testing.T) {
	task := DefaultTask("web")
	task.Resources = Resources{CPU: 100, Memory: 128, Disk: 10}
	add := func(kind PartKind, r Resources) { task.Parts = append(task.Parts, Part{Kind: kind, Resources: r}) }
	if got := task.Holds(); got != task.Resources {
		t.Errorf("alone it holds %+v", got)
	}
	add(PartPrestart, Resources{CPU: 500, Memory: 64})
	add(PartSidecar, Resources{CPU: 50, Memory: 32})
	add(PartSidecar, Resources{CPU: 50, Memory: 32, Disk: 5})
	add(PartPoststop, Resources{CPU: 100, Memory: 512})
	if got, want := task.Holds(), (Resources{CPU: 500, Memory: 512, Disk: 15}); got != want {
		t.Errorf("it holds %+v, want %+v: the sum of what runs side by side, and enough for each that runs alone", got, want)
	}
}

func TestPartsAreCanonical(t *testing.T) {
	j := &Job{Name: "web", Tasks: []*Task{DefaultTask("web")}}
	j.Tasks[0].Image = "i"
	text := `[{"Name":"tidy","Kind":"poststop","Image":"i"},{"Name":"z","Kind":"sidecar","Image":"i"},{"Name":"two","Kind":"prestart","Image":"i"},
		{"Name":"a","Kind":"sidecar","Image":"i"},{"Name":"one","Kind":"prestart","Image":"i","Timeout":1000000000}]`
	if err := json.Unmarshal([]byte(text), &j.Tasks[0].Parts); err != nil {
		t.Fatal(err)
	}
	j.Canonicalize()
	if err := j.Validate(); err != nil {
		t.Fatal(err)
	}
	var names string
	for _, p := range j.Tasks[0].Parts {
		names += p.Name + " "
	}
	if names != "two one a z tidy " {
		t.Errorf("the order is %s; want that of their lives, and of the writer for hooks", names)
	}
	if p := j.Tasks[0].Part("tidy"); p.Timeout != DefaultPoststopTimeout || p.Resources.Memory != DefaultMemory {
		t.Errorf("what is left out is %+v", p)
	}
	if err := json.Unmarshal([]byte(`{"Name":"x","Ports":[]}`), &Part{}); err == nil {
		t.Error("a field that no part has is accepted")
	}
	if b, err := json.Marshal(DefaultTask("web")); err != nil || strings.Contains(string(b), "Part") {
		t.Errorf("a task without parts is %s, %v; want nothing said of parts, so that no file makes a new version", b, err)
	}
}

func TestPartsAreShownAndHidden(t *testing.T) {
	with := func(change func(*Part)) *Job {
		task := DefaultTask("web")
		task.Image = "i"
		p := DefaultPart(PartSidecar, "proxy")
		p.Image, p.Env, p.Sensitive = "proxy:1", map[string]string{"KEY": "secret"}, []string{"KEY"}
		if change != nil {
			change(&p)
			task.Parts = []Part{p}
		}
		return &Job{Name: "web", Type: JobService, Priority: DefaultPriority, Tasks: []*Task{task}}
	}
	same := func(*Part) {}
	if got := with(same).Redacted().Tasks[0].Parts[0].Env["KEY"]; got != RedactedValue {
		t.Errorf("a sensitive value is shown as %q", got)
	}
	d := DiffJobs(with(nil), with(same))
	b, _ := json.Marshal(d.Blocks)
	want := `[{"Kind":"edited","Block":"task","Name":"web","Blocks":[{"Kind":"added","Block":"sidecar","Name":"proxy","Forces":true,"Fields":[` +
		`{"Kind":"added","Name":"image","Old":"","New":"\"proxy:1\""},{"Kind":"added","Name":"sensitive","Old":"","New":"[\"KEY\"]"}],` +
		`"Blocks":[{"Kind":"added","Block":"env","Fields":[{"Kind":"added","Name":"KEY","Old":"","New":"\u003csensitive\u003e"}]}]}]}]`
	if string(b) != want {
		t.Errorf("a new sidecar is shown as %s\nwant %s", b, want)
	}
	if SameInstance(with(same).Tasks[0], with(func(p *Part) { p.Image = "proxy:2" }).Tasks[0]) {
		t.Error("an instance with another sidecar is called the same")
	}
	d = DiffJobs(with(same), with(func(p *Part) { p.Kind, p.Timeout = PartPrestart, time.Minute }))
	if blocks := d.Blocks[0].Blocks; len(blocks) != 2 || blocks[0].Block+blocks[1].Block != "prestartsidecar" {
		t.Errorf("a sidecar that becomes a prestart is shown as %+v", blocks)
	}
}

func TestPartOf(t *testing.T) {
	for message, want := range map[string]string{
		PartText(PartSidecar, "proxy", "exit code 1"): "proxy",
		"prestart migrate: start failed: x: y":        "migrate",
		"stopped; poststop tidy: exit code 1":         "",
		"check live: it is ill":                       "",
		"sidecar Proxy: x":                            "",
		"sidecar":                                     "",
		"":                                            "",
	} {
		if got := PartOf(message); got != want {
			t.Errorf("%q is about %q, want %q", message, got, want)
		}
	}
}
