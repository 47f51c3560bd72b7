package raftnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"cube/api"
	"cube/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const address = "10.0.0.1:5556"

func config(dir, id string) Config {
	nowhere := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no network here") }
	return Config{Dir: dir, ID: id, Machine: fsm.New(), Stream: NewStream(address, nowhere), Timing: DevTiming(), Logger: hclog.NewNullLogger()}
}

// live opens the node of dir, bootstraps it if it is new, and lets f use it as the leader. It closes it again.
func live(t *testing.T, dir, id string, f func(n *Node)) {
	t.Helper()
	n, err := Open(config(dir, id))
	if err != nil {
		t.Fatal(err)
	}
	if !n.HadState {
		if err := n.Bootstrap([]raft.Server{{ID: raft.ServerID(id), Address: address}}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx, func(time.Duration) {}) }()
	if !<-n.Leadership() {
		t.Fatal("lost leadership before having it")
	}
	if err := n.Barrier(0).Error(); err != nil {
		t.Fatal(err)
	}
	f(n)
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

func apply(t *testing.T, n *Node, body fsm.Body) fsm.Result {
	t.Helper()
	b, err := (&fsm.Command{At: 1, Body: body}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	future := n.Apply(b, 0)
	if err := future.Error(); err != nil {
		t.Fatal(err)
	}
	return future.Response().(fsm.Result)
}

// used makes a data directory that has seen a few entries.
func used(t *testing.T, dir, id string) {
	t.Helper()
	live(t, dir, id, func(n *Node) {
		if r := apply(t, n, &fsm.InitCluster{ClusterID: "c1"}); r.Err != nil {
			t.Fatal(r.Err)
		}
		for range 20 {
			if r := apply(t, n, &fsm.Reap{}); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	})
}

func TestStateSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	used(t, dir, "s1")
	live(t, dir, "s1", func(n *Node) {
		if got := n.machine.Snapshot().ClusterID(); got != "c1" {
			t.Errorf("after a restart the cluster is %q", got)
		}
		apply(t, n, &fsm.Reap{})
		if err := n.Raft.Snapshot().Error(); err != nil {
			t.Errorf("taking a snapshot: %v", err)
		}
	})
	live(t, dir, "s1", func(n *Node) {
		if got := n.machine.Snapshot().ClusterID(); got != "c1" {
			t.Errorf("after a restart from a snapshot the cluster is %q", got)
		}
	})
}

// TestTheOnlyVoterElectsItselfAtOnce gives Raft timeouts of an hour: a server that is the only voter waits for none, neither
// when it founds its cluster nor when it comes back.
func TestTheOnlyVoterElectsItselfAtOnce(t *testing.T) {
	dir := t.TempDir()
	for _, founds := range []bool{true, false} {
		c := config(dir, "s1")
		c.Timing = Timing{Heartbeat: time.Hour, Election: time.Hour, Lease: time.Hour, Commit: time.Hour}
		n, err := Open(c)
		if err != nil {
			t.Fatal(err)
		}
		if founds {
			if err := n.Bootstrap([]raft.Server{{ID: "s1", Address: address}, {ID: "s2", Address: "10.0.0.2:5556", Suffrage: raft.Nonvoter}}); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-n.Leadership():
		case <-time.After(10 * time.Second):
			t.Errorf("no leader; founding: %t", founds)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRefusedDirectories damages a used data directory in every way that we know of; a server that forgot must not start.
func TestRefusedDirectories(t *testing.T) {
	db := func(dir string) string { return filepath.Join(dir, raftFile) }
	tests := []struct {
		name   string
		id     string
		damage func(dir string) error
		want   string
	}{
		{"raft.db emptied", "s1", func(dir string) error { return os.Truncate(db(dir), 0) }, "it is empty"},
		{"raft.db gone", "s1", func(dir string) error { return os.Remove(db(dir)) }, "it is missing"},
		{"raft.db cut in half", "s1", func(dir string) error {
			info, err := os.Stat(db(dir))
			if err != nil {
				return err
			}
			return os.Truncate(db(dir), info.Size()/2)
		}, "raft.db"},
		{"raft.db cut to its first kilobyte", "s1", func(dir string) error { return os.Truncate(db(dir), 1024) }, "raft.db"},
		{"raft.db full of zeros", "s1", func(dir string) error { return os.WriteFile(db(dir), make([]byte, 1<<20), 0o600) }, "is damaged"},
		{"raft.db full of text", "s1", func(dir string) error {
			return os.WriteFile(db(dir), bytes.Repeat([]byte("no database "), 10_000), 0o600)
		}, "is damaged"},
		{"raft.db of a new server", "s1", func(dir string) error {
			os.Remove(db(dir))
			b, err := openBolt(db(dir), false)
			if err != nil {
				return err
			}
			return b.Close()
		}, "emptied or replaced"},
		{"raft.db of the same server, older", "s1", func(dir string) error {
			b, err := openBolt(db(dir), false)
			if err != nil {
				return err
			}
			return errors.Join(b.DeleteRange(5, 1000), b.Close())
		}, "it ends at index 4"},
		{"raft.db of another server", "s1", func(dir string) error {
			b, err := openBolt(db(dir), false)
			if err != nil {
				return err
			}
			return errors.Join(b.Set(serverKey, []byte("s2")), b.Close())
		}, "the log of server s2"},
		{"the directory of another server", "s2", func(string) error { return nil }, "belongs to server s1"},
		{"no marker", "s1", func(dir string) error { return os.Remove(filepath.Join(dir, markerFile)) }, markerFile + " is missing"},
		{"a marker of a newer version", "s1", func(dir string) error {
			return (&marker{Format: formatVersion + 1, ServerID: "s1"}).write(dir)
		}, "newer version"},
		{"a broken marker", "s1", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, markerFile), []byte(`{"Format":`), 0o600)
		}, "is damaged"},
	}
	pristine := t.TempDir()
	used(t, pristine, "s1")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(pristine)); err != nil {
				t.Fatal(err)
			}
			if err := test.damage(dir); err != nil {
				t.Fatal(err)
			}
			n, err := Open(config(dir, test.id))
			if err == nil {
				n.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), dir) {
				t.Errorf("want one line that names the directory and says %q, got: %v", test.want, err)
			}
		})
	}
}

