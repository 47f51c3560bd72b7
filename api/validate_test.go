package api

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

// sound is a job with something in every field.
func sound() *Job {
	t := DefaultTask("web")
	t.Image, t.Count = "hello:1", 3
	t.Ports = []Port{{Label: "http", To: 80}, {Label: "admin", Static: 8081}}
	t.Env = map[string]string{"A": "b", "TOKEN": "s3cret"}
	t.Sensitive = []string{"TOKEN"}
	t.Constraints = []Constraint{{Attribute: "${attr.kernel.name}", Value: "linux"}, {Operator: OpDistinctHosts}}
	t.Affinities = []Affinity{{Attribute: "meta.rack", Value: "r1"}}
	t.Spreads = []Spread{{Attribute: "node.name", Targets: []SpreadTarget{{"n1", 60}, {"n2", 40}}}}
	t.KillSignal = "int"
	live, ready := DefaultCheck("live"), DefaultCheck("ready")
	live.Type, live.Port, live.RestartAfter = CheckTCP, "http", 3
	ready.Type, ready.Port, ready.Headers, ready.Interval = CheckHTTP, "admin", map[string]string{"Host": "shop"}, time.Second
	t.Checks = []Check{ready, live}
	t.Config = map[string]any{"hostname": "h"}
	proxy, tidy := DefaultPart(PartSidecar, "proxy"), DefaultPart(PartPoststop, "tidy")
	proxy.Image, tidy.Image = "proxy:1", "hello:1"
	t.Parts = []Part{tidy, proxy}
	j := &Job{Name: "shop", Tasks: []*Task{t}}
	j.Canonicalize()
	return j
}

func TestCanonicalJobIsValid(t *testing.T) {
	j := sound()
	if err := j.Validate(); err != nil {
		t.Fatal(err)
	}
	task := j.Tasks[0]
	if j.Type != JobService || j.Priority != DefaultPriority || task.KillSignal != "SIGINT" || task.Ports[0].Label != "admin" ||
		task.Constraints[0] != (Constraint{"attr.kernel.name", "=", "linux"}) || task.Affinities[0].Weight != 50 || task.Spreads[0].Weight != 50 {
		t.Errorf("not canonical: %+v %+v", j, task)
	}
	if live, ready := task.Checks[0], task.Checks[1]; live.Path != "" || live.Timeout != DefaultCheckTimeout || ready.Path != "/" || ready.Method != "GET" || ready.Timeout != time.Second {
		t.Errorf("checks are not canonical: %+v", task.Checks)
	}
}

func TestImagesThatAreTaken(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	for _, image := range []string{
		"hello", "hello:1", "team/hello", "registry.example:5000/team/hello:1.2-rc3@" + digest, "hello@" + digest, digest, "677fc6dc8bf7",
		"registry.${node.datacenter}.example/hello:${meta.tag}",
	} {
		j := sound()
		j.Tasks[0].Image = image
		if err := j.Validate(); err != nil {
			t.Errorf("%s: %v", image, err)
		}
	}
}

