package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cube/api"
)

// node is a node's volumes with what a test says of them in one line.
type node struct {
	*testing.T
	dir string
	s   *Store
}

func (n *node) offers(want string) {
	n.Helper()
	found, err := n.s.Find()
	var all []string
	for _, v := range found {
		all = append(all, v.Name+" "+v.Access())
	}
	if got := strings.Join(all, ", "); got != want || err != nil {
		n.Errorf("it offers %q, %v; want %q", got, err, want)
	}
}

func (n *node) change(c api.VolumeChange) *api.VolumeDone {
	n.Helper()
	done, err := n.s.Change(c)
	if err != nil {
		n.Fatalf("%+v: %v", c, err)
	}
	return done
}

func (n *node) refuses(c api.VolumeChange, code api.Code, says string) {
	n.Helper()
	if _, err := n.s.Change(c); api.CodeOf(err) != code || !strings.Contains(fmt.Sprint(err), says) {
		n.Errorf("%+v: %v; want %s that says %q", c, err, code, says)
	}
}

func newNode(t *testing.T) *node {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "assets"), 0o755); err != nil {
		t.Fatal(err)
	}
	n := &node{T: t, dir: dir}
	n.start()
	return n
}

// start is an agent that begins anew.
func (n *node) start() {
	n.s = New(filepath.Join(n.dir, "volumes"), []api.NodeVolume{{Name: "assets", Path: filepath.Join(n.dir, "assets"), ReadOnly: true}})
}

func TestAVolumeIsMadeKeptAndRemoved(t *testing.T) {
	n := newNode(t)
	n.offers("assets multi-reader")
	order := api.VolumeChange{Step: api.VolumeMake, Name: "data", By: "ann@host", Request: "r1"}
	done := n.change(order)
	if v := done.Volume; done.Kept || v.Made == nil || v.Made.By != "ann@host" || v.Path != filepath.Join(n.dir, "volumes", "data") {
		t.Errorf("made: %+v, %+v", done, v.Made)
	}
	if info, err := os.Stat(done.Volume.Path); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("the directory: %v, %v", info, err)
	}
	n.change(api.VolumeChange{Step: api.VolumeMake, Name: "one", Access: api.AccessSingleWriter})
	n.change(api.VolumeChange{Step: api.VolumeMake, Name: "still", Access: api.AccessMultiReader})
	const all = "assets multi-reader, data multi-writer, one single-writer, still multi-reader"
	n.offers(all)
	file := filepath.Join(done.Volume.Path, "deep", "file")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}

	n.start()
	n.offers(all)
	n.change(order) // the same order again: the answer to it was lost
	n.refuses(api.VolumeChange{Step: api.VolumeMake, Name: "data", Request: "r2"}, api.CodeConflict, "has a volume data already")

	n.refuses(api.VolumeChange{Step: api.VolumeRemove, Name: "data", Data: true}, api.CodeConflict, "give it again")
	n.change(api.VolumeChange{Step: api.VolumeWithdraw, Name: "data"})
	n.offers("assets multi-reader, one single-writer, still multi-reader")
	if done := n.change(api.VolumeChange{Step: api.VolumeRemove, Name: "data"}); !done.Kept {
		t.Error("the data is not said to be kept")
	}
	n.refuses(api.VolumeChange{Step: api.VolumeWithdraw, Name: "data"}, api.CodeNotFound, "has made no volume data")
	n.start()
	n.offers("assets multi-reader, one single-writer, still multi-reader")

	if done := n.change(api.VolumeChange{Step: api.VolumeMake, Name: "data"}); !done.Kept {
		t.Error("what the former volume left is not said to be there")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "kept" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	n.change(api.VolumeChange{Step: api.VolumeWithdraw, Name: "data"})
	if done := n.change(api.VolumeChange{Step: api.VolumeRemove, Name: "data", Data: true}); done.Kept {
		t.Error("the data is said to be kept")
	}
	left, err := filepath.Glob(filepath.Join(n.dir, "volumes", "*"))
	hidden, _ := filepath.Glob(filepath.Join(n.dir, "volumes", ".*"))
	if want := "[one one.json still still.json]"; err != nil || len(hidden) > 0 || strings.ReplaceAll(fmt.Sprint(left), n.dir+"/volumes/", "") != want {
		t.Errorf("left are %v and %v, %v; want %s", left, hidden, err, want)
	}
}

