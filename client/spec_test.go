package client

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"cube/api"
	"cube/client/driver"
)

func specWorld(change func(*api.Task)) (*allocation, *api.Task, *api.Node) {
	a := &allocation{ID: 7, work: work{Job: "shop", Task: "web", Slot: 3, Version: 2, Ports: []api.PortBinding{{Label: "http-main", Host: 20001, To: 80}, {Label: "raw", Host: 20002}}}}
	task := api.DefaultTask("web")
	task.Resources = api.Resources{CPU: 250, Memory: 64, Disk: 10}
	change(task)
	n := &api.Node{ID: "n1", Name: "node-a", Datacenter: "dc1", Address: "10.0.0.1", Attributes: map[string]string{"driver.docker.version": "20.10"}, Meta: map[string]string{"rack": "r7"}}
	return a, task, n
}

func TestEnvironment(t *testing.T) {
	a, task, n := specWorld(func(*api.Task) {})
	want := map[string]string{
		"CUBE_ALLOC_ID": "id7", "CUBE_ALLOC_NAME": "shop/web[3]", "CUBE_ALLOC_INDEX": "3", "CUBE_JOB_NAME": "shop", "CUBE_TASK_NAME": "web",
		"CUBE_NODE_ID": "n1", "CUBE_NODE_NAME": "node-a", "CUBE_DATACENTER": "dc1", "CUBE_CPU": "0.25", "CUBE_MEMORY": "64",
		"CUBE_IP_http_main": "10.0.0.1", "CUBE_ADDR_http_main": "10.0.0.1:20001", "CUBE_HOST_PORT_http_main": "20001", "CUBE_PORT_http_main": "80",
		"CUBE_IP_raw": "10.0.0.1", "CUBE_ADDR_raw": "10.0.0.1:20002", "CUBE_HOST_PORT_raw": "20002", "CUBE_PORT_raw": "20002",
	}
	if diff := cmp.Diff(want, environment(a, task, n, "id7")); diff != "" {
		t.Errorf("docker (-want +got):\n%s", diff)
	}
	task.Driver = "raw_exec" // binds the host's port
	want["CUBE_PORT_http_main"] = "20001"
	if diff := cmp.Diff(want, environment(a, task, n, "id7")); diff != "" {
		t.Errorf("raw_exec (-want +got):\n%s", diff)
	}
}

// TestTheDirectoryOfItsOwn: a container finds it where the task says, a process of the node where it is.
func TestTheDirectoryOfItsOwn(t *testing.T) {
	a, task, n := specWorld(func(task *api.Task) { task.EphemeralDisk = &api.EphemeralDisk{Destination: "/scratch"} })
	got, err := configure(&api.Job{}, a, task, n, driver.Owner{}, "id7", "/data/alloc/id7")
	want := []driver.Volume{{Name: "ephemeral_disk", Path: "/data/alloc/id7/data", Destination: "/scratch"}}
	if err != nil || !cmp.Equal(got.Volumes, want) || got.Env["CUBE_ALLOC_DIR"] != "/scratch" {
		t.Errorf("docker: %v, %+v in %q, want %+v", err, got.Volumes, got.Env["CUBE_ALLOC_DIR"], want)
	}
	task.Driver, task.EphemeralDisk = "raw_exec", &api.EphemeralDisk{}
	task.Args = []string{"-dir", "${CUBE_ALLOC_DIR}"}
	got, err = configure(&api.Job{}, a, task, n, driver.Owner{}, "id7", "/data/alloc/id7")
	if err != nil || len(got.Volumes) != 0 || got.Env["CUBE_ALLOC_DIR"] != "/data/alloc/id7/data" || got.Args[1] != "/data/alloc/id7/data" {
		t.Errorf("raw_exec: %v, %+v in %q, args %q", err, got.Volumes, got.Env["CUBE_ALLOC_DIR"], got.Args)
	}
}