func TestEachFaultHasItsLine(t *testing.T) {
	cases := map[string]struct {
		break_ func(*Job, *Task)
		says   string
	}{
		"no name":             {func(j *Job, _ *Task) { j.Name = "" }, "is empty"},
		"path in name":        {func(j *Job, _ *Task) { j.Name = "../x" }, "is not a name"},
		"control in name":     {func(_ *Job, k *Task) { k.Name = "a\x1b" }, "is not a name"},
		"long name":           {func(_ *Job, k *Task) { k.Name = strings.Repeat("a", 64) }, "64 characters"},
		"no end, a bound":     {func(_ *Job, k *Task) { k.MaxRunDuration = time.Hour }, "max_run_duration is for batch"},
		"negative bound":      {func(j *Job, k *Task) { j.Type, k.MaxRunDuration = JobBatch, -1 }, "max_run_duration -1ns"},
		"system with count":   {func(j *Job, _ *Task) { j.Type = JobSystem }, "count has no meaning in a system job"},
		"system, affinity":    {func(j *Job, k *Task) { j.Type, k.Count, k.Spreads = JobSystem, 1, nil }, "affinity has no meaning in a system job"},
		"sysbatch, spread":    {func(j *Job, k *Task) { j.Type, k.Count, k.Affinities = JobSysbatch, 1, nil }, "spread has no meaning in a sysbatch job"},
		"system, scheduler":   {func(j *Job, _ *Task) { j.Type, j.Scheduler = JobSystem, AlgorithmSpread }, "scheduler has no meaning in a system job"},
		"type":                {func(j *Job, _ *Task) { j.Type = "daemon" }, "daemon"},
		"priority":            {func(j *Job, _ *Task) { j.Priority = 101 }, "priority 101"},
		"scheduler":           {func(j *Job, _ *Task) { j.Scheduler = "best" }, "best"},
		"no task":             {func(j *Job, _ *Task) { j.Tasks = nil }, "no task"},
		"null task":           {func(j *Job, _ *Task) { j.Tasks[0] = nil }, "null"},
		"twice":               {func(j *Job, k *Task) { j.Tasks = append(j.Tasks, k) }, "two tasks"},
		"count -1":            {func(_ *Job, k *Task) { k.Count = -1 }, "count -1"},
		"count 1e9":           {func(_ *Job, k *Task) { k.Count = 1e9 }, "count 1000000000"},
		"image, digest":       {func(_ *Job, k *Task) { k.Image = "a@sha256:zz" }, "a@sha256:zz\" is not the name of an image"},
		"image, capitals":     {func(_ *Job, k *Task) { k.Image = "Hello" }, "must be lowercase"},
		"image, no tag":       {func(_ *Job, k *Task) { k.Image = "hello:" }, "is not the name of an image"},
		"image, URL":          {func(_ *Job, k *Task) { k.Image = "https://hub/hello" }, "is not the name of an image"},
		"driver":              {func(_ *Job, k *Task) { k.Driver = "podman" }, "podman"},
		"option":              {func(_ *Job, k *Task) { k.Config["privileged"] = true }, "privileged"},
		"option's kind":       {func(_ *Job, k *Task) { k.Config["read_only"] = "yes" }, "read_only"},
		"no image":            {func(_ *Job, k *Task) { k.Image = "" }, "image is missing"},
		"image a flag":        {func(_ *Job, k *Task) { k.Image = "-v" }, "image"},
		"no command":          {func(_ *Job, k *Task) { k.Driver, k.Image, k.Config = "raw_exec", "", nil }, "command is missing"},
		"env key":             {func(_ *Job, k *Task) { k.Env["A=B"] = "" }, "env"},
		"env NUL":             {func(_ *Job, k *Task) { k.Env["A"] = "\x00" }, "NUL"},
		"port 65536":          {func(_ *Job, k *Task) { k.Ports[0].Static = 65536 }, "65536"},
		"port to -1":          {func(_ *Job, k *Task) { k.Ports[0].To = -1 }, "to -1"},
		"port twice":          {func(_ *Job, k *Task) { k.Ports[1].Static = 8081 }, "8081 belongs to"},
		"label twice":         {func(_ *Job, k *Task) { k.Ports[1].Label = "admin" }, "two ports"},
		"a dynamic one":       {func(_ *Job, k *Task) { k.Ports[0].Static = 20000 }, "dynamic"},
		"memory 0":            {func(_ *Job, k *Task) { k.Resources.Memory = 0 }, "memory 0"},
		"cpu 0":               {func(_ *Job, k *Task) { k.Resources.CPU = 0 }, "cpu 0"},
		"disk -1":             {func(_ *Job, k *Task) { k.Resources.Disk = -1 }, "disk -1"},
		"restart interval":    {func(_ *Job, k *Task) { k.Restart.Interval = 1 }, "interval 1ns"},
		"restart mode":        {func(_ *Job, k *Task) { k.Restart.Mode = "never" }, "never"},
		"restart for ever":    {func(_ *Job, k *Task) { k.Restart.Attempts = 0 }, "attempts 0"},
		"restart never fails": {func(_ *Job, k *Task) { k.Restart.Mode = RestartFail }, "needs attempts"},
		"relative work_dir":   {func(_ *Job, k *Task) { k.WorkDir = "app" }, "work_dir"},
		"run-time value":      {func(_ *Job, k *Task) { k.Constraints[0].Value = "${node.name}" }, "${node.name}"},
		"migrate none":        {func(_ *Job, k *Task) { k.Migrate.MaxParallel = 0 }, "max_parallel"},
		"migrate health":      {func(_ *Job, k *Task) { k.Migrate.MinHealthyTime = -1 }, "min_healthy_time -1ns"},
		"migrate deadline":    {func(_ *Job, k *Task) { k.Migrate.HealthyDeadline = 5 * time.Second }, "healthy_deadline 5s is not above min_healthy_time 5s"},
		"migrate never":       {func(_ *Job, k *Task) { k.Migrate.HealthyDeadline = -1 }, "healthy_deadline -1ns is not above 0"},
		"migrate order":       {func(_ *Job, k *Task) { k.Migrate.Order = "first" }, "order"},
		"lost at once":        {func(_ *Job, k *Task) { k.Disconnect.LostAfter = 1 }, "lost_after 1ns is not from 1s"},
		"lost before":         {func(_ *Job, k *Task) { k.Disconnect.LostAfter = -time.Hour }, "lost_after -1h0m0s"},
		"a task of two minds": {func(_ *Job, k *Task) { k.Disconnect.LostAfter, k.Disconnect.Reconcile = time.Hour, "both" }, "reconcile \"both\""},
		"lost, not replaced":  {func(_ *Job, k *Task) { k.Disconnect.Replace = false }, "replace has no meaning without lost_after"},
		"lost, reconciled":    {func(_ *Job, k *Task) { k.Disconnect.Reconcile = ReconcileLongest }, "reconcile has no meaning without lost_after"},
		"one, reconciled": {func(_ *Job, k *Task) {
			k.Disconnect = Disconnect{LostAfter: time.Hour, Reconcile: ReconcileReplacement}
		}, "reconcile has no meaning with replace = false"},
		"stopped by a hiccup": {func(_ *Job, k *Task) { k.Disconnect.StopOnClientAfter = time.Second }, "stop_on_client_after 1s is not from 5s"},
		"stopped too late": {func(_ *Job, k *Task) {
			k.Disconnect.LostAfter, k.Disconnect.StopOnClientAfter = time.Minute, time.Hour
		}, "stop_on_client_after 1h is not below lost_after 1m"},
		"bound and replaced": {func(j *Job, k *Task) {
			j.Type, k.Count, k.Affinities, k.Spreads = JobSystem, 1, nil, nil
			k.Disconnect = Disconnect{LostAfter: time.Hour, Reconcile: ReconcileOriginal}
		}, "replace has no meaning in a system job"},
		"shutdown delay":     {func(_ *Job, k *Task) { k.ShutdownDelay = -1 }, "shutdown_delay"},
		"kill timeout":       {func(_ *Job, k *Task) { k.KillTimeout = -1 }, "kill_timeout"},
		"kill signal":        {func(_ *Job, k *Task) { k.KillSignal = "SIGSEGV" }, "SIGSEGV"},
		"regexp":             {func(_ *Job, k *Task) { k.Constraints[0] = Constraint{"attr.x", OpRegexp, "a("} }, "regular expression"},
		"operator":           {func(_ *Job, k *Task) { k.Constraints[0].Operator = "~" }, "operator"},
		"bare attribute":     {func(_ *Job, k *Task) { k.Constraints[0].Attribute = "class" }, "meta.class"},
		"node attribute":     {func(_ *Job, k *Task) { k.Constraints[0].Attribute = "node.class" }, "node.datacenter"},
		"affinity weight":    {func(_ *Job, k *Task) { k.Affinities[0].Weight = 101 }, "weight 101"},
		"spread percent":     {func(_ *Job, k *Task) { k.Spreads[0].Targets[0].Percent = 61 }, "101 percent"},
		"spread target":      {func(_ *Job, k *Task) { k.Spreads[0].Targets[1].Value = "n1" }, "twice"},
		"sensitive":          {func(_ *Job, k *Task) { k.Sensitive = []string{"X"} }, "sensitive"},
		"update":             {func(_ *Job, k *Task) { k.Update.MinHealthyTime = -1 }, "min_healthy_time -1ns"},
		"sidecar, no image":  {func(_ *Job, k *Task) { k.Parts[0].Image = "" }, `sidecar "proxy": image is missing`},
		"sidecar, image":     {func(_ *Job, k *Task) { k.Parts[0].Image = "Proxy" }, `sidecar "proxy": image "Proxy" is not the name of an image`},
		"sidecar, name":      {func(_ *Job, k *Task) { k.Parts[0].Name = "Proxy" }, `sidecar "Proxy": its name is not a name`},
		"sidecar, timeout":   {func(_ *Job, k *Task) { k.Parts[0].Timeout = time.Second }, "timeout has no meaning for a sidecar"},
		"sidecar, host name": {func(_ *Job, k *Task) { k.Parts[0].Config = map[string]any{"hostname": "x"} }, "hostname belongs to the task"},
		"sidecar, option":    {func(_ *Job, k *Task) { k.Parts[0].Config = map[string]any{"privileged": true} }, `sidecar "proxy": config: the docker driver has no option "privileged"`},
		"sidecar, volume":    {func(_ *Job, k *Task) { k.Parts[0].Volumes = []string{"none"} }, `the task has no volume "none"`},
		"sidecar, memory":    {func(_ *Job, k *Task) { k.Parts[0].Resources.Memory = 1 }, "memory 1 MiB"},
		"sidecar, env":       {func(_ *Job, k *Task) { k.Parts[0].Env = map[string]string{"A=B": ""} }, "env"},
		"part twice":         {func(_ *Job, k *Task) { k.Parts[1].Name = "proxy" }, `another part of the task is called "proxy"`},
		"part's kind":        {func(_ *Job, k *Task) { k.Parts[1].Kind = "init" }, `part "tidy": kind "init" is none of`},
		"poststop's timeout": {func(_ *Job, k *Task) { k.Parts[1].Timeout = 25 * time.Hour }, "timeout 25h0m0s is not from 1s to"},
		"parts in raw_exec":  {func(_ *Job, k *Task) { k.Driver, k.Image, k.Config, k.Command = "raw_exec", "", nil, "x" }, "a sidecar needs a driver with containers"},
		"too many parts":     {func(_ *Job, k *Task) { k.Parts = make([]Part, MaxTaskParts+1) }, "17 sidecars, prestarts and poststops are more than 16"},
		"datacenter control": {func(j *Job, _ *Task) { j.Datacenters = []string{"a\n"} }, "datacenter"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			j := sound()
			c.break_(j, j.Tasks[0])
			err := j.Validate()
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Errorf("got %v, want one line that says %q", err, c.says)
			}
			if code := CodeOf(err); code != CodeInvalid {
				t.Errorf("code %s", code)
			}
		})
	}
}

