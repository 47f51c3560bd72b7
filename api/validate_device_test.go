package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// withDevices is a sound job whose task asks for devices, one part written as briefly as can be.
func withDevices() *Job {
	j := sound()
	j.Tasks[0].Devices = []DeviceRequest{
		{Type: "nic"},
		{Type: "gpu", Count: 1, Share: 500, Constraints: []Constraint{{Attribute: "${device.model}", Value: "A100"}, {"device.memory_gib", OpGreaterEqual, "40"}}},
	}
	j.Canonicalize()
	return j
}

func TestDevicesAreCanonical(t *testing.T) {
	j := withDevices()
	if err := j.Validate(); err != nil {
		t.Fatal(err)
	}
	want := []DeviceRequest{
		{"gpu", 1, 500, []Constraint{{"device.model", OpEqual, "A100"}, {"device.memory_gib", OpGreaterEqual, "40"}}},
		{"nic", 1, WholeDevice, nil},
	}
	if !reflect.DeepEqual(j.Tasks[0].Devices, want) {
		t.Errorf("canonical: %+v", j.Tasks[0].Devices)
	}
}

func TestEachFaultOfADeviceHasItsLine(t *testing.T) {
	cases := map[string]struct {
		break_ func(*DeviceRequest)
		says   string
	}{
		"no type":     {func(d *DeviceRequest) { d.Type = "" }, "is empty"},
		"type":        {func(d *DeviceRequest) { d.Type = "GPU\n" }, "is not a name"},
		"twice":       {func(d *DeviceRequest) { d.Type = "nic" }, "twice"},
		"count -1":    {func(d *DeviceRequest) { d.Count = -1 }, "count -1"},
		"count 65":    {func(d *DeviceRequest) { d.Count = 65 }, "count 65"},
		"share -1":    {func(d *DeviceRequest) { d.Share = -1 }, "share -0.001"},
		"share 1001":  {func(d *DeviceRequest) { d.Share = 1001 }, "share 1.001"},
		"part of two": {func(d *DeviceRequest) { d.Count = 2 }, "share 0.5 is part of one device and count is 2"},
		"bare name":   {func(d *DeviceRequest) { d.Constraints[0].Attribute = "model" }, "did you mean device.model?"},
		"of the node": {func(d *DeviceRequest) { d.Constraints[0].Attribute = "node.name" }, "is not about a device"},
		"no key":      {func(d *DeviceRequest) { d.Constraints[0].Attribute = "device." }, "is not the name of an attribute"},
		"operator":    {func(d *DeviceRequest) { d.Constraints[0].Operator = "~" }, "operator \"~\""},
		"hosts":       {func(d *DeviceRequest) { d.Constraints[0] = Constraint{Operator: OpDistinctHosts} }, "about nodes, not devices"},
		"no value":    {func(d *DeviceRequest) { d.Constraints[1].Value = "" }, "lacks a value"},
		"run time":    {func(d *DeviceRequest) { d.Constraints[0].Value = "${node.name}" }, "cannot be filled in here"},
		"regexp":      {func(d *DeviceRequest) { d.Constraints[0].Operator, d.Constraints[0].Value = OpRegexp, "a(" }, "regular expression"},
		"regexp, huge": {func(d *DeviceRequest) {
			d.Constraints[0].Operator, d.Constraints[0].Value = OpRegexp, strings.Repeat("b{1,1000}", 30)
		}, "too large"},
		"conditions": {func(d *DeviceRequest) { d.Constraints = make([]Constraint, 65) }, "65 constraints"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			j := withDevices()
			c.break_(&j.Tasks[0].Devices[0])
			j.Canonicalize()
			err := j.Validate()
			if CodeOf(err) != CodeInvalid || !strings.Contains(err.Error(), c.says) || strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Errorf("got %v, want one line that says %q", err, c.says)
			}
		})
	}
	j := withDevices()
	for i := range 17 {
		j.Tasks[0].Devices = append(j.Tasks[0].Devices, DeviceRequest{Type: fmt.Sprintf("x%d", i)})
	}
	if j.Canonicalize(); CodeOf(j.Validate()) != CodeInvalid {
		t.Error("a task may ask for 19 types of device")
	}
	j = withDevices()
	j.Tasks[0].Devices[0].Share = 2000
	var f *Fault
	if err := j.Validate(); !errors.As(err, &f) || strings.Join(f.Path, "/") != `task "web"/resources/device "gpu"/share` {
		t.Errorf("%v: the path is %v", err, f)
	}
}

