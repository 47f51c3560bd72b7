package docker

import (
	"errors"
	"os"
	"strings"
	"testing"

	"cube/api"
	"cube/client/driver"
	"cube/client/driver/drivertest"
)

// deviceFile is a device of this machine that no container has by itself.
func deviceFile(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"/dev/fuse", "/dev/net/tun", "/dev/kvm", "/dev/loop-control"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatal("this machine has none of the devices that containers lack: load one, e.g. modprobe fuse")
	return ""
}

func held(kind, id, vendor, path string) driver.Device {
	return driver.Device{DeviceClaim: api.DeviceClaim{Type: kind, ID: id, Share: api.WholeDevice}, Vendor: vendor, Path: path}
}

// TestADeviceGetsIntoTheContainer: the program can open it for reading and writing, and without it, it cannot. The container
// is found again as any other.
func TestADeviceGetsIntoTheContainer(t *testing.T) {
	t.Parallel()
	path := deviceFile(t)
	s := newShop(t)
	seen := s.watch()
	for name, devices := range map[string][]driver.Device{
		"by ID":   {held("fuse", path, "", path)},
		"by path": {held("kvm", "kvm-00", "", path), held("kvm", "kvm-01", "", path), held("licence", "l1", "", "")},
		"none":    nil,
	} {
		c := s.config(drivertest.Program{Args: []string{"-open", path}})
		c.Devices = devices
		h, at, err := s.Start(s.ctx, c, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if devices == nil {
			s.await(seen, h) // it ends by itself: there is no such file
			continue
		}
		s.reads(h, "opened "+path)
		again, then, err := s.Start(s.ctx, c, nil)
		if err != nil || again != h || !then.Equal(at) {
			t.Errorf("%s: started again it is %+v since %s (%v), it was %+v since %s", name, again, then, err, h, at)
		}
	}
}

// TestTheEngineCountsToo: where the container's control group cannot be seen, the engine is asked.
func TestTheEngineCountsToo(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	h, _, err := s.Start(s.ctx, s.config(drivertest.Program{Lines: 1}), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.reads(h, "out 1")
	u, err := s.collected(s.ctx, h)
	if err != nil || u.CPU <= 0 || u.Memory <= 0 || u.Memory > 64<<20 {
		t.Errorf("the engine counts %+v, %v", u, err)
	}
	if err := s.Stop(s.ctx, h, "SIGKILL", 0); err != nil {
		t.Fatal(err)
	}
	if u, err := s.collected(s.ctx, h); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("of what has ended it counts %+v, %v", u, err)
	}
}

// reads waits until an instance has written a line.
func (s *shop) reads(h driver.Handle, line string) {
	s.Helper()
	l, err := s.Logs(s.ctx, h.Key.Allocation, api.LogRequest{Stream: "stdout", Tail: -1, Follow: true})
	if err != nil {
		s.Fatal(err)
	}
	defer l.Close()
	got, buf := "", make([]byte, 256)
	for !strings.Contains(got, line+"\n") {
		n, err := l.Read(buf)
		got += string(buf[:n])
		if err != nil && n == 0 {
			s.Fatalf("%q is not among what it wrote, %q: %v", line, got, err)
		}
	}
}

// TestDevicesThatCannotBeHandedOver asks the machine's engine for what it does not have, and holds the answer to one line
// that says what to do.
func TestDevicesThatCannotBeHandedOver(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for name, c := range map[string]struct {
		device driver.Device
		says   string
	}{
		"no runtime": {held("gpu", "GPU-0000", "nvidia", ""), "GPU-0000"},
		"no file":    {held("card", "c0", "", "/dev/no-such-device"), "Docker cannot hand over the device /dev/no-such-device: "},
	} {
		cfg := s.config(drivertest.Program{})
		cfg.Devices = []driver.Device{c.device}
		_, _, err := s.Start(s.ctx, cfg, nil)
		var failed *driver.StartError
		if !errors.As(err, &failed) || failed.Failure != api.FailureStart || !failed.Permanent || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line that says %q", name, err, c.says)
		}
	}
	if left := s.containers(); len(left) != 0 {
		t.Errorf("failed starts left %d containers", len(left))
	}
}

func TestDeviceTrouble(t *testing.T) {
	gpu := &driver.Config{Devices: []driver.Device{held("gpu", "GPU-1", "nvidia", "")}}
	file := &driver.Config{Devices: []driver.Device{held("kvm", "kvm-00", "", "/dev/kvm")}}
	for _, c := range []struct {
		config     *driver.Config
		text, says string
	}{
		{gpu, `could not select device driver "nvidia" with capabilities: [[gpu]]`, "install NVIDIA's container toolkit"},
		{gpu, "OCI runtime create failed: error running hook #0: exit status 1, stdout: , stderr: nvidia-container-cli: device error: GPU-1: unknown device", "NVIDIA's container toolkit cannot hand over GPU-1: nvidia-container-cli"},
		{file, `error gathering device information while adding custom device "/dev/kvm": no such file or directory`, "Docker cannot hand over the device /dev/kvm"},
		{file, `error gathering device information while adding custom device "/dev/fuse": x`, ""},
		{file, `could not select device driver "nvidia" with capabilities: [[gpu]]`, ""},
		{gpu, "exec: no such file or directory", ""},
	} {
		if got := deviceTrouble(c.config, c.text); c.says == "" && got != "" || !strings.Contains(got, c.says) {
			t.Errorf("%q is explained as %q, want %q", c.text, got, c.says)
		}
	}
}