func TestAbsentAndZeroDiffer(t *testing.T) {
	var absent, zero Task
	if err := json.Unmarshal([]byte(`{"Name":"a"}`), &absent); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{"Name":"a","Count":0,"KillTimeout":0}`), &zero); err != nil {
		t.Fatal(err)
	}
	if absent.Count != 1 || absent.KillTimeout != DefaultKillTimeout || absent.Restart != DefaultRestart() || zero.Count != 0 || zero.KillTimeout != 0 {
		t.Errorf("absent %+v, zero %+v", absent, zero)
	}
}

func TestWhatMakesAnotherInstance(t *testing.T) {
	stays := map[string]func(*Task){
		"count":       func(k *Task) { k.Count = 9 },
		"constraints": func(k *Task) { k.Constraints = nil },
		"spread":      func(k *Task) { k.Spreads = nil },
		"restart":     func(k *Task) { k.Restart.Delay = time.Minute },
		"checks":      func(k *Task) { k.Checks[0].RestartAfter = 9 },
		"no checks":   func(k *Task) { k.Checks = nil },
		"update":      func(k *Task) { k.Update.MinHealthyTime = time.Minute },
		"disconnect":  func(k *Task) { k.Disconnect = Disconnect{LostAfter: time.Hour, Reconcile: ReconcileOriginal} },
		"nil config":  func(k *Task) {},
	}
	goes := map[string]func(*Task){
		"image":  func(k *Task) { k.Image = "hello:2" },
		"env":    func(k *Task) { k.Env = map[string]string{"A": "c"} },
		"port":   func(k *Task) { k.Ports = nil },
		"memory": func(k *Task) { k.Resources.Memory++ },
		"config": func(k *Task) { k.Config = map[string]any{"hostname": "i"} },
	}
	for name, change := range stays {
		a, b := sound(), sound()
		change(b.Tasks[0])
		if !SameInstance(a.Tasks[0], b.Tasks[0]) {
			t.Errorf("%s: another instance is wanted", name)
		}
		if SpecEqual(a, b) != (name == "nil config") {
			t.Errorf("%s: SpecEqual is %v", name, SpecEqual(a, b))
		}
	}
	for name, change := range goes {
		a, b := sound(), sound()
		change(b.Tasks[0])
		if SameInstance(a.Tasks[0], b.Tasks[0]) || SpecEqual(a, b) {
			t.Errorf("%s: the same instance would do", name)
		}
	}
	a, b := sound(), sound()
	b.Version, b.ModifyIndex, b.Source, b.SubmittedAt = 7, 8, &Source{}, time.Unix(1, 0)
	b.Tasks[0].Meta = map[string]string{}
	b.Datacenters = []string{}
	b.Canonicalize()
	if !SpecEqual(a, b) {
		t.Error("what the state adds, or an empty list, makes another job")
	}
}

func TestRedacted(t *testing.T) {
	j := sound()
	r := j.Redacted()
	if r.Tasks[0].Env["TOKEN"] != RedactedValue || r.Tasks[0].Env["A"] != "b" || j.Tasks[0].Env["TOKEN"] != "s3cret" {
		t.Errorf("redacted %v of %v", r.Tasks[0].Env, j.Tasks[0].Env)
	}
	j.Tasks[0].Sensitive = nil
	if j.Redacted() != j {
		t.Error("a job with nothing to hide was copied")
	}
}

// TestFaultsKnowTheirPlace holds the way to a fault together with its text: what parses task files points by it.
func TestFaultsKnowTheirPlace(t *testing.T) {
	for path, break_ := range map[string]func(*Job, *Task){
		`priority`:                         func(j *Job, _ *Task) { j.Priority = 101 },
		`task "web"/count`:                 func(_ *Job, k *Task) { k.Count = -1 },
		`task "web"/port "http"/static`:    func(_ *Job, k *Task) { k.Ports[1].Static = 65536 },
		`task "web"/constraint 1/operator`: func(_ *Job, k *Task) { k.Constraints[0].Operator = "~" },
		`task "web"/constraint 2/value`: func(_ *Job, k *Task) {
			k.Constraints = []Constraint{{"meta.rack", OpEqual, "a"}, {"meta.rack", OpEqual, "b"}}
		},
		`task "web"/config/privileged`:            func(_ *Job, k *Task) { k.Config["privileged"] = true },
		`task "web"/check "live"/port`:            func(_ *Job, k *Task) { k.Checks[0].Port = "https" },
		`task "web"/check "ready"/headers/Host`:   func(_ *Job, k *Task) { k.Checks[1].Headers["Host"] = "a\n" },
		`task "web"/update/min_healthy_time`:      func(_ *Job, k *Task) { k.Update.MinHealthyTime = -1 },
		`task "web"/sidecar "proxy"/image`:        func(_ *Job, k *Task) { k.Parts[0].Image = "-v" },
		`task "web"/resources/memory`:             func(_ *Job, k *Task) { k.Resources.Memory = 0 },
		`task "web"/spread 1/target "n1"/percent`: func(_ *Job, k *Task) { k.Spreads[0].Targets[0].Percent = -1 },
	} {
		j := sound()
		break_(j, j.Tasks[0])
		err := j.Validate()
		var f *Fault
		if !errors.As(err, &f) || strings.Join(f.Path, "/") != path {
			t.Errorf("%v: the path is %v, want %s", err, f, path)
			continue
		}
		if want := `job "shop": ` + f.Error(); err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
}