func TestAWithdrawalEnds(t *testing.T) {
	n := newNode(t)
	synctest.Test(t, func(*testing.T) {
		n.change(api.VolumeChange{Step: api.VolumeMake, Name: "data"})
		n.change(api.VolumeChange{Step: api.VolumeWithdraw, Name: "data"})
		n.change(api.VolumeChange{Step: api.VolumeOffer, Name: "data"})
		n.offers("assets multi-reader, data multi-writer")
		n.change(api.VolumeChange{Step: api.VolumeWithdraw, Name: "data"})
		time.Sleep(withdrawal)
		n.refuses(api.VolumeChange{Step: api.VolumeRemove, Name: "data"}, api.CodeConflict, "is offered to tasks again")
		n.offers("assets multi-reader, data multi-writer")
	})
}

func TestBadOrdersChangeNothing(t *testing.T) {
	n := newNode(t)
	for _, name := range []string{"", "../client", "a/b", ".hidden", "Data", strings.Repeat("x", 300)} {
		n.refuses(api.VolumeChange{Step: api.VolumeMake, Name: name}, api.CodeInvalid, "volume name ")
	}
	n.refuses(api.VolumeChange{Step: api.VolumeMake, Name: "assets"}, api.CodeConflict, "its configuration names it")
	n.refuses(api.VolumeChange{Step: api.VolumeWithdraw, Name: "assets"}, api.CodeConflict, "remove it there")
	n.refuses(api.VolumeChange{Step: api.VolumeRemove, Name: "nothing"}, api.CodeNotFound, "has made no volume nothing")
	n.change(api.VolumeChange{Step: api.VolumeMake, Name: "data"})
	n.refuses(api.VolumeChange{Step: "paint", Name: "data"}, api.CodeNotYet, "update it")
	n.offers("assets multi-reader, data multi-writer")
}

// TestWhatIsAmissIsSaid: a file that is spoilt, a directory that is gone, a name that the configuration has taken since.
func TestWhatIsAmissIsSaid(t *testing.T) {
	n := newNode(t)
	for _, name := range []string{"spoilt", "gone", "fine", "mine"} {
		n.change(api.VolumeChange{Step: api.VolumeMake, Name: name})
	}
	volumes := filepath.Join(n.dir, "volumes")
	if err := os.WriteFile(filepath.Join(volumes, "spoilt.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(volumes, "gone")); err != nil {
		t.Fatal(err)
	}
	n.s = New(volumes, []api.NodeVolume{{Name: "mine", Path: n.dir}})
	found, err := n.s.Find()
	if len(found) != 2 || found[0].Name != "fine" || found[1].Path != n.dir {
		t.Errorf("it offers %+v", found)
	}
	for _, want := range []string{"volume spoilt: read ", "volume gone: stat ", "volume mine: the one that was made here is hidden"} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v does not say %q in one line", err, want)
		}
	}
	n.refuses(api.VolumeChange{Step: api.VolumeMake, Name: "spoilt"}, api.CodeInternal, "volume spoilt is there, and cannot be read")
	n.change(api.VolumeChange{Step: api.VolumeMake, Name: "new"})
	if err := os.WriteFile(filepath.Join(volumes, "spoilt.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.change(api.VolumeChange{Step: api.VolumeMake, Name: "gone"}) // its directory can be made anew
	if found, _ := n.s.Find(); len(found) != 5 {
		t.Errorf("it offers %+v", found)
	}
}
