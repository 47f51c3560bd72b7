package api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestEachFaultOfACheckHasItsLine breaks the checks of a sound job: "live" is a tcp check, "ready" an http one.
func TestEachFaultOfACheckHasItsLine(t *testing.T) {
	cases := map[string]struct {
		break_ func(task *Task, live, ready *Check)
		says   string
	}{
		"no name":        {func(_ *Task, live, _ *Check) { live.Name = "" }, "check name \"\" is empty"},
		"name":           {func(_ *Task, live, _ *Check) { live.Name = "A b" }, `check name "A b" is not a name`},
		"two names":      {func(_ *Task, live, _ *Check) { live.Name = "ready" }, `two checks are called "ready"`},
		"no type":        {func(_ *Task, live, _ *Check) { live.Type = "" }, `check "live": type is missing; it is one of http, tcp`},
		"type":           {func(_ *Task, live, _ *Check) { live.Type = "udp" }, `type "udp" is none of http, tcp`},
		"port":           {func(_ *Task, live, _ *Check) { live.Port = "https" }, `the task has no port "https"; it has admin, http`},
		"which port":     {func(_ *Task, live, _ *Check) { live.Port = "" }, "port is missing; it is one of admin, http"},
		"no port":        {func(k *Task, _, _ *Check) { k.Ports = nil }, `check "live": a check of type tcp needs a port, and the task has none`},
		"path of tcp":    {func(_ *Task, live, _ *Check) { live.Path = "/" }, "path has no meaning for a check of type tcp"},
		"method of tcp":  {func(_ *Task, live, _ *Check) { live.Method = "GET" }, "method has no meaning for a check of type tcp"},
		"headers of tcp": {func(_ *Task, live, _ *Check) { live.Headers = map[string]string{"A": "b"} }, "headers has no meaning"},
		"body of tcp":    {func(_ *Task, live, _ *Check) { live.Body = "x" }, "body has no meaning for a check of type tcp"},
		"command":        {func(_ *Task, _, ready *Check) { ready.Command = []string{"x"} }, "command has no meaning for a check of type http"},
		"exec, no words": {func(_ *Task, live, _ *Check) { *live = execCheck() }, `check "live": command is missing; an exec check needs one`},
		"exec, no word":  {func(_ *Task, live, _ *Check) { *live = execCheck("", "x") }, "command begins with an empty word"},
		"exec, a NUL":    {func(_ *Task, live, _ *Check) { *live = execCheck("sh", "a\x00b") }, "command"},
		"exec, a port":   {func(_ *Task, live, _ *Check) { *live = execCheck("x"); live.Port = "http" }, "port has no meaning for a check of type exec"},
		"exec, a path":   {func(_ *Task, live, _ *Check) { *live = execCheck("x"); live.Path = "/" }, "path has no meaning for a check of type exec"},
		"relative path":  {func(_ *Task, _, ready *Check) { ready.Path = "health" }, `path "health" is not a path such as /health`},
		"path, control":  {func(_ *Task, _, ready *Check) { ready.Path = "/a\r\nB: c" }, "is not a path"},
		"method":         {func(_ *Task, _, ready *Check) { ready.Method = "GET /" }, `method "GET /" is not one of HTTP`},
		"header":         {func(_ *Task, _, ready *Check) { ready.Headers["a b"] = "c" }, `"a b" is not the name of a header`},
		"header's value": {func(_ *Task, _, ready *Check) { ready.Headers["A"] = "b\r\nC: d" }, "headers: A takes"},
		"body":           {func(_ *Task, _, ready *Check) { ready.Body = strings.Repeat("x", maxValue+1) }, "body takes at most"},
		"interval":       {func(_ *Task, live, _ *Check) { live.Interval = -time.Second }, "interval -1s is not from 1s to 24h0m0s"},
		"interval 0":     {func(_ *Task, live, _ *Check) { live.Interval = 0 }, "interval 0s is not"},
		"timeout":        {func(_ *Task, live, _ *Check) { live.Timeout = -1 }, "timeout -1ns is not above 0"},
		"long timeout":   {func(_ *Task, live, _ *Check) { live.Timeout = time.Minute }, "timeout 1m0s is longer than interval (10s)"},
		"start period":   {func(_ *Task, live, _ *Check) { live.StartPeriod = -1 }, "start_period -1ns"},
		"success":        {func(_ *Task, live, _ *Check) { live.SuccessBeforePassing = 0 }, "success_before_passing 0 is not from 1 to 1000"},
		"failures":       {func(_ *Task, live, _ *Check) { live.FailuresBeforeCritical = -1 }, "failures_before_critical -1"},
		"restart":        {func(_ *Task, live, _ *Check) { live.RestartAfter = -1 }, "restart_after -1 is not from 0"},
		"too many":       {func(k *Task, _, _ *Check) { k.Checks = make([]Check, MaxChecks+1) }, "17 checks are more than 16"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			j := sound()
			k := j.Tasks[0]
			c.break_(k, &k.Checks[0], &k.Checks[1])
			err := j.Validate()
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.ContainsAny(err.Error(), "\r\n\x1b\x00") {
				t.Errorf("got %v, want one line that says %q", err, c.says)
			}
		})
	}
}

func execCheck(command ...string) Check {
	c := DefaultCheck("live")
	c.Type, c.Command, c.Timeout = CheckExec, command, time.Second
	return c
}

func TestWhatAnAbsentFieldOfACheckMeans(t *testing.T) {
	var task Task
	err := json.Unmarshal([]byte(`{"Name":"web","Image":"x","Ports":[{"Label":"http"}],"Checks":[{"Name":"up","Type":"http"},{"Name":"on","Type":"tcp","Interval":1000000000,"StartPeriod":0}]}`), &task)
	if err != nil {
		t.Fatal(err)
	}
	j := &Job{Name: "web", Tasks: []*Task{&task}}
	j.Canonicalize()
	if err := j.Validate(); err != nil {
		t.Fatal(err)
	}
	on, up := task.Checks[0], task.Checks[1]
	if on.Port != "http" || on.Timeout != time.Second || on.StartPeriod != 0 {
		t.Errorf("on: %+v", on)
	}
	if up.Port != "http" || up.Path != "/" || up.Method != "GET" || up.Interval != DefaultCheckInterval || up.Timeout != DefaultCheckTimeout ||
		up.StartPeriod != DefaultCheckStartPeriod || up.FailuresBeforeCritical != 3 || up.SuccessBeforePassing != 1 || up.RestartAfter != 0 {
		t.Errorf("up: %+v", up)
	}
	if err := json.Unmarshal([]byte(`{"Checks":[{"Intervall":1}]}`), &task); err == nil {
		t.Error("an unknown field was taken")
	}
}