// TestDamagedPages spoils each page of raft.db in turn. It may be one that is free; if not, the server says in a line that
// the file is damaged. A page that is read by nobody's leave ends the test binary.
func TestDamagedPages(t *testing.T) {
	pristine := t.TempDir()
	used(t, pristine, "s1")
	whole, err := os.ReadFile(filepath.Join(pristine, raftFile))
	if err != nil {
		t.Fatal(err)
	}
	size := os.Getpagesize()
	fill := func(with byte) []byte { return bytes.Repeat([]byte{with}, size) }
	refused := 0
	for at := 0; at < len(whole); at += size {
		flags := bytes.Clone(whole[at : at+size])
		flags[8] ^= 3 // from branch to leaf, or back
		many := bytes.Clone(whole[at : at+size])
		many[10], many[11] = 0xff, 0x7f
		for what, page := range map[string][]byte{
			"zeros": fill(0), "ones": fill(0xff), "another page": whole[(at+3*size)%len(whole):][:size], "another kind": flags, "many elements": many,
		} {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(pristine)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, raftFile), slices.Concat(whole[:at], page, whole[at+size:]), 0o600); err != nil {
				t.Fatal(err)
			}
			n, err := Open(config(dir, "s1"))
			if err == nil {
				n.Close() // it may have lost what it needs to close in order
				continue
			}
			refused++
			if !strings.Contains(err.Error(), raftFile) || strings.Contains(err.Error(), "\n") {
				t.Errorf("page %d of %s: want one line that names the file, got: %v", at/size, what, err)
			}
		}
	}
	if refused < 10 {
		t.Errorf("only %d were refused", refused)
	}
}