func TestDevicesInJSON(t *testing.T) {
	var task Task
	if err := json.Unmarshal([]byte(`{"Name":"a","Devices":[{"Type":"gpu","Count":2}]}`), &task); err != nil || task.Devices[0].Count != 2 {
		t.Errorf("%+v, %v", task.Devices, err)
	}
	for _, text := range []string{`{"Devices":[{"Type":"gpu","Model":"x"}]}`, `{"Devices":[{"Type":"gpu","Share":0.5}]}`, `{"Devices":{"gpu":1}}`} {
		if err := json.Unmarshal([]byte(text), &task); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

// TestAnotherDeviceIsAnotherInstance: what runs holds devices that were chosen for what was asked.
func TestAnotherDeviceIsAnotherInstance(t *testing.T) {
	for name, change := range map[string]func(*Task){
		"type":       func(k *Task) { k.Devices[0].Type = "fpga" },
		"count":      func(k *Task) { k.Devices[1].Count = 2 },
		"share":      func(k *Task) { k.Devices[0].Share = 250 },
		"constraint": func(k *Task) { k.Devices[0].Constraints[0].Value = "H100" },
		"none":       func(k *Task) { k.Devices = nil },
	} {
		a, b := withDevices(), withDevices()
		if !SameInstance(a.Tasks[0], b.Tasks[0]) || !SpecEqual(a, b) {
			t.Fatal("the same devices make another instance")
		}
		if change(b.Tasks[0]); SameInstance(a.Tasks[0], b.Tasks[0]) || SpecEqual(a, b) {
			t.Errorf("%s: the same instance would do", name)
		}
	}
}

func TestDevicesOfANode(t *testing.T) {
	fine := func() []DeviceGroup {
		return []DeviceGroup{
			{Type: "gpu", Model: "T4", IDs: []string{"GPU-3"}},
			{Type: "gpu", Model: "A100", IDs: []string{"GPU-2", "GPU-1"}, Attributes: map[string]string{"vendor": "nvidia"}},
			{Type: "fuse", IDs: []string{"/dev/fuse"}},
		}
	}
	g := fine()
	if SortDevices(g); g[0].Type != "fuse" || g[1].Model != "A100" || g[1].IDs[0] != "GPU-1" || CheckDevices(g) != nil || CheckDevices(nil) != nil {
		t.Errorf("sorted: %+v, %v", g, CheckDevices(g))
	}
	for name, c := range map[string]struct {
		break_ func([]DeviceGroup) []DeviceGroup
		says   string
	}{
		"type":        {func(g []DeviceGroup) []DeviceGroup { g[0].Type = "My GPU"; return g }, "is not a name"},
		"model":       {func(g []DeviceGroup) []DeviceGroup { g[0].Model = "\x1b[31m"; return g }, "model"},
		"long model":  {func(g []DeviceGroup) []DeviceGroup { g[0].Model = strings.Repeat("m", 129); return g }, "model"},
		"no ID":       {func(g []DeviceGroup) []DeviceGroup { g[0].IDs = nil; return g }, "0 IDs"},
		"65 IDs":      {func(g []DeviceGroup) []DeviceGroup { g[0].IDs = make([]string, 65); return g }, "65 IDs"},
		"empty ID":    {func(g []DeviceGroup) []DeviceGroup { g[0].IDs[0] = ""; return g }, "ID \"\""},
		"comma in ID": {func(g []DeviceGroup) []DeviceGroup { g[0].IDs[0] = "a,b"; return g }, "comma"},
		"ID twice":    {func(g []DeviceGroup) []DeviceGroup { g[1].IDs[0] = "GPU-1"; return g }, "belongs to"},
		"of another":  {func(g []DeviceGroup) []DeviceGroup { g[2].IDs[0] = "GPU-1"; return g }, "belongs to a device"},
		"attribute":   {func(g []DeviceGroup) []DeviceGroup { g[1].Attributes["model"] = "x"; return g }, "model stands for itself"},
		"key":         {func(g []DeviceGroup) []DeviceGroup { g[1].Attributes[""] = "x"; return g }, "is not a key"},
		"groups": {func(g []DeviceGroup) []DeviceGroup {
			for i := range 14 {
				g = append(g, DeviceGroup{Type: "x", IDs: []string{fmt.Sprint(i)}})
			}
			return g
		}, "17 groups"},
	} {
		g := c.break_(fine())
		SortDevices(g)
		if err := CheckDevices(g); CodeOf(err) != CodeInvalid || !strings.Contains(err.Error(), c.says) || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%s: %v, want one line that says %q", name, err, c.says)
		}
	}
	if err := CheckDevices(fine()); CodeOf(err) != CodeInvalid || !strings.Contains(err.Error(), "sorted") {
		t.Errorf("not sorted: %v", err)
	}
}

// TestOrderOfDevices: however the devices of a node are found, they look the same.
func TestOrderOfDevices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 6).Draw(t, "groups")
		var one, two []DeviceGroup
		for i := range n {
			ids := []string{fmt.Sprintf("%d-a", i), fmt.Sprintf("%d-b", i), fmt.Sprintf("%d-c", i)}
			g := DeviceGroup{Type: rapid.SampledFrom([]string{"gpu", "nic"}).Draw(t, "type"), Model: rapid.SampledFrom([]string{"", "m", "n"}).Draw(t, "model")}
			h := g
			g.IDs, h.IDs = ids, rapid.Permutation(ids).Draw(t, "ids")
			one, two = append(one, g), append(two, h)
		}
		two = rapid.Permutation(two).Draw(t, "order")
		SortDevices(one)
		SortDevices(two)
		if !reflect.DeepEqual(one, two) || CheckDevices(one) != nil {
			t.Fatalf("%+v and %+v: %v", one, two, CheckDevices(one))
		}
	})
}
