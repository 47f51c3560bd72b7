package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cube/api"
)

// exchange sends raw text to an agent and returns its answer; nil if it closes the connection without one.
func exchange(t *testing.T, address, text string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	// A refusal may come, and the connection be closed, before all is sent: then the write fails and the answer is there.
	_, sendErr := io.WriteString(conn, text)
	method, _, _ := strings.Cut(text, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Fatalf("no answer to %.200q within %s", text, patience)
		}
		t.Logf("closed without an answer: %v, %v", sendErr, err)
		return nil, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Logf("the answer breaks off: %v", err)
	}
	return resp, string(b)
}

// refused fails unless the answer is a 4xx that says what is wrong: in one line of our JSON where it came as far as our
// routes, by its status alone where Go's HTTP server has refused it.
func refused(t *testing.T, resp *http.Response, body, want string) {
	t.Helper()
	if resp == nil {
		return // the connection was closed, which is refusal enough for what is no HTTP
	}
	if resp.StatusCode/100 != 4 && resp.StatusCode != http.StatusNotImplemented {
		t.Errorf("%s: %.500s", resp.Status, body)
	}
	if want == "" {
		return
	}
	var e api.Error
	if err := json.Unmarshal([]byte(body), &e); err != nil || e.Code == "" || e.Message == "" {
		t.Errorf("%s: %.500q is not an error of the API: %v", resp.Status, body, err)
	}
	if first, _, _ := strings.Cut(e.Message, "\n"); !strings.Contains(first, want) || len(e.Message) > 1000 {
		t.Errorf("%s: %q does not say %q in one clear line", resp.Status, e.Message, want)
	}
}

// get, post and raw write requests as they are, headers and all.
func get(path string, headers ...string) string { return raw("GET", path, headers, "") }

func post(path, body string, headers ...string) string {
	return raw("POST", path, append(headers, fmt.Sprint("Content-Length: ", len(body))), body)
}

func raw(method, path string, headers []string, body string) string {
	h := "Host: localhost\r\n"
	for _, x := range headers {
		if strings.HasPrefix(x, "Host:") {
			h = ""
		}
	}
	for _, x := range headers {
		h += x + "\r\n"
	}
	return method + " " + path + " HTTP/1.1\r\n" + h + "Connection: close\r\n\r\n" + body
}

func job(fields string) string {
	return `{"Job":{"Name":"web","Tasks":[{"Name":"web","Image":"cube/hello:1",` + fields + `}]}}`
}

// badRequest is a request and what its refusal says; "" where the HTTP server refuses it in its own words.
type badRequest struct{ name, text, want string }