func TestADirectoryHasOneServerAtATime(t *testing.T) {
	dir := t.TempDir()
	live(t, dir, "s1", func(*Node) {
		if _, err := Open(config(dir, "s1")); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "in use") {
			t.Errorf("a second server on the same directory got: %v", err)
		}
	})
	used(t, dir, "s1") // and the lock is free again
}

// TestAnInterruptedFirstStart is a crash after raft.db was made and before the marker was.
func TestAnInterruptedFirstStart(t *testing.T) {
	dir := t.TempDir()
	b, err := openBolt(filepath.Join(dir, raftFile), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Set(serverKey, []byte("s1")), b.Close()); err != nil {
		t.Fatal(err)
	}
	used(t, dir, "s1")
}

func TestRecoverMakesAServerTheOnlyVoter(t *testing.T) {
	dir := t.TempDir()
	n, err := Open(config(dir, "s1"))
	if err != nil {
		t.Fatal(err)
	}
	// A cluster of three of which the others never were: nobody can be elected.
	servers := []raft.Server{{ID: "s1", Address: address}, {ID: "s2", Address: "10.0.0.2:5556"}, {ID: "s3", Address: "10.0.0.3:5556"}}
	if err := errors.Join(n.Bootstrap(servers), n.Close()); err != nil {
		t.Fatal(err)
	}
	peer, err := Recover(dir, hclog.NewNullLogger())
	if err != nil || peer.ID != "s1" || peer.Address != address {
		t.Fatalf("Recover: %+v, %v", peer, err)
	}
	live(t, dir, "s1", func(n *Node) {
		if got := n.Servers(); len(got) != 1 || got[0].ID != "s1" {
			t.Errorf("after recovery the servers are %v", got)
		}
	})
	if _, err := Recover(t.TempDir(), hclog.NewNullLogger()); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("recovering an empty directory: %v", err)
	}
}

