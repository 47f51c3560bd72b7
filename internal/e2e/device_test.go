package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"cube/api"
)

// TestDevices: a client offers a file of its machine, twice, and a card that its engine cannot hand over. Instances get
// what they ask for into their containers until nothing is left, and what ends makes room.
func TestDevices(t *testing.T) {
	path := ""
	for _, p := range []string{"/dev/fuse", "/dev/net/tun", "/dev/kvm", "/dev/loop-control"} {
		if _, err := os.Stat(p); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Fatal("this machine has none of the devices that containers lack: load one, e.g. modprobe fuse")
	}
	config := write(t, "agent.hcl", fmt.Sprintf(`client {
  device "file" {
    model      = "plain"
    count      = 2
    attributes = { path = %q }
  }
  device "gpu" {
    model      = "A100"
    ids        = ["GPU-00000000-0000-0000-0000-000000000000"]
    attributes = { vendor = "nvidia" }
  }
}
`, path))
	f := newAlone(t, "127.0.9.3", "-config", config)

	// Two halves and a whole: both files are held.
	opens := func(name string, count int, share string) string {
		return write(t, name+".hcl", fmt.Sprintf(`task %q {
  image = "cube/hello:1"
  count = %d
  args  = ["-listen", "none", "-show", "-open", %q]
  resources {
    device "file" {
      share = %s
      constraint {
        attribute = "device.model"
        value     = "plain"
      }
    }
  }
}
`, name, count, path, share))
	}
	for _, file := range []string{opens("half", 2, "0.5"), opens("whole", 1, "1")} {
		f.does("task", "run", file)
	}
	f.held(1000, 1000, 0)
	for _, c := range f.running() {
		said := docker(t, "logs", c.ID)
		if !strings.Contains(said, "opened "+path) || !strings.Contains(said, `"CUBE_DEVICE_FILE":"file-0`) {
			t.Errorf("a container that was to open %s says:\n%s", path, said)
		}
	}
	f.does("task", "run", "-detach", opens("third", 1, "0.25"))
	f.eventually("the third waits", 10*time.Second, func() error {
		if code, out := f.cube("task", "status", "third"); code != 0 || !strings.Contains(out, "file") || !strings.Contains(out, "not placed") {
			return fmt.Errorf("its status ends with %d and does not say so:\n%s", code, out)
		}
		return nil
	})
	f.does("task", "stop", "half")
	f.eventually("the third runs where there is room now", 10*time.Second, func() error { return f.placed("third", 1) })

	// The engine here has no such card, and says so in one line; where it has one, this is not the test of it.
	gpu := write(t, "gpu.hcl", "task \"gpu\" {\n  image = \"cube/hello:1\"\n  resources {\n    device \"gpu\" {}\n  }\n}\n")
	f.does("task", "run", "-detach", gpu)
	f.comesToSay(20*time.Second, "GPU-00000000-0000-0000-0000-000000000000: ", "task", "status", "gpu")
}

// held waits until this much is held of the only node's devices, in thousandths and in their order.
func (f *fleet) held(want ...int) {
	f.t.Helper()
	f.eventually("the servers count what is held", 10*time.Second, func() error {
		nodes, _, err := f.up().ListNodes(f.t.Context(), api.Query{})
		if err != nil {
			return err
		}
		var got []int
		for _, u := range nodes[0].DeviceUse {
			got = append(got, u.Held)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("%v thousandths are held, want %v", got, want)
		}
		return nil
	})
}

// placed reports whether so many instances of a job run.
func (f *fleet) placed(job string, want int) error {
	allocs, _, err := f.up().JobAllocations(f.t.Context(), job, api.Query{})
	if err != nil {
		return err
	}
	running := 0
	for _, a := range allocs {
		if a.Phase == api.PhaseRunning {
			running++
		}
	}
	if running != want {
		return fmt.Errorf("%d run, want %d", running, want)
	}
	return nil
}
