package agent

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cube/api/rest"
)

// peoples serves next as the people's API on a loopback address, and returns the address.
func peoples(t *testing.T, next http.Handler) string {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.Config.Handler = public(next, s.Listener.Addr(), "n1")
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// speak sends raw text, ends there if it is not the whole request, and returns the answer: its status and body, or ""
// for none.
func speak(t *testing.T, addr, text string, whole bool) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if !whole {
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(resp.StatusCode, " ", string(b))
}

// TestPeopleDoNotSpeakForTheAgent: what a session carries as this agent's own word must not come from its HTTP address,
// where a client would hand it on to a server, and a server to its leader.
func TestPeopleDoNotSpeakForTheAgent(t *testing.T) {
	var passed []string
	h := public(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { passed = append(passed, r.URL.Path) }), &net.TCPAddr{IP: net.IPv4zero}, "n1")
	for _, path := range []string{
		"/v1/dispatch/register", "/v1/dispatch/report", "/v1/peer/sessions", "/v1/relay/n1/v1/worker/ping", "/v1/worker/ping",
		"/v1/%64ispatch/poll", "/v1/dispatch%2Fpoll",
	} {
		for _, method := range []string{"GET", "POST"} {
			if code, body := ask(h, method, path, ""); code != 404 || !strings.Contains(body, "there is no "+method) {
				t.Errorf("%s %s: %d %s", method, path, code, body)
			}
		}
	}
	if len(passed) > 0 {
		t.Errorf("%v passed", passed)
	}
	if ask(h, "GET", "/v1/jobs/dispatch", ""); len(passed) != 1 {
		t.Error("a job of that name is not served")
	}
}

// TestRoutesAnswerForThemselves: nothing before the routes answers in their place.
func TestRoutesAnswerForThemselves(t *testing.T) {
	h := withMetrics(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "metrics") }),
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Method, " ", r.URL.Path) }))
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/v1/metrics", "metrics"}, {"GET", "/v1/jobs", "GET /v1/jobs"}, {"GET", "//v1/jobs", "GET //v1/jobs"},
		{"GET", "/v1/x/../metrics", "GET /v1/x/../metrics"}, {"FOO", "/v1/jobs", "FOO /v1/jobs"},
	} {
		if code, body := ask(h, c.method, c.path, ""); code != 200 || body != c.want {
			t.Errorf("%s %s: %d %s", c.method, c.path, code, body)
		}
	}
}

// TestABodyThatFails is answered as its sender's fault, wherever it was on its way to, and never by an empty 200.
func TestABodyThatFails(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	there := roundTrip(func(r *http.Request) (*http.Response, error) {
		r.URL.Host = server.Listener.Addr().String()
		return http.DefaultTransport.RoundTrip(r)
	})
	follower := newServers("b")
	follower.handlers["b"] = there
	client := &proxy{current: func() (http.RoundTripper, bool) { return there, true }, changed: func() <-chan struct{} { return nil }}
	for name, next := range map[string]http.Handler{"a follower": forwarding(follower), "a client": client} {
		addr := peoples(t, next)
		for what, body := range map[string]string{
			"cut short":    "Content-Length: 100\r\n\r\n{}",
			"a bad chunk":  "Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n",
			"no last byte": "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
		} {
			for _, method := range []string{"POST", "PUT"} {
				got := speak(t, addr, method+" /v1/jobs HTTP/1.1\r\nHost: localhost\r\n"+body, false)
				if got != "" && !strings.HasPrefix(got, `400 {"Code":"invalid"`) {
					t.Errorf("%s with %s to %s: %q", method, what, name, got)
				}
			}
		}
		if got := speak(t, addr, "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", true); !strings.HasPrefix(got, "200") {
			t.Errorf("a whole body to %s: %q", name, got)
		}
	}
}

// TestNoLargeBodyIsHeld: a follower holds what it sends on, so it must not begin with what no route takes.
func TestNoLargeBodyIsHeld(t *testing.T) {
	s := newServers("b")
	s.handlers["b"] = roundTrip(func(*http.Request) (*http.Response, error) {
		t.Error("it was sent on")
		return nil, io.ErrClosedPipe
	})
	h := public(forwarding(s), &net.TCPAddr{IP: net.IPv4zero}, "n1")
	r := httptest.NewRequest("POST", "/v1/jobs", io.LimitReader(endless{}, 10<<30))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 413 || w.Header().Get(rest.HeaderCode) != "too_large" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestHealthNamesTheNode: who asks an agent about its health learns which node it runs, whoever answers.
func TestHealthNamesTheNode(t *testing.T) {
	for node, want := range map[string]string{"": "", "n1": "n1"} {
		answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"Leader": "s1"}`) })
		c, err := rest.NewClient("http://" + peoples(t, withNode(node, answer)))
		if err != nil {
			t.Fatal(err)
		}
		h, err := c.Health(t.Context())
		if err != nil || h.Node != want || h.Leader != "s1" {
			t.Errorf("%+v, %v; want node %q", h, err, want)
		}
	}
}