// TestWhatADispatchTells: the meta is in the environment and can be used in the task; a container finds the payload in a directory
// that it only reads, a process of the node where it is; a job that nobody dispatched has neither.
func TestWhatADispatchTells(t *testing.T) {
	a, task, n := specWorld(func(task *api.Task) {
		task.Args = []string{"${CUBE_META_size}", "${CUBE_META_note}", "${CUBE_PAYLOAD_FILE}"}
		task.DispatchPayload = &api.DispatchPayload{File: "photo.json"}
	})
	j := &api.Job{Meta: map[string]string{"owner": "ada"}, Dispatched: &api.Dispatched{Keys: []string{"note", "size"},
		DispatchRequest: api.DispatchRequest{Meta: map[string]string{"size": "3"}, Payload: []byte("x")}}}
	got, err := configure(j, a, task, n, driver.Owner{}, "id7", "/data/alloc/id7")
	want := []driver.Volume{{Name: "dispatch", Path: "/data/alloc/id7/dispatch", Destination: "/dispatch", ReadOnly: true}}
	if err != nil || !cmp.Equal(got.Volumes, want) || !cmp.Equal(got.Args, []string{"3", "", "/dispatch/photo.json"}) {
		t.Errorf("docker: %v, %+v, args %q", err, got.Volumes, got.Args)
	}
	if _, told := got.Env["CUBE_META_owner"]; told || got.Env["CUBE_META_size"] != "3" || got.Env["CUBE_PAYLOAD_FILE"] != "/dispatch/photo.json" {
		t.Errorf("its environment is %v", got.Env)
	}
	task.Driver = "raw_exec"
	got, err = configure(j, a, task, n, driver.Owner{}, "id7", "/data/alloc/id7")
	if err != nil || len(got.Volumes) != 0 || got.Env["CUBE_PAYLOAD_FILE"] != "/data/alloc/id7/dispatch/photo.json" {
		t.Errorf("raw_exec: %v, %+v in %q", err, got.Volumes, got.Env["CUBE_PAYLOAD_FILE"])
	}
	if _, err = configure(&api.Job{}, a, task, n, driver.Owner{}, "id7", "/data/alloc/id7"); err == nil {
		t.Error("what nobody told is known")
	}
}

// TestDevicesThatAnInstanceHolds: the instance is told which they are, and the driver how to hand them over.
func TestDevicesThatAnInstanceHolds(t *testing.T) {
	a, task, n := specWorld(func(task *api.Task) { task.Args = []string{"-on=${CUBE_DEVICE_GPU}"} })
	n.Devices = []api.DeviceGroup{
		{Type: "fuse", IDs: []string{"/dev/fuse"}},
		{Type: "gpu", Model: "A100", IDs: []string{"GPU-1", "GPU-2", "GPU-3"}, Attributes: map[string]string{"vendor": "nvidia"}},
		{Type: "gpu-share", IDs: []string{"s1"}},
		{Type: "kvm", IDs: []string{"kvm-00", "kvm-01"}, Attributes: map[string]string{"path": "/dev/kvm"}},
	}
	a.Devices = []api.DeviceClaim{{Type: "fuse", ID: "/dev/fuse", Share: 1000}, {Type: "gpu", ID: "GPU-3", Share: 1000}, {Type: "gpu", ID: "GPU-1", Share: 1000},
		{Type: "kvm", ID: "kvm-01", Share: 125}}
	got, err := configure(&api.Job{}, a, task, n, driver.Owner{}, "id7", "")
	if err != nil {
		t.Fatal(err)
	}
	want := []driver.Device{
		{DeviceClaim: a.Devices[0], Path: "/dev/fuse"}, {DeviceClaim: a.Devices[1], Vendor: "nvidia"}, {DeviceClaim: a.Devices[2], Vendor: "nvidia"},
		{DeviceClaim: a.Devices[3], Path: "/dev/kvm"},
	}
	if diff := cmp.Diff(want, got.Devices); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for key, value := range map[string]string{"CUBE_DEVICE_FUSE": "/dev/fuse", "CUBE_DEVICE_GPU": "GPU-3,GPU-1", "CUBE_DEVICE_GPU_SHARE": "1", "CUBE_DEVICE_KVM": "kvm-01", "CUBE_DEVICE_KVM_SHARE": "0.125"} {
		if got.Env[key] != value {
			t.Errorf("%s=%s, want %s", key, got.Env[key], value)
		}
	}
	if got.Args[0] != "-on=GPU-3,GPU-1" {
		t.Errorf("args %q", got.Args)
	}
	a.Devices = []api.DeviceClaim{{Type: "gpu-share", ID: "s1", Share: 1000}, {Type: "gpu", ID: "GPU-1", Share: 500}}
	if env := environment(a, task, n, "id7"); env["CUBE_DEVICE_GPU_SHARE"] != "s1" || env["CUBE_DEVICE_GPU_SHARE_SHARE"] != "1" {
		t.Errorf("a type called gpu-share is told of as %q", env["CUBE_DEVICE_GPU_SHARE"])
	}
	a.Devices[1].ID = "GPU-9"
	if _, err := configure(&api.Job{}, a, task, n, driver.Owner{}, "id7", ""); err == nil || err.Error() != "node node-a has no gpu GPU-9 any more" {
		t.Errorf("a device that is gone: %v", err)
	}
}

