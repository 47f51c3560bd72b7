package raftnode

import (
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"cube/fsm"
)

// TestSnapshotsAreStaggered: of servers that apply the same, not all write at once, and none waits for much more than its due.
func TestSnapshotsAreStaggered(t *testing.T) {
	limits := map[int64]bool{}
	for range 20 {
		limit := newAdapter(fsm.New(), nil, nil).limit.Load()
		if limit < minSnapshotBytes || limit >= minSnapshotBytes*3/2 {
			t.Errorf("a snapshot is due after %d bytes", limit)
		}
		limits[limit] = true
	}
	if len(limits) < 10 {
		t.Errorf("20 servers have only %d limits", len(limits))
	}
}

// slow takes its time to write.
type slow time.Duration

func (s slow) Write(b []byte) (int, error) {
	time.Sleep(time.Duration(s))
	return len(b), nil
}

// TestASnapshotRests: for as long as it is written, and not at each small piece.
func TestASnapshotRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p := &paced{w: slow(time.Millisecond), began: began}
		for i, want := range []time.Duration{1, 2, 3, 4, 10, 11, 12, 13, 14, 20} {
			if _, err := p.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took != want*time.Millisecond {
				t.Errorf("after %d pieces it is %s", i+1, took)
			}
		}
		p.w = slow(time.Minute) // it stood still
		began = time.Now()
		if _, err := p.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != time.Minute+restMost {
			t.Errorf("a write of a minute took %s with its rest", took)
		}
	})
}

// TestCompactionLetsAppendsIn: a long prefix goes in steps, and whatever is deleted leaves no hole.
func TestCompactionLetsAppendsIn(t *testing.T) {
	b, err := raftboltdb.NewBoltStore(filepath.Join(t.TempDir(), "raft.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	w := &watchedStore{BoltStore: b, limit: writeLimit, hung: func(err error) { t.Error(err) }, room: newRoom(t.TempDir(), hclog.NewNullLogger())}
	var logs []*raft.Log
	for i := range uint64(3*deleteAtOnce + 500) {
		logs = append(logs, &raft.Log{Index: i + 1, Term: 1})
	}
	if err := w.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, first, last uint64 }{
		{1, 2*deleteAtOnce + 10, 2*deleteAtOnce + 11, 3*deleteAtOnce + 500},                   // compacted
		{2*deleteAtOnce + 11, 2*deleteAtOnce + 11, 2*deleteAtOnce + 12, 3*deleteAtOnce + 500}, // one entry
		{2*deleteAtOnce + 20, 2*deleteAtOnce + 19, 2*deleteAtOnce + 12, 3*deleteAtOnce + 500}, // nothing
		{2*deleteAtOnce + 20, 3*deleteAtOnce + 500, 2*deleteAtOnce + 12, 2*deleteAtOnce + 19}, // cut from the end
	} {
		if err := w.DeleteRange(c.from, c.to); err != nil {
			t.Fatal(err)
		}
		first, err1 := w.FirstIndex()
		last, err2 := w.LastIndex()
		if err := errors.Join(err1, err2); err != nil || first != c.first || last != c.last {
			t.Errorf("without %d to %d the log goes from %d to %d: %v", c.from, c.to, first, last, err)
		}
	}
	for i := uint64(2*deleteAtOnce + 12); i <= 2*deleteAtOnce+19; i++ {
		if err := w.GetLog(i, new(raft.Log)); err != nil {
			t.Errorf("entry %d: %v", i, err)
		}
	}
}
