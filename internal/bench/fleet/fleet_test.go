package fleet

import (
	"errors"
	"io"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"cube/api"
	"cube/api/rest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestTheLimitOfOpenFiles is raised where that is allowed, and named where it is not.
func TestTheLimitOfOpenFiles(t *testing.T) {
	for _, c := range []struct {
		what      string
		soft      uint64
		hard      uint64
		need      int
		root      bool
		wantLimit uint64
		wantErr   string
	}{
		{"enough", 8000, 8000, 5256, false, 8000, ""},
		{"below the hard limit", 1024, 8000, 5256, false, 5256, ""},
		{"above it, as root", 1024, 4096, 5256, true, 5256, ""},
		{"above it", 1024, 4096, 5256, false, 1024, "so many nodes need 5256 open files and at most 4096 are allowed: raise the limit (ulimit -n 5256) or take fewer -nodes"},
	} {
		limit := syscall.Rlimit{Cur: c.soft, Max: c.hard}
		err := raiseFiles(c.need,
			func(_ int, l *syscall.Rlimit) error { *l = limit; return nil },
			func(_ int, l *syscall.Rlimit) error {
				if l.Max > limit.Max && !c.root {
					return syscall.EPERM
				}
				limit = *l
				return nil
			})
		if limit.Cur != c.wantLimit {
			t.Errorf("%s: the limit is %d, want %d", c.what, limit.Cur, c.wantLimit)
		}
		if c.wantErr == "" && err != nil || c.wantErr != "" && (!errors.Is(err, syscall.EPERM) || !strings.HasPrefix(err.Error(), c.wantErr)) {
			t.Errorf("%s: %v, want %q", c.what, err, c.wantErr)
		}
	}
}

// TestServe answers what is asked, and ends with its input, nodes and all, although no server answers them.
func TestServe(t *testing.T) {
	in := `{"Servers":["127.0.0.1:1"],"Nodes":3,"Classes":2,"Node":{"CPU":1000}}` + "\nlive\nstats\n"
	var out strings.Builder
	if err := Serve(t.Context(), strings.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	live, stats, _ := strings.Cut(out.String(), "\n")
	if n, err := strconv.Atoi(live); err != nil || n < 0 || !strings.HasPrefix(stats, `{"Nodes":3,`) || !strings.Contains(out.String(), `"Instances":0,"Running":0}`) {
		t.Errorf("got %s", out.String())
	}
	for text, want := range map[string]string{
		"":                     "unexpected EOF",
		"{":                    "read what the fleet is to be",
		`{"Nodes":1}` + "\nhm": `nobody here understands "hm"`,
	} {
		if err := Serve(t.Context(), strings.NewReader(text), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestClasses(t *testing.T) {
	if a, b, c := Class(0, 2), Class(3, 2), Class(3, 0); a != "class_0" || b != "class_1" || c != "class_0" {
		t.Error(a, b, c)
	}
}

// TestVersionsAreForgotten that no node has any more, and shared while one has.
func TestVersionsAreForgotten(t *testing.T) {
	var s specs
	body, err := rest.EncodeJob(&api.Job{Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.decode(body)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	if second, err := s.decode(body); err != nil || second != first {
		t.Errorf("decoded again: %v", err)
	}
	runtime.KeepAlive(first)
	kept := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.decoded)
	}
	for n := 0; kept() > 0 && n < 1000; n++ { // clean-ups run some time after a collection
		runtime.GC()
		runtime.Gosched()
	}
	if n := kept(); n > 0 {
		t.Errorf("%d versions are kept", n)
	}
}