func TestConfigureFillsInEverywhere(t *testing.T) {
	a, task, n := specWorld(func(task *api.Task) {
		task.Image = "app:${meta.rack}"
		task.Command = "/bin/${CUBE_TASK_NAME}"
		task.Args = []string{"-listen=:${CUBE_PORT_http-main}", "${CUBE_PORT_raw}", "${HOME} stays", "plain"}
		task.User, task.WorkDir = "${node.name}", "/srv/${CUBE_ALLOC_INDEX}"
		task.Env = map[string]string{"WHERE": "${node.datacenter}/${attr.driver.docker.version}", "CUBE_NODE_ID": "mine"}
		task.Config = map[string]any{
			"labels": map[string]any{"rack": "${meta.rack}"}, "list": []any{"${node.id}", 1, true}, "words": []string{"${node.id}"}, "n": 5,
		}
	})
	owner := driver.Owner{ClusterID: "c", NodeID: "n1"}
	got, err := configure(&api.Job{}, a, task, n, owner, "id7", "/d")
	if err != nil {
		t.Fatal(err)
	}
	env := environment(a, task, n, "id7")
	env["WHERE"] = "dc1/20.10" // and CUBE_NODE_ID is not the task's to say
	want := &driver.Config{
		Owner: owner, Key: driver.Key{Allocation: 7}, Text: "id7", Job: "shop", Task: "web", Slot: 3, Version: 2,
		Image: "app:r7", Command: "/bin/web", Args: []string{"-listen=:80", "20002", "${HOME} stays", "plain"}, Env: env,
		User: "node-a", WorkDir: "/srv/3", Network: driver.Network{Address: "10.0.0.1", Ports: a.Ports}, Held: task.Resources, Dir: "/d",
		Options: map[string]any{"labels": map[string]any{"rack": "r7"}, "list": []any{"n1", 1, true}, "words": []string{"n1"}, "n": 5},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if task.Args[1] != "${CUBE_PORT_raw}" || task.Config["words"].([]string)[0] != "${node.id}" {
		t.Error("the task, which is shared, was changed")
	}
}

func TestConfigureNamesWhatItDoesNotKnow(t *testing.T) {
	a, task, n := specWorld(func(task *api.Task) {
		task.Args = []string{"${CUBE_PORT_admin}", "${meta.zone}", "${meta.zone}"}
	})
	_, err := configure(&api.Job{}, a, task, n, driver.Owner{}, "id7", "")
	if want := "node node-a does not know ${CUBE_PORT_admin}, ${meta.zone}"; err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
}
