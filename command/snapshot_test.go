package command

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
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

// TestASnapshotTakesNoPlaceButAFiles: the file is renamed into its place, and root may do that to a device too.
func TestASnapshotTakesNoPlaceButAFiles(t *testing.T) {
	p := newTerminal(t, newFakeCluster())
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	p.cube(1, "operator", "snapshot", "save", pipe)
	p.complains("it is not a plain file; name another, or - for standard output")
	if info, err := os.Stat(pipe); err != nil || info.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("the pipe is %v now, %v", info, err)
	}
	p.cube(1, "operator", "snapshot", "save", dir)
	p.complains("it is a directory; name a file")
	p.cube(1, "operator", "snapshot", "save", filepath.Join(dir, "nowhere", "x"))
	p.complains("nowhere/x\": no such file or directory")
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