func badRequests() []badRequest {
	good := `{"Source":"task \"web\" {\n image = \"cube/hello:1\"\n}\n"}`
	chunked := "Transfer-Encoding: chunked"
	return append([]badRequest{
		{"nothing", post("/v1/jobs", ""), "the body is empty"},
		{"no JSON", post("/v1/jobs", "hello"), "not the JSON expected"},
		{"half of it", post("/v1/jobs", `{"Source":"x`), "ends in the middle"},
		{"a list", post("/v1/jobs", "[1]"), "not the JSON expected"},
		{"null", post("/v1/jobs", "null"), "neither Source nor Job"},
		{"both", post("/v1/jobs", `{"Source":"x","Job":{}}`), "both Source and Job"},
		{"two values", post("/v1/jobs", good+good), "more follows"},
		{"a field twice", post("/v1/jobs", `{"Source":"x","FileName":"a","Source":"y"}`), `"Source" is in one object twice`},
		{"a field of a task twice", post("/v1/jobs", job(`"Count":1,"Env":{"A":"1","B":"2"},"Count":100000`)), `"Count" is in one object twice`},
		{"an unknown field", post("/v1/jobs", `{"Sauce":"x"}`), `unknown field "Sauce"`},
		{"a deep list", post("/v1/jobs", `{"Job":{"Meta":`+strings.Repeat("[", 50_000)), "max depth"},
		{"a huge number", post("/v1/jobs", job(`"Count":1e400`)), "1e400"},
		{"a number too large", post("/v1/jobs", job(`"Count":9223372036854775808`)), "9223372036854775808"},
		{"count below zero", post("/v1/jobs", job(`"Count":-1`)), "count -1 is not from 0 to 100000"},
		{"a huge count", post("/v1/jobs", job(`"Count":1000000000`)), "count 1000000000 is not from 0 to 100000"},
		{"port 65536", post("/v1/jobs", job(`"Count":1,"Ports":[{"Label":"a","Static":65536}]`)), "static 65536 is not from 1 to 65535"},
		{"a name with a path", post("/v1/jobs", `{"Job":{"Name":"../x"}}`), `"../x" is not a name`},
		{"a task of null", post("/v1/jobs", `{"Job":{"Name":"web","Tasks":[null]}}`), "task 0 is null"},
		{"no task", post("/v1/jobs", `{"Job":{"Name":"web"}}`), "there is no task in it"},
		{"a pattern", post("/v1/jobs", job(`"Count":1,"Constraints":[{"Attribute":"node.name","Operator":"regexp","Value":"("}]`)), "regular expression"},
		{"compressed", post("/v1/jobs", "\x1f\x8b\x08\x00", "Content-Encoding: gzip"), "not the JSON expected"},
		{"a long name for the file", post("/v1/jobs", `{"Source":"x","FileName":"`+strings.Repeat("x", 5000)+`"}`), "name has 5000 bytes"},
		{"a long request ID", post("/v1/jobs", good, "X-Cube-Request-ID: "+strings.Repeat("x", 100)), "at most 64 bytes"},
		{"no chunk", raw("POST", "/v1/jobs", []string{chunked}, "ZZ\r\n{}\r\n0\r\n\r\n"), "invalid byte in chunk length"},

		{"a length below zero", raw("POST", "/v1/jobs", []string{"Content-Length: -1"}, good), ""},
		{"two lengths", post("/v1/jobs", good, "Content-Length: 3"), ""},
		{"a length and chunks", raw("POST", "/v1/jobs", []string{"Content-Length: 4", chunked}, "0\r\n\r\n"+post("/v1/jobs", good)), ""},
		{"chunks in a disguise", raw("POST", "/v1/jobs", []string{"Transfer-Encoding: xchunked"}, good), ""},
		{"chunks twice", raw("POST", "/v1/jobs", []string{chunked, chunked}, good), ""},
		{"a header without a name", raw("POST", "/v1/jobs", []string{": x"}, good), ""},
		{"a line break in a header", raw("GET", "/v1/jobs", []string{"X: a\n b\rc"}, ""), ""},
		{"long headers", get("/v1/jobs", "X: "+strings.Repeat("a", 200_000)), ""},
		{"a long path", get("/v1/jobs/" + strings.Repeat("a", 100_000)), ""},
		{"no host", "GET /v1/jobs HTTP/1.1\r\n\r\n", ""},
		{"TLS", "\x16\x03\x01\x00\xff\x01\r\n\r\n", ""},

		{"another name", get("/v1/jobs", "Host: evil.test"), `not served under the name "evil.test"`},
		{"another name in the path", get("http://evil.test/v1/jobs"), `not served under the name "evil.test"`},
		{"another site", post("/v1/jobs", good, "Origin: http://evil.test"), "another site"},
		{"another site, as browsers say", post("/v1/jobs", good, "Sec-Fetch-Site: cross-site"), "another site"},
		{"another site as text", post("/v1/jobs", good, "Sec-Fetch-Site: cross-site", "Content-Type: text/plain"), "another site"},
		{"a payload that is no base64", post("/v1/jobs/web/dispatch", `{"Payload": "*"}`), "the body is not the JSON expected"},
		{"meta that is no text", post("/v1/jobs/web/dispatch", `{"Meta": {"size": 1}}`), "the body is not the JSON expected"},
		{"a dispatch with a key to come", post("/v1/jobs/web/dispatch", `{"Priority": 1}`), "the body is not the JSON expected"},
		{"a dispatch of no job", post("/v1/jobs/nope/dispatch", `{}`), `there is no job "nope"`},
		{"another site stops", post("/v1/jobs/web/stop", "", "Sec-Fetch-Site: cross-site"), "another site"},
		{"another site restores", raw("PUT", "/v1/operator/snapshot", []string{"Sec-Fetch-Site: cross-site", "Content-Length: 0"}, ""), "another site"},

		{"an index that is none", get("/v1/jobs?index=x"), `index="x" is not a number`},
		{"an index below zero", get("/v1/jobs?index=-1"), `index="-1" is not a number`},
		{"an index of 65 bits", get("/v1/jobs?index=18446744073709551616"), "is not a number"},
		{"a wait below zero", get("/v1/jobs?index=1&wait=-5s"), `wait="-5s" is not a duration`},
		{"a wait without a unit", get("/v1/jobs?index=1&wait=5"), `wait="5" is not a duration`},

		{"DELETE", raw("DELETE", "/v1/jobs", nil, ""), "/v1/jobs does not take DELETE"},
		{"an unknown method", raw("FOO", "/v1/jobs", nil, ""), "does not take FOO"},
		{"a disguised method", get("/v1/jobs/web/stop", "X-HTTP-Method-Override: POST"), "does not take GET"},
	}, badPaths()...)
}

