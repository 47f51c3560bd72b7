package docker

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"cube/api"
	"cube/client/driver"
)

// everything is a task that uses all that a task can have.
func everything() *driver.Config {
	return &driver.Config{
		Key: driver.Key{Allocation: api.MakeID(0, 7), Restarts: 2}, Job: "shop", Task: "web", Slot: 1, Version: 3,
		Image: "cube/hello:1", Command: "serve", Args: []string{"-v"}, Env: map[string]string{"B": "2", "A": "1"},
		User: "1000", WorkDir: "/srv",
		Network: driver.Network{Address: "127.0.0.2", Ports: []api.PortBinding{{Label: "http", Host: 20001, To: 8080}, {Label: "raw", Host: 20002}}},
		Held:    api.Resources{CPU: 250, Memory: 64},
		Devices: []driver.Device{
			{DeviceClaim: api.DeviceClaim{Type: "fuse", ID: "/dev/fuse", Share: 1000}, Path: "/dev/fuse"},
			{DeviceClaim: api.DeviceClaim{Type: "gpu", ID: "GPU-2", Share: 1000}, Vendor: "nvidia"},
			{DeviceClaim: api.DeviceClaim{Type: "gpu", ID: "GPU-1", Share: 1000}, Vendor: "nvidia"},
			{DeviceClaim: api.DeviceClaim{Type: "kvm", ID: "kvm-00", Share: 1000}, Path: "/dev/kvm"},
			{DeviceClaim: api.DeviceClaim{Type: "kvm", ID: "kvm-03", Share: 1000}, Path: "/dev/kvm"},
			{DeviceClaim: api.DeviceClaim{Type: "licence", ID: "l1", Share: 1000}},
		},
		Volumes: []driver.Volume{{Name: "data", Path: "/srv/data", Destination: "/var/lib/data"}, {Name: "x", Path: "/srv/x", Destination: "/x", ReadOnly: true}},
		Options: map[string]any{
			"cap_drop": []any{"CHOWN"}, "entrypoint": []any{"/hello"}, "extra_hosts": []any{"db:10.0.0.1"}, "force_pull": true,
			"hostname": "web1", "labels": map[string]any{"team": "shop"}, "log_max_files": float64(3), "log_max_size": "1MiB",
			"read_only": true, "tmpfs": []any{"/tmp", "/run:size=64m"},
		},
	}
}

// TestHostConfigIsAllowed goes over every field that the SDK knows: what is not on this list stays as it is in an empty
// HostConfig, whatever a task says. A field that a later SDK brings is thereby off until someone adds it here.
func TestHostConfigIsAllowed(t *testing.T) {
	allowed := map[string]bool{
		"LogConfig": true, "PortBindings": true, "RestartPolicy": true, "CapDrop": true, "ExtraHosts": true,
		"ReadonlyRootfs": true, "SecurityOpt": true, "Tmpfs": true,
		"Resources.CPUShares": true, "Resources.Memory": true, "Resources.MemorySwap": true, "Resources.PidsLimit": true,
		"Mounts": true, "Resources.Devices": true, "Resources.DeviceRequests": true,
	}
	c := everything()
	o, err := parseOptions(c.Options)
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			name := prefix + v.Type().Field(i).Name
			if name == "Resources" {
				walk("Resources.", v.Field(i))
			} else if !v.Field(i).IsZero() {
				set[name] = true
			}
		}
	}
	walk("", reflect.ValueOf(*hostConfig(c, o)))
	if !maps.Equal(set, allowed) {
		t.Errorf("a container gets of the machine %v, want %v", slices.Sorted(maps.Keys(set)), slices.Sorted(maps.Keys(allowed)))
	}
}

