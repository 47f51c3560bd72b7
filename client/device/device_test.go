package device

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cube/api"
)

// tree makes a machine of files.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// information is the file of one GPU, as the driver lays it out.
func information(model, uuid string, minor int) string {
	return fmt.Sprintf("Model: \t\t %s\nIRQ:   \t\t 51\nGPU UUID: \t %s\nVideo BIOS: \t 92.00.19.00.10\nBus Type: \t PCIe\nDMA Size: \t 47 bits\n"+
		"DMA Mask: \t 0x7fffffffffff\nBus Location: \t 0000:07:00.0\nDevice Minor: \t %d\nGPU Firmware: \t 470.82.01\nGPU Excluded:\t No\n", model, uuid, minor)
}

const (
	place        = "proc/driver/nvidia/gpus/0000:%02d:00.0/information"
	version      = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.82.01  Wed Oct 27 21:21:55 UTC 2021\nGCC version:  gcc version 9.3.0\n"
	versionsFile = "proc/driver/nvidia/version"
)

func TestNvidiaCards(t *testing.T) {
	root := tree(t, map[string]string{
		fmt.Sprintf(place, 1):  information("NVIDIA A100-SXM4-40GB", "GPU-2", 0),
		fmt.Sprintf(place, 2):  information("Tesla T4", "GPU-3", 1),
		fmt.Sprintf(place, 10): information("NVIDIA A100-SXM4-40GB", "GPU-1", 2),
		fmt.Sprintf(place, 11): strings.Replace(information("Tesla T4", "GPU-4", 3), "\t No", "\t Yes", 1),
		versionsFile:           version,
		"proc/driver/nvidia/capabilities/gpu0/mig/config": "",
	})
	got, err := (&Finder{Root: root}).Find()
	about := map[string]string{"vendor": "nvidia", "driver_version": "470.82.01"}
	want := []api.DeviceGroup{
		{Type: "gpu", Model: "A100-SXM4-40GB", IDs: []string{"GPU-1", "GPU-2"}, Attributes: about},
		{Type: "gpu", Model: "Tesla T4", IDs: []string{"GPU-3"}, Attributes: about},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if err := os.RemoveAll(filepath.Join(root, fmt.Sprintf("proc/driver/nvidia/gpus/0000:%02d:00.0", 2))); err != nil {
		t.Fatal(err)
	}
	if got, err := (&Finder{Root: root}).Find(); err != nil || len(got) != 1 {
		t.Errorf("a card that was taken out is still there: %+v, %v", got, err)
	}
}

func TestNoDevices(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"nothing": nil, "no card": {versionsFile: version}, "no text": {versionsFile: "", "proc/driver/nvidia/gpus/x": ""},
	} {
		if got, err := (&Finder{Root: tree(t, files)}).Find(); got != nil || err != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := (&Finder{Root: "/"}).Find(); err != nil && strings.Contains(err.Error(), "\n") {
		t.Errorf("this machine: %v", err)
	}
}

// TestCardsThatAreNotOffered holds each to one line that names the card; another one beside it is offered all the same.
func TestCardsThatAreNotOffered(t *testing.T) {
	for name, c := range map[string]struct {
		file, part, says string
	}{
		"no UUID yet": {information("A", "GPU-????????-????-????-????-????????????", 0), "", "not initialized"},
		"no UUID":     {"Model: A\n", "", "does not tell its UUID"},
		"no model":    {"GPU UUID: GPU-1\n", "", "does not tell its model"},
		"nothing":     {"", "", "does not tell its UUID"},
		"noise":       {"\x00\xff:::\n::\n", "", "does not tell its UUID"},
		"MIG":         {information("A", "GPU-1", 4), "proc/driver/nvidia/capabilities/gpu4/mig/gi7/access", "MIG partitions"},
	} {
		files := map[string]string{fmt.Sprintf(place, 7): c.file, fmt.Sprintf(place, 8): information("B", "GPU-8", 8)}
		if c.part != "" {
			files[c.part] = ""
		}
		got, err := (&Finder{Root: tree(t, files)}).Find()
		if err == nil || !strings.HasPrefix(err.Error(), "GPU 0000:07:00.0: ") || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line that says %q", name, err, c.says)
		}
		if len(got) != 1 || got[0].Model != "B" || got[0].Attributes["driver_version"] != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// What nobody expects does not keep the node from registering.
	if got, err := (&Finder{Root: tree(t, map[string]string{fmt.Sprintf(place, 7): information("A", "a, b", 0)})}).Find(); got != nil || err == nil || !strings.Contains(err.Error(), "comma") {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDriverVersions(t *testing.T) {
	for text, want := range map[string]string{
		version: "470.82.01",
		"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.54.03  Release Build  (user@host)  Tue\n": "535.54.03",
		"":               "",
		"no number here": "",
	} {
		if got := driverVersion(filepath.Join(tree(t, map[string]string{"v": text}), "v")); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestStaticDevices(t *testing.T) {
	got, err := Static([]Block{
		{Type: "kvm", Count: 2, Attributes: map[string]string{"path": "/dev/kvm"}},
		{Type: "gpu", Model: "T4", Count: 1},
		{Type: "gpu", Model: "A100", IDs: []string{"GPU-2", "GPU-1"}, Attributes: map[string]string{"vendor": "nvidia", "memory_gib": "40"}},
		{Type: "gpu", Model: "V100", Count: 1},
		{Type: "fuse", IDs: []string{"/dev/fuse"}},
	})
	want := []api.DeviceGroup{
		{Type: "fuse", IDs: []string{"/dev/fuse"}},
		{Type: "gpu", Model: "A100", IDs: []string{"GPU-1", "GPU-2"}, Attributes: map[string]string{"vendor": "nvidia", "memory_gib": "40"}},
		{Type: "gpu", Model: "T4", IDs: []string{"gpu-00"}},
		{Type: "gpu", Model: "V100", IDs: []string{"gpu-01"}},
		{Type: "kvm", IDs: []string{"kvm-00", "kvm-01"}, Attributes: map[string]string{"path": "/dev/kvm"}},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
	for i, path := range []string{"/dev/fuse", "", "", "", "/dev/kvm"} {
		if p := Path(&got[i], got[i].IDs[0]); p != path || (Vendor(&got[i]) == VendorNvidia) != (i == 1) {
			t.Errorf("%s %s is the file %q of vendor %q", got[i].Type, got[i].IDs[0], p, Vendor(&got[i]))
		}
	}
}

func TestContradictionsAreRefused(t *testing.T) {
	path, vendor := func(p string) map[string]string { return map[string]string{"path": p} }, map[string]string{"vendor": "nvidia"}
	for says, blocks := range map[string][]Block{
		"both ids and count":          {{Type: "gpu", IDs: []string{"a"}, Count: 1}},
		"needs ids, or a count":       {{Type: "gpu"}},
		"count from 1 to 64":          {{Type: "gpu", Count: 65}},
		"needs ids, or a count from":  {{Type: "gpu", Count: -1}},
		"its type is not a name":      {{Type: "My GPU", Count: 1}},
		"its type is empty":           {{Count: 1}},
		"comma":                       {{Type: "gpu", IDs: []string{"a,b"}}},
		"belongs to":                  {{Type: "gpu", IDs: []string{"a"}}, {Type: "nic", IDs: []string{"a"}}},
		"it has no path":              {{Type: "gpu", IDs: []string{"a"}, Attributes: map[string]string{"path": "/dev/x", "vendor": "nvidia"}}},
		"not a count":                 {{Type: "gpu", Count: 1, Attributes: vendor}},
		"is not an absolute one":      {{Type: "gpu", Count: 1, Attributes: path("dev/kvm")}},
		"path \"/dev/../etc\" is not": {{Type: "gpu", Count: 1, Attributes: path("/dev/../etc")}},
		"path \"/dev/a:/b\" is not":   {{Type: "gpu", Count: 1, Attributes: path("/dev/a:/b")}},
		"is a path already":           {{Type: "gpu", IDs: []string{"/dev/a"}, Attributes: path("/dev/b")}},
		"is not a plain path":         {{Type: "gpu", IDs: []string{"/dev//a"}}},
		"model stands for itself":     {{Type: "gpu", Count: 1, Attributes: map[string]string{"model": "x"}}},
	} {
		_, err := Static(blocks)
		if err == nil || !strings.HasPrefix(err.Error(), "device \"") || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v, want one line that says %q", blocks, err, says)
		}
	}
}

// TestWhatIsNamedAndWhatIsFound: the configuration says more of GPUs that the driver shows, and what it says counts.
func TestWhatIsNamedAndWhatIsFound(t *testing.T) {
	root := tree(t, map[string]string{
		versionsFile:          version,
		fmt.Sprintf(place, 1): information("NVIDIA A100-PCIE", "GPU-1", 0), fmt.Sprintf(place, 2): information("NVIDIA A100-PCIE", "GPU-2", 1),
		fmt.Sprintf(place, 3): information("Tesla T4", "GPU-3", 2), fmt.Sprintf(place, 4): information("Tesla T4", "GPU-4", 3),
	})
	if err := os.Mkdir(filepath.Join(root, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", filepath.Join(root, "dev/card")); err != nil {
		t.Fatal(err)
	}
	static, err := Static([]Block{
		{Type: "gpu", IDs: []string{"GPU-1", "GPU-3", "GPU-9"}, Attributes: map[string]string{"memory_gib": "40"}},
		{Type: "card", Model: "special", IDs: []string{"GPU-4"}, Attributes: map[string]string{"path": "/dev/card", "driver_version": "mine"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	about := func(more ...string) map[string]string {
		m := map[string]string{"vendor": "nvidia", "driver_version": "470.82.01"}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	want := []api.DeviceGroup{
		{Type: "card", Model: "special", IDs: []string{"GPU-4"}, Attributes: static[0].Attributes},
		{Type: "gpu", IDs: []string{"GPU-9"}, Attributes: map[string]string{"memory_gib": "40"}},
		{Type: "gpu", Model: "A100-PCIE", IDs: []string{"GPU-1"}, Attributes: about("memory_gib", "40")},
		{Type: "gpu", Model: "A100-PCIE", IDs: []string{"GPU-2"}, Attributes: about()},
		{Type: "gpu", Model: "Tesla T4", IDs: []string{"GPU-3"}, Attributes: about("memory_gib", "40")},
	}
	for range 2 { // looking leaves the configuration as it is
		got, err := (&Finder{Root: root, Static: static}).Find()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
}

// TestFilesComeAndGo: what the configuration names is offered while its file is there.
func TestFilesComeAndGo(t *testing.T) {
	static, err := Static([]Block{
		{Type: "gpu", Model: "A100", IDs: []string{"GPU-1"}, Attributes: map[string]string{"vendor": "nvidia", "memory_gib": "40"}},
		{Type: "fuse", IDs: []string{"/dev/fuse", "/dev/fuse2"}},
		{Type: "kvm", Count: 3, Attributes: map[string]string{"path": "/dev/kvm"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	root := tree(t, map[string]string{"dev/kvm": "a plain file", fmt.Sprintf(place, 1): information("NVIDIA A100-PCIE", "GPU-1", 0), fmt.Sprintf(place, 2): information("NVIDIA A100-PCIE", "GPU-2", 1)})
	device := func(name string) {
		t.Helper()
		if err := os.Symlink("/dev/null", filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	device("dev/fuse")
	f := &Finder{Root: root, Static: static}
	want := []api.DeviceGroup{
		{Type: "fuse", IDs: []string{"/dev/fuse"}}, static[1],
		{Type: "gpu", Model: "A100-PCIE", IDs: []string{"GPU-2"}, Attributes: map[string]string{"vendor": "nvidia"}},
	}
	got, err := f.Find()
	if diff := cmp.Diff(want, got); diff != "" || err == nil || err.Error() != "device fuse: there is no /dev/fuse2; device kvm: /dev/kvm is not a device" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	device("dev/fuse2")
	if err := os.Remove(filepath.Join(root, "dev/kvm")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "dev/kvm"), 0o755); err != nil { // as /dev/dri is
		t.Fatal(err)
	}
	if got, err := f.Find(); err != nil || len(got) != 4 || len(got[0].IDs) != 2 || len(got[3].IDs) != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	if len(f.Static[0].IDs) != 2 || len(f.Static[2].IDs) != 3 {
		t.Errorf("what the configuration says was changed: %+v", f.Static)
	}
}