// badPaths are of nothing that is served, however they are written.
func badPaths() []badRequest {
	var out []badRequest
	for path, want := range map[string]string{
		"/": "there is no GET /", "/v1": "there is no GET /v1", "/v2/jobs": "there is no GET /v2/jobs", "/v1/jobs/": "there is no GET",
		"//v1/jobs": "there is no GET //v1/jobs", "/v1//jobs": "there is no GET", "/v1/../v1/jobs": "there is no GET", "/v1/jobs;x": "there is no GET",
		"/v1/jobs/nope": `there is no job "nope"`, "/v1/jobs/%2e%2e": `there is no job ".."`, "/v1/jobs/..%2f..%2fetc": `there is no job "../../etc"`,
		"/v1/jobs/a%00b": `there is no job "a\x00b"`, "/v1/jobs/%1b%5b2J": `there is no job "\x1b[2J"`, "/v1/jobs/%zz": "",
		"/v1/allocations/..": "no allocation", "/v1/allocations/zz/logs": "no allocation", "/v1/evaluations/%0a": "no evaluation", "/v1/nodes/zz": "no node",
		"/debug/pprof/": "there is no GET", "/v1/dispatch/poll": "there is no GET", "/v1/peer/sessions": "there is no GET",
		"/v1/relay/x/v1/worker/ping": "there is no GET", "/v1/worker/ping": "there is no GET",
	} {
		out = append(out, badRequest{path, get(path), want})
	}
	for _, path := range []string{"/v1/dispatch/register", "/v1/dispatch/report", "/v1/%64ispatch/report", "/v1/peer/sessions", "/v1/relay/x/v1/worker/ping"} {
		out = append(out, badRequest{"POST " + path, post(path, "\x80"), "there is no POST /v1/"})
	}
	return out
}

func (v *victim) requests(t *testing.T) {
	requests := badRequests()
	for _, f := range badFiles() {
		body, err := json.Marshal(api.Submission{Source: f.text, FileName: "web.hcl"})
		if err != nil {
			t.Fatal(err)
		}
		want := "web.hcl" + f.want
		if len(body) > 2<<20 {
			want = "the body has"
		} else if strings.ToValidUTF8(f.text, "") != f.text {
			continue // JSON cannot say it
		}
		requests = append(requests, badRequest{"as JSON: " + f.name, post("/v1/jobs", string(body)), want})
	}
	for _, r := range requests {
		t.Run(r.name, func(t *testing.T) {
			for _, address := range v.addresses() {
				resp, body := exchange(t, address, r.text)
				refused(t, resp, body, r.want)
			}
			v.unharmed(t, r.name)
		})
	}
	t.Run("an index that never comes", func(t *testing.T) {
		for _, address := range v.addresses() {
			if resp, body := exchange(t, address, get("/v1/jobs?index=18446744073709551615&wait=100ms")); resp == nil || resp.StatusCode != 200 || body != "[]\n" {
				t.Errorf("%+v %s", resp, body)
			}
		}
	})
	t.Run("a thousand who wait", v.watchers)
}

// watchers wait for what does not come, and leave.
func (v *victim) watchers(t *testing.T) {
	var open []net.Conn
	for range 500 {
		for _, address := range v.addresses() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, get("/v1/jobs?index=18446744073709551615&wait=5m")); err != nil {
				t.Fatal(err)
			}
			open = append(open, conn)
		}
	}
	v.unharmed(t, "a thousand who wait")
	for _, conn := range open {
		conn.Close()
	}
	v.unharmed(t, "a thousand who left")
}

// bodies are of 10 GB: announced, or endless.
func (v *victim) bodies(t *testing.T) {
	before := peak(t, v.server)
	for _, route := range []struct{ method, path string }{{"POST", "/v1/jobs"}, {"POST", "/v1/validate"}, {"POST", "/v1/jobs/web/stop"}, {"PUT", "/v1/operator/snapshot"}} {
		for _, announced := range []int64{10 << 30, -1} {
			t.Run(fmt.Sprint(route.method, route.path, announced), func(t *testing.T) {
				for _, address := range v.addresses() {
					v.pour(t, route.method, "http://"+address+route.path, announced)
				}
				v.unharmed(t, "a body of 10 GB")
			})
		}
	}
	if grown := peak(t, v.server) - before; grown > 64<<20 {
		t.Errorf("10 GB bodies took the server %d MiB more than it had ever had", grown>>20)
	}
	if left, err := filepath.Glob(filepath.Join(v.server.dir, "server", "restore-*")); err != nil || len(left) > 0 {
		t.Errorf("left in the data directory: %v, %v", left, err)
	}
}

