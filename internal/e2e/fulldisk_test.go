package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cube/api"
)

// smallDisk mounts a disk of so many MiB that ends with the test.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Fatalf("mount a disk of %d MiB on %s (this test runs as root, with the right to mount): %v", mib, disk, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return disk
}

// TestTheLeadersDiskIsFull: it gives up leadership to one that has room, says why in one line, loses nothing that was acknowledged,
// takes entries again when there is room, and may lead again, all without a restart. Killed and started while its disk is full, it
// says so, and starts when there is room.
func TestTheLeadersDiskIsFull(t *testing.T) {
	disks := map[string]string{}
	f := &fleet{t: t}
	for i := 1; i <= 3; i++ {
		p := &process{name: fmt.Sprintf("s%d", i), bind: fmt.Sprintf("127.0.10.%d", i), log: &lockedBuffer{},
			args: []string{"-server", "-bootstrap-expect", "3", "-join", "127.0.10.1", "-join", "127.0.10.2"}}
		disks[p.name] = smallDisk(t, 48)
		p.dir = filepath.Join(disks[p.name], "data")
		f.servers = append(f.servers, p)
		p.start(t)
	}
	t.Cleanup(f.close)
	full := f.leader()
	f.eventually("three servers vote", 20*time.Second, f.voters)
	f.servers = append(slices.DeleteFunc(slices.Clone(f.servers), func(s *process) bool { return s == full }), full)

	acknowledged := 0
	put := func(size int) error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		source := fmt.Sprintf("task \"j%d\" {\n  image = \"none:1\"\n  meta = { pad = %q }\n  constraint {\n    attribute = \"node.name\"\n    value     = \"none\"\n  }\n}\n", acknowledged, strings.Repeat("x", size))
		_, err := f.up().RegisterJobs(ctx, api.Submission{Source: source, FileName: "j.hcl"}, api.WriteMeta{})
		if err == nil {
			acknowledged++
		}
		return err
	}
	if err := put(10); err != nil {
		t.Fatal(err)
	}
	fill := filepath.Join(disks[full.name], "fill")
	exhaust(t, fill)
	f.eventually("another server leads and takes writes", 20*time.Second, func() error {
		if err := put(4000); err != nil {
			return err
		}
		if leader := f.leader(); leader == full {
			return fmt.Errorf("%s, whose disk is full, leads", full.name)
		}
		return nil
	})
	for range 20 {
		if err := put(4000); err != nil {
			t.Fatalf("write %d after the change of the leader: %v", acknowledged, err)
		}
	}
	if n := strings.Count(full.log.String(), "the disk is full: this server takes no entries"); n != 1 { // who asks it for its vote is told besides
		t.Errorf("its log says %d times that the disk is full", n)
	}
	select {
	case <-full.done:
		t.Errorf("it ended with %v", full.err)
	default:
	}

	has := func(i int) error {
		jobs, _, err := f.api(i).ListJobs(t.Context(), api.Query{Stale: true})
		if err != nil || len(jobs) != acknowledged {
			return fmt.Errorf("%s knows %d jobs of %d, %v", f.servers[i].name, len(jobs), acknowledged, err)
		}
		return nil
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	f.eventually("with room it has what was acknowledged meanwhile", 60*time.Second, func() error { return has(2) })
	if !strings.Contains(full.log.String(), "there is room on the disk again") {
		t.Error("its log does not say that there is room again")
	}

	exhaust(t, fill)
	full.end(t, syscall.SIGKILL)
	if err := put(10); err != nil {
		t.Errorf("a write while it is away: %v", err)
	}
	full.start(t)
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	select {
	case <-full.done: // it may have found its disk full before there was room
		if !strings.Contains(tail(full.log.String(), 3), "is full") {
			t.Errorf("it ends with %v and says:\n%s", full.err, tail(full.log.String(), 3))
		}
		full.start(t)
	case <-time.After(3 * time.Second):
	}
	for i := range f.servers {
		f.eventually(f.servers[i].name+" has all that was acknowledged", 30*time.Second, func() error { return has(i) })
	}
}
