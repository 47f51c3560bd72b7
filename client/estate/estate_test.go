package estate

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cube/api"
)

// node is another node, as who takes over sees it.
type node struct {
	t      *testing.T
	dirs   map[api.ID]string              // what it has, by allocation
	answer func(n int) (io.Reader, error) // optional: what the n-th attempt gets instead
	asked  int
	taken  []api.ID
}

func (n *node) give(_ context.Context, former api.ID, taken bool) (io.ReadCloser, error) {
	if taken {
		n.taken = append(n.taken, former)
		return nil, nil
	}
	n.asked++
	if n.answer != nil {
		in, err := n.answer(n.asked)
		if err != nil {
			return nil, err
		}
		if in != nil {
			return closing(in), nil
		}
	}
	dir, ok := n.dirs[former]
	if !ok {
		return nil, api.Errorf(api.CodeNotFound, "nothing is there")
	}
	return io.NopCloser(bytes.NewReader(pack(n.t, dir))), nil
}

func closing(in io.Reader) io.ReadCloser {
	if c, ok := in.(io.ReadCloser); ok {
		return c
	}
	return io.NopCloser(in)
}

// taking is one that inherits from an allocation of another node, and before that from one here.
type taking struct {
	*Taking
	*node
	said []string
}

func newTaking(t *testing.T) *taking {
	root := t.TempDir()
	write := func(name, what string) string {
		dir := filepath.Join(root, name)
		if err := os.MkdirAll(Own(dir), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(Own(dir), "said"), []byte(what), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	k := &taking{node: &node{t: t, dirs: map[api.ID]string{7: Own(write("7", "by the last"))}}}
	heir := filepath.Join(root, "heir")
	if err := os.Mkdir(heir, 0o700); err != nil {
		t.Fatal(err)
	}
	k.Taking = &Taking{
		Dir: heir, Fetch: k.give, Progress: func(text string) { k.said = append(k.said, text) },
		Before: []Before{{Former: api.Former{Allocation: 7, Node: "n1", NodeName: "n1"}}, {Dir: write("6", "here, earlier")}},
	}
	return k
}

// finds is what the instance finds, and what is said of it.
func (k *taking) finds(want, note string) {
	k.t.Helper()
	said, err := k.Take(k.t.Context())
	b, _ := os.ReadFile(filepath.Join(Own(k.Dir), "said"))
	if err != nil || string(b) != want || !strings.HasPrefix(said, note) || note == "" && said != "" {
		k.t.Errorf("it finds %q, which is said to be %q, %v; want %q, %q", b, said, err, want, note)
	}
	if left, _ := filepath.Glob(filepath.Join(k.Dir, "*.part")); len(left) > 0 {
		k.t.Errorf("a part is left: %v", left)
	}
}

func TestItTakesOverWhatTheLastOneLeft(t *testing.T) {
	k := newTaking(t)
	k.finds("by the last", "data fetched from node n1: 1 KiB in ")
	if len(k.taken) != 1 || k.taken[0] != 7 || len(k.said) == 0 || k.said[0] != "fetches 1 KiB of data from node n1: 100 %" {
		t.Errorf("taken %v; said %q", k.taken, k.said)
	}
	k.dirs = nil
	k.finds("by the last", "") // its own by now
	if k.asked != 1 {
		t.Errorf("it asks %d times", k.asked)
	}
}

func TestWhereNothingWasLeftItLooksFurther(t *testing.T) {
	k := newTaking(t)
	k.dirs = nil
	k.finds("here, earlier", "")
	k = newTaking(t)
	k.dirs, k.Before = nil, k.Before[:1]
	k.Must = true // there is nothing to wait for
	k.finds("", "")
}

func TestWhatCannotBeFetchedIsDoneWithout(t *testing.T) {
	down := func(int) (io.Reader, error) { return nil, api.Errorf(api.CodeConflict, "node n1 is down") }
	k := newTaking(t)
	k.answer = down
	k.finds("here, earlier", "data not fetched from node n1: node n1 is down; it begins with what it left here earlier")
	k = newTaking(t)
	k.answer, k.Before = down, k.Before[:1]
	k.finds("", "data not fetched from node n1: node n1 is down; it begins with an empty directory")
	k = newTaking(t)
	k.answer, k.Must = down, true
	if note, err := k.Take(t.Context()); note != "" || err == nil || err.Error() != "data not fetched from node n1: node n1 is down" {
		t.Errorf("%q, %v", note, err)
	}
	if _, err := os.Stat(Own(k.Dir)); err == nil {
		t.Error("it has a directory though it must not do without the data")
	}
}

// TestWhatBreaksIsTriedAgain: a stream that breaks, a server that goes, a node that is busy or silent.
func TestWhatBreaksIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTaking(t)
		whole := pack(t, k.dirs[7])
		silent, _ := io.Pipe()
		k.answer = func(n int) (io.Reader, error) {
			switch n {
			case 1:
				return nil, api.Errorf(api.CodeBusy, "it has not ended")
			case 2:
				return bytes.NewReader(whole[:1536]), nil
			case 3:
				return io.MultiReader(bytes.NewReader(whole[:1000]), failing{}), nil
			case 4:
				return silent, nil
			case 5:
				return nil, api.Errorf(api.CodeUnavailable, "the session ended")
			}
			return nil, nil
		}
		began := time.Now()
		k.finds("by the last", "data fetched from node n1: ")
		if took := time.Since(began); k.asked != 6 || took != silence+5*pause {
			t.Errorf("%d attempts in %s", k.asked, took)
		}
		if !strings.Contains(strings.Join(k.said, "\n"), "waits for its data on node n1: it has not ended") {
			t.Errorf("it said %q", k.said)
		}
	})
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// TestPatienceEnds: what stays out of reach is done without, and at once where somebody wants the instance gone.
func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTaking(t)
		k.answer = func(int) (io.Reader, error) { return nil, api.Errorf(api.CodeUnavailable, "node n1 is not connected") }
		began := time.Now()
		k.finds("here, earlier", "data not fetched from node n1: node n1 is not connected; ")
		if took := time.Since(began); took != patience {
			t.Errorf("it waits %s", took)
		}
		k = newTaking(t)
		k.answer = func(int) (io.Reader, error) { return nil, api.Errorf(api.CodeUnavailable, "node n1 is not connected") }
		ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, nil)
		defer cancel()
		stop, now := context.WithCancel(ctx)
		time.AfterFunc(time.Second, now)
		if _, err := k.Take(stop); err == nil {
			t.Error("it goes on though nobody wants it any more")
		}
		if _, err := os.Stat(Own(k.Dir)); err == nil {
			t.Error("it has a directory though it was not to begin")
		}
	})
}