func TestContainer(t *testing.T) {
	d, err := newDriver(Config{Owner: driver.Owner{ClusterID: "c", NodeID: "n"}, DataDir: t.TempDir()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := everything()
	o, err := parseOptions(c.Options)
	if err != nil {
		t.Fatal(err)
	}
	in, host := d.containerConfig(c, o), hostConfig(c, o)
	for _, check := range []struct {
		what      string
		got, want any
	}{
		{"memory", host.Memory, int64(64 << 20)},
		{"memory and swap", host.MemorySwap, host.Memory},
		{"shares", host.CPUShares, int64(256)},
		{"restarts", string(host.RestartPolicy.Name), "no"},
		{"privileges", host.SecurityOpt, []string{"no-new-privileges"}},
		{"capabilities", []string(host.CapDrop), []string{"NET_RAW", "MKNOD", "CHOWN"}},
		{"log", host.LogConfig, container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1048576", "max-file": "3"}}},
		{"tmpfs", host.Tmpfs, map[string]string{"/tmp": "", "/run": "size=64m"}},
		{"hosts", host.ExtraHosts, []string{"db:10.0.0.1"}},
		{"root", host.ReadonlyRootfs, true},
		{"http", host.PortBindings["8080/tcp"][0].HostIP + ":" + host.PortBindings["8080/tcp"][0].HostPort, "127.0.0.2:20001"},
		{"raw", host.PortBindings["20002/tcp"][0].HostPort, "20002"},
		{"command", []string(in.Cmd), []string{"serve", "-v"}},
		{"entry point", []string(in.Entrypoint), []string{"/hello"}},
		{"environment", in.Env, []string{"A=1", "B=2", "NVIDIA_VISIBLE_DEVICES=GPU-2,GPU-1"}},
		{"device requests", host.DeviceRequests, []container.DeviceRequest{{Driver: "nvidia", DeviceIDs: []string{"GPU-2", "GPU-1"}, Capabilities: [][]string{{"gpu"}}}}},
		{"device files", host.Devices, []container.DeviceMapping{
			{PathOnHost: "/dev/fuse", PathInContainer: "/dev/fuse", CgroupPermissions: "rw"}, {PathOnHost: "/dev/kvm", PathInContainer: "/dev/kvm", CgroupPermissions: "rw"},
		}},
		{"volumes", host.Mounts, []mount.Mount{
			{Type: "bind", Source: "/srv/data", Target: "/var/lib/data", BindOptions: &mount.BindOptions{Propagation: "rprivate"}},
			{Type: "bind", Source: "/srv/x", Target: "/x", ReadOnly: true, BindOptions: &mount.BindOptions{Propagation: "rprivate"}},
		}},
		{"host name", in.Hostname, "web1"},
		{"user", in.User, "1000"},
		{"directory", in.WorkingDir, "/srv"},
		{"label", in.Labels["team"], "shop"},
		{"mark", in.Labels[labelVersion], "3"},
		{"name", d.name(c.Key), "cube-" + d.text.Format(c.Key.Allocation) + "-2"},
	} {
		if !reflect.DeepEqual(check.got, check.want) {
			t.Errorf("%s: %v, want %v", check.what, check.got, check.want)
		}
	}
	hook := *c
	hook.Key = driver.Key{Allocation: c.Key.Allocation, Of: 2, Part: "proxy", Restarts: 1}
	labels := d.labels(&hook, &options{})
	if name := d.name(hook.Key); !strings.HasSuffix(name, "-2-proxy-1") {
		t.Errorf("a part is called %s", name)
	}
	if h, ok := d.handle("x", labels); !ok || h.Key != hook.Key {
		t.Errorf("a part's labels %v are those of %+v, want %+v", labels, h, hook.Key)
	}
	hook.Beside = "f00"
	if got := hostConfig(&hook, &options{}).NetworkMode; got != "container:f00" {
		t.Errorf("beside another container its network is %q", got)
	}
	c.Address = "0.0.0.0"
	if got := portBindings(c)["8080/tcp"][0].HostIP; got != "" {
		t.Errorf("published on all addresses: %q, want no address", got)
	}
}

func TestOptions(t *testing.T) {
	table, _ := api.DriverOptions(Name)
	for _, o := range table {
		if _, ok := everything().Options[o.Name]; !ok {
			t.Errorf("the option %s is in the table and not in this test", o.Name)
		}
	}
	for _, c := range []struct {
		options map[string]any
		want    string // part of the error
	}{
		{map[string]any{"labels": map[string]any{"cube.job": "x"}}, "Cube's own"},
		{map[string]any{"log_max_files": 0}, "between 1 and 100"},
		{map[string]any{"log_max_size": "1"}, "too small"},
		{map[string]any{"tmpfs": []any{"tmp"}}, "absolute"},
		{map[string]any{"extra_hosts": []any{"db"}}, "name:address"},
		{map[string]any{"privileged": true}, "no option"},
		{map[string]any{"volumes": []any{"/:/host"}}, "no option"},
		{map[string]any{"read_only": "yes"}, "bool"},
	} {
		if _, err := parseOptions(c.options); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v gives %v, want %q in it", c.options, err, c.want)
		}
	}
}

func TestTakenPort(t *testing.T) {
	c := everything()
	for text, want := range map[string]int{
		"driver failed programming external connectivity on endpoint cube-1 (abc): Error starting userland proxy: listen tcp4 127.0.0.2:20002: bind: address already in use": 20002,
		"driver failed programming external connectivity on endpoint cube-1 (abc): Bind for 127.0.0.2:20001 failed: port is already allocated":                               20001,
		"address already in use": 20001,
	} {
		if got := takenPort(c, text); got != want {
			t.Errorf("%q names port %d, want %d", text, got, want)
		}
	}
}

// TestNoDevices: who holds none gets none, and nothing is said of any.
func TestNoDevices(t *testing.T) {
	c := everything()
	for _, devices := range [][]driver.Device{nil, {{DeviceClaim: api.DeviceClaim{Type: "licence", ID: "l1", Share: 500}}}} {
		c.Devices = devices
		c.Env = map[string]string{"NVIDIA_VISIBLE_DEVICES": "none"}
		if deviceFiles(c) != nil || deviceRequests(c) != nil || !maps.Equal(environment(c), c.Env) {
			t.Errorf("with %+v: files %+v, requests %+v, environment %v", devices, deviceFiles(c), deviceRequests(c), environment(c))
		}
	}
	if everything().Env[visibleNvidia] != "" {
		t.Error("the shared environment was changed")
	}
}
