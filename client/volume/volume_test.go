package volume

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cube/api"
)

func TestWhatIsThereIsOffered(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"srv/a", "srv/b"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "srv/file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	static, err := Static([]Block{
		{Name: "gone", Path: root + "/srv/gone"}, {Name: "b", Path: root + "/srv/b"}, {Name: "a", Path: root + "/srv/a", ReadOnly: true}, {Name: "file", Path: root + "/srv/file"},
	})
	if err != nil {
		t.Fatal(err)
	}
	found, err := Find(static)
	want := []api.NodeVolume{{Name: "a", Path: root + "/srv/a", ReadOnly: true}, {Name: "b", Path: root + "/srv/b"}}
	if !slices.EqualFunc(found, want, api.NodeVolume.Same) {
		t.Errorf("found %v, want %v", found, want)
	}
	for _, said := range []string{"volume gone: ", "srv/file is no directory"} {
		if err == nil || !strings.Contains(err.Error(), said) {
			t.Errorf("%v does not say %q", err, said)
		}
	}
	if found, err := Find(nil); len(found) != 0 || err != nil {
		t.Errorf("of nothing: %v, %v", found, err)
	}
	if _, err := Static([]Block{{Name: "a", Path: "/x"}, {Name: "a", Path: "/y"}}); err == nil {
		t.Error("two volumes of one name are taken")
	}
}