func TestAnEntryThatCannotBeAppliedStopsTheServer(t *testing.T) {
	good, err := (&fsm.Command{At: 1, Body: &fsm.InitCluster{ClusterID: "c1"}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[len(bad)-1] ^= 1
	var failed []error
	a := newAdapter(fsm.New(), func(err error) { failed = append(failed, err) }, nil)
	results := a.ApplyBatch([]*raft.Log{
		{Index: 3, Type: raft.LogCommand, Data: bad},
		{Index: 4, Type: raft.LogCommand, Data: good},
	})
	for i, r := range results {
		if r.(fsm.Result).Err == nil {
			t.Errorf("entry %d was applied", i)
		}
	}
	if len(failed) != 1 || !strings.Contains(failed[0].Error(), "entry 3") || !errors.Is(failed[0], fsm.ErrDamaged) {
		t.Errorf("the reason is %v", failed)
	}
	if got := a.machine.Snapshot().ClusterID(); got != "" {
		t.Errorf("an entry after the damaged one was applied: the cluster is %q", got)
	}
	if _, err := a.Snapshot(); err == nil {
		t.Error("a snapshot was taken of a state that stands still")
	}
}

// TestAFatalFaultEndsRun: whoever owns the process learns why it must end.
func TestAFatalFaultEndsRun(t *testing.T) {
	n, err := Open(config(t.TempDir(), "s1"))
	if err != nil {
		t.Fatal(err)
	}
	n.fail(errors.New("the disk hangs"))
	n.fail(errors.New("and more")) // the first reason counts
	if err := n.Run(context.Background(), func(time.Duration) {}); err == nil || err.Error() != "the disk hangs" {
		t.Errorf("Run ended with: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// TestSnapshotsGoByBytes: one is due after as much log as the last one was large, within bounds.
func TestSnapshotsGoByBytes(t *testing.T) {
	a := newAdapter(fsm.New(), nil, nil)
	a.stagger = func(int64) int64 { return 0 }
	due := func() bool {
		select {
		case <-a.grown:
			return true
		default:
			return false
		}
	}
	for _, c := range []struct{ last, limit int64 }{{0, 16 << 20}, {1 << 20, 16 << 20}, {20 << 20, 20 << 20}, {1 << 30, 64 << 20}} {
		a.sized(c.last)
		a.count(int(c.limit) - 1)
		if due() {
			t.Errorf("after a snapshot of %d the next is due too early", c.last)
		}
		a.count(1)
		if !due() {
			t.Errorf("after a snapshot of %d the next is not due when %d were applied", c.last, c.limit)
		}
		a.count(1)
		if due() {
			t.Errorf("after a snapshot of %d the next is due twice", c.last)
		}
		a.count(int(c.limit) - 1)
		if !due() {
			t.Errorf("after a snapshot of %d the next is forgotten", c.last)
		}
		if _, err := a.Snapshot(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestASnapshotIsMeasured: when it is written, and when a server starts with it.
func TestASnapshotIsMeasured(t *testing.T) {
	store := raft.NewInmemSnapshotStore()
	sink, err := store.Create(raft.SnapshotVersionMax, 1, 1, raft.Configuration{}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	var wrote int64
	if err := (&persister{fsm.New().Snapshot(), func(n int64) { wrote = n }}).Persist(sink); err != nil {
		t.Fatal(err)
	}
	meta, content, err := store.Open(sink.ID())
	if err != nil {
		t.Fatal(err)
	}
	counted := &counter{r: content}
	if err := fsm.New().Restore(counted); err != nil {
		t.Fatal(err)
	}
	if wrote != meta.Size || counted.bytes != meta.Size {
		t.Errorf("a snapshot of %d bytes is taken for one of %d as it is written, of %d as it is read", meta.Size, wrote, counted.bytes)
	}
}

func TestAWriteThatHangsIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := make(chan error, 1)
		w := &watchedStore{limit: writeLimit, hung: func(err error) { hung <- err }}
		stop := w.watch("a write")
		time.Sleep(writeLimit - time.Millisecond)
		stop()
		time.Sleep(writeLimit)
		if len(hung) > 0 {
			t.Error("a slow write was taken for one that hangs")
		}
		w.watch("a write")
		time.Sleep(writeLimit + time.Millisecond)
		if err := <-hung; !strings.Contains(err.Error(), "hangs") {
			t.Error(err)
		}
	})
}

// TestAFullDiskIsSaidOnce, and that there is room again when somebody asks and there is enough of it.
func TestAFullDiskIsSaidOnce(t *testing.T) {
	var log bytes.Buffer
	free, total := uint64(0), uint64(1<<30)
	r := newRoom(t.TempDir(), hclog.New(&hclog.LoggerOptions{Output: &log, DisableTime: true}))
	if got, all, err := r.free(); err != nil || got == 0 || all < got {
		t.Errorf("%d of %d bytes are free, %v", got, all, err)
	}
	r.free = func() (uint64, uint64, error) { return free, total, nil }
	r.wrote(nil)
	r.wrote(errors.New("other trouble"))
	if r.lacking() {
		t.Error("a disk that is not full lacks room")
	}
	for _, err := range []error{&os.PathError{Op: "write", Err: syscall.ENOSPC}, fmt.Errorf("file resize error: %s", syscall.ENOSPC), syscall.EDQUOT} {
		r.wrote(err)
	}
	for _, free = range []uint64{0, 1 << 20, roomNeeded - 1} {
		if !r.lacking() {
			t.Errorf("with %d bytes there is room", free)
		}
	}
	r.wrote(nil) // one write that just fits is not room
	if !r.lacking() {
		t.Error("one write makes room")
	}
	for _, c := range []struct{ free, total uint64 }{{roomNeeded, 1 << 30}, {1 << 20, 2 << 20}} {
		r.wrote(syscall.ENOSPC)
		if free, total = c.free, c.total; r.lacking() {
			t.Errorf("with %d of %d bytes there is no room", c.free, c.total)
		}
	}
	if full, room := strings.Count(log.String(), "is full"), strings.Count(log.String(), "room on the disk again"); full != 2 || room != 2 {
		t.Errorf("it is said %d times that the disk is full, %d times that there is room:\n%s", full, room, log.String())
	}
}

var _ raft.StableStore = (*watchedStore)(nil)
var _ raft.WithPreVote = (*guardedTransport)(nil)
