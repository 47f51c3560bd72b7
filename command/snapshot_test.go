package command

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"cube/api"
)

func TestASnapshotIsSavedWholeAndRestored(t *testing.T) {
	c := newFakeCluster()
	c.snapshot = []byte("everything")
	p := newTerminal(t, c)
	file := filepath.Join(t.TempDir(), "cube.snap")
	p.cube(0, "operator", "snapshot", "save", file)
	info, err := os.Stat(file)
	if err != nil || info.Size() != 10 || info.Mode().Perm() != 0o600 {
		t.Fatalf("%+v, %v", info, err)
	}
	p.shows("(10 bytes)")

	p.cube(1, "operator", "snapshot", "restore", file)
	p.complains("nobody is there to ask; give -yes")
	p.columns, p.rows = 80, 24
	p.stdin.WriteString("n\n")
	p.cube(1, "operator", "snapshot", "restore", file)
	p.complains("you said no; nothing was done")
	if c.restored != nil {
		t.Fatal("restored although the answer was no")
	}
	p.stdin.WriteString("yes\n")
	p.cube(0, "operator", "snapshot", "restore", file)
	if string(c.restored) != "everything" {
		t.Errorf("restored %q", c.restored)
	}
	p.cube(1, "operator", "snapshot", "restore", "-yes", t.TempDir())
	p.complains("it is a directory")
}

func TestASnapshotToStandardOutputIsNothingElse(t *testing.T) {
	c := newFakeCluster()
	c.snapshot = []byte("everything")
	p := newTerminal(t, c)
	p.cube(0, "operator", "snapshot", "save", "-")
	if p.stdout.String() != "everything" {
		t.Errorf("stdout: %q", p.stdout.String())
	}
}

// brokenStream is a cluster whose snapshots break off.
type brokenStream struct{ *fakeCluster }

func (brokenStream) SaveSnapshot(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, 100)), iotest.ErrReader(errors.New("the connection broke")))), nil
}

func TestASnapshotThatBreaksOffLeavesNoFile(t *testing.T) {
	p := newTerminal(t, brokenStream{newFakeCluster()})
	dir := t.TempDir()
	p.cube(1, "operator", "snapshot", "save", filepath.Join(dir, "cube.snap"))
	p.complains("the connection broke")
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

var _ api.Cluster = brokenStream{}