// pour sends as much of 10 GB of text as is taken.
func (v *victim) pour(t *testing.T, method, url string, announced int64) {
	t.Helper()
	var sent atomic.Int64
	body := readFunc(func(p []byte) (int, error) {
		copy(p, bytes.Repeat([]byte(" "), len(p))) // which JSON may begin with, for ever
		return len(p), addUpTo(&sent, len(p), 10<<30)
	})
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = announced
	watchdog := &http.Client{Timeout: patience}
	resp, err := watchdog.Do(req)
	if err == nil {
		defer resp.Body.Close()
		if resp.StatusCode/100 != 4 {
			t.Errorf("%s %s: %s", method, url, resp.Status)
		}
	} else if os.IsTimeout(err) {
		t.Errorf("%s %s: %v", method, url, err)
	} // else it closed the connection, and its answer was lost over that
	if n := sent.Load(); n > 64<<20 {
		t.Errorf("%s %s took %d MiB before it refused", method, url, n>>20)
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func addUpTo(sum *atomic.Int64, n int, end int64) error {
	if sum.Add(int64(n)) >= end {
		return io.EOF
	}
	return nil
}

// peak is the most memory that a process has ever had, in bytes.
func peak(t *testing.T, p *process) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(status), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscanf(line, "%d kB", &kib); err != nil {
		t.Fatalf("read the peak of memory of %q: %v", line, err)
	}
	return kib << 10
}

// snapshots that are damaged change nothing.
func (v *victim) snapshots(t *testing.T) {
	at := []string{"CUBE_ADDR=" + v.client.bind}
	dir := t.TempDir()
	path := filepath.Join(dir, "cube.snap")
	if s := cli(t, nil, at, "operator", "snapshot", "save", path); s.code != 0 {
		t.Fatalf("save: %+v", s)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := map[string][]byte{
		"cut short": whole[:len(whole)-10], "half": whole[:len(whole)/2], "empty": nil, "longer": append(bytes.Clone(whole), 'x'),
		"text": []byte("hello"), "noise": bytes.Repeat([]byte("CUBESNAP"), 1<<15), "a huge block": append(bytes.Clone(whole[:11]), 0xff, 0xff, 0xff, 0xff, 0x7f),
	}
	for i := 0; i < len(whole); i += 1 + len(whole)/40 {
		flipped := bytes.Clone(whole)
		flipped[i] ^= 1
		damaged[fmt.Sprintf("byte %d of %d", i, len(whole))] = flipped
	}
	for name, content := range damaged {
		t.Run(name, func(t *testing.T) {
			bad := filepath.Join(t.TempDir(), "bad.snap")
			if err := os.WriteFile(bad, content, 0o600); err != nil {
				t.Fatal(err)
			}
			cli(t, nil, at, "operator", "snapshot", "restore", "-yes", bad).complains(t, "cannot be restored, nothing was changed")
			v.unharmed(t, "a damaged snapshot")
		})
	}
}

// silence: who connects, says half a sentence and waits is put out, and meanwhile nobody else is kept waiting.
func (v *victim) silence(t *testing.T) {
	var wg sync.WaitGroup
	for _, c := range []struct{ what, port, text string }{
		{"half a request line", "5555", "GET /v1/jo"},
		{"half the headers", "5555", "GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nX-"},
		{"nothing on the servers' port", "5556", ""},
		{"half a preamble", "5556", "CUBE\x01"},
		{"half a hello", "5556", "CUBE\x01\x02\x00\x40abc"},
		{"a session and nothing in it", "5556", hello(2, "client", strings.Repeat("e", 32))},
		{"half a state exchange", "5557", "\x06\x82"},
	} {
		for range 20 {
			conn, err := net.Dial("tcp", net.JoinHostPort(v.server.bind, c.port))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, c.text); err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				conn.SetReadDeadline(time.Now().Add(2 * patience)) // else the read below fails, and says so
				if _, err := io.Copy(io.Discard, conn); os.IsTimeout(err) {
					t.Errorf("%s: the connection is still open after %s", c.what, 2*patience)
				}
			})
		}
	}
	v.unharmed(t, "silence")
	wg.Wait()
	v.unharmed(t, "who was silent")
}
