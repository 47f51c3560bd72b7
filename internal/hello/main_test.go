package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestRun(t *testing.T) {
	other := httptest.NewServer(handler(make(chan int, 1), http.StatusOK))
	defer other.Close()
	ill := httptest.NewServer(handler(make(chan int, 1), http.StatusServiceUnavailable))
	defer ill.Close()
	for _, c := range []struct {
		args           string
		stdin          string
		code           int
		stdout, stderr string
	}{
		{"-listen none -lines 2 -exit-after 0s -exit-code 3", "", 3, "out 1\nout 2\n", "err 1\nerr 2\n"},
		{"-listen none -exit-after 1ms -memory 1", "", 0, "", ""},
		{"-listen 127.0.0.1:70000", "", 1, "", "hello: listen tcp: address 70000: invalid port"},
		{"-listen none -exit-after 0s -open /dev/null", "", 0, "opened /dev/null\n", ""},
		{"-listen none -exit-after 0s -open /dev/null/x", "", 1, "", "hello: open /dev/null/x: not a directory"},
		{"-listen none -exit-after 0s -print /dev/null/x", "", 1, "", "hello: open /dev/null/x: not a directory"},
		{"-listen none -exit-after 0s -print main_test.go", "", 0, thisFile(t), ""},
		{"-echo -exit-code 5", "one\ntwo", 5, "one\ntwo", ""},
		{"-size", "", 1, "", "hello: stdin is no terminal"},
		{"-listen none -exit-after 0s -get " + other.URL + "/healthz", "", 0, "ok\n", ""},
		{"-well -listen " + other.Listener.Addr().String(), "", 0, "", ""},
		{"-well -listen " + ill.Listener.Addr().String(), "", 1, "", "hello: /healthz answers 503 Service Unavailable\n"},
		{"-well -listen 127.0.0.1:70000", "", 1, "", "hello: Get \"http://127.0.0.1:70000/healthz\": "},
		{"-no-such-flag", "", 2, "", "flag provided but not defined: -no-such-flag"},
	} {
		var stdout, stderr strings.Builder
		if code := run(strings.Fields(c.args), input(t, c.stdin), &stdout, &stderr); code != c.code {
			t.Errorf("hello %s ends with %d, want %d", c.args, code, c.code)
		}
		if stdout.String() != c.stdout || !strings.HasPrefix(stderr.String(), c.stderr) {
			t.Errorf("hello %s prints %q and %q, want %q and %q", c.args, &stdout, &stderr, c.stdout, c.stderr)
		}
	}
}

// thisFile is what this file holds.
func thisFile(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("main_test.go")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// input is a file that holds the text.
func input(t *testing.T, text string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stdin")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestSignals(t *testing.T) {
	signals := make(chan os.Signal, 2)
	signals <- syscall.SIGTERM
	signals <- syscall.SIGINT
	o := options{listen: "none", exitAfter: -1, exitCode: 4, ignoreTerm: true}
	var stdout, stderr strings.Builder
	if code := o.serve(signals, &stdout, &stderr); code != 4 || stdout.String() != "ignoring terminated\nending: interrupt\n" {
		t.Errorf("it ends with %d after %q", code, stdout.String())
	}
}

func TestHandler(t *testing.T) {
	t.Setenv("CUBE_ALLOC_NAME", "web[0]")
	exit := make(chan int, 1)
	h := handler(exit, http.StatusOK)
	for path, want := range map[string]string{
		"/":            "hello from web[0] on ",
		"/healthz":     "ok\n",
		"/env":         `"CUBE_ALLOC_NAME":"web[0]"`,
		"/exit?code=x": "code is not a number",
		"/exit?code=7": "ending with 7",
		"/nope":        "404",
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s answers %q, want %q", path, w.Body, want)
		}
	}
	for _, c := range []struct {
		ask  string
		code int
		then int
	}{{"503", http.StatusOK, 503}, {"lots", http.StatusBadRequest, 503}, {"600", http.StatusBadRequest, 503}, {"200", http.StatusOK, 200}} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/healthz?status="+c.ask, nil))
		is := httptest.NewRecorder()
		h.ServeHTTP(is, httptest.NewRequest(http.MethodGet, "/healthz", nil))
		if w.Code != c.code || is.Code != c.then {
			t.Errorf("told to be %s it answers %d, and is %d then; want %d and %d", c.ask, w.Code, is.Code, c.code, c.then)
		}
	}
	if code := <-exit; code != 7 {
		t.Errorf("it is told to end with %d", code)
	}
}
