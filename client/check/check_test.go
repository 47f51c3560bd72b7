package check_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cube/api"
	"cube/client/check"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listen serves connections on loopback one after the other until the test ends. It returns the address.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// closed is an address where nobody listens.
func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// reads blocks until the other side closes.
func reads(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func probe(c api.Check, address string) string {
	c.Timeout = cmp(c.Timeout, 10*time.Second)
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	return check.New().Probe(ctx, &c, check.Target{Address: address})
}

func cmp(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

func TestTCP(t *testing.T) {
	greets := func(c net.Conn) { fmt.Fprint(c, "220 ready\r\n"); reads(c) }
	for name, c := range map[string]struct {
		address string
		want    string
	}{
		"somebody listens":       {listen(t, reads), ""},
		"somebody greets":        {listen(t, greets), ""},
		"nobody listens":         {closed(t), "connection refused"},
		"an engine's proxy does": {listen(t, func(net.Conn) {}), "the connection was accepted and closed at once"},
		"no port":                {"", `the instance has no port "http"`},
	} {
		got := probe(api.Check{Type: api.CheckTCP, Port: "http"}, c.address)
		for tries := 0; got != c.want && tries < 20; tries++ { // on a busy machine who is to close at once may come late
			got = probe(api.Check{Type: api.CheckTCP, Port: "http"}, c.address)
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestHTTP(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/asked":
			if r.Method != "PUT" || r.Host != "shop.example" || r.Header.Get("X-Try") != "1" || string(body) != "well?" || r.URL.RawQuery != "full=1" || r.UserAgent() != "cube-check" {
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprintf(w, "%s %s %v %q", r.Method, r.Host, r.Header, body)
			}
		case "/moved":
			http.Redirect(w, r, "/503", http.StatusFound)
		case "/503":
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, "the database\n\tis \x1b[31maway ", strings.Repeat("é", 200))
		case "/page":
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, "<html><body>nothing here</body></html>")
		case "/599":
			w.WriteHeader(599)
		case "/hangs":
			<-r.Context().Done()
		}
	}))
	t.Cleanup(server.Close)
	address := strings.TrimPrefix(server.URL, "http://")
	asked := api.Check{Path: "/asked?full=1", Method: "PUT", Headers: map[string]string{"Host": "shop.example", "X-Try": "1"}, Body: "well?"}
	get := func(path string) api.Check { return api.Check{Path: path, Method: "GET"} }
	for name, c := range map[string]struct {
		check   api.Check
		address string
		want    string
	}{
		"as it is asked":  {asked, address, ""},
		"200":             {get("/"), address, ""},
		"a redirection":   {get("/moved"), address, ""},
		"503":             {get("/503"), address, "503 Service Unavailable: the database is [31maway é"},
		"a page":          {get("/page"), address, "404 Not Found"},
		"an odd status":   {get("/599"), address, "599"},
		"too slow":        {api.Check{Path: "/hangs", Method: "GET", Timeout: 50 * time.Millisecond}, address, "no answer within 50ms"},
		"nobody":          {get("/"), closed(t), "connection refused"},
		"closed":          {get("/"), listen(t, func(c net.Conn) { _, _ = http.ReadRequest(bufio.NewReader(c)) }), "the connection was closed without an answer"},
		"another's words": {get("/"), listen(t, func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-x\r\n") }), `malformed HTTP response "SSH-2.0-x"`},
	} {
		c.check.Type = api.CheckHTTP
		first := probe(c.check, c.address)
		if !strings.HasPrefix(first, c.want) || c.want == "" && first != "" || len(first) > 160 || strings.ContainsAny(first, "\n\t\x1b") {
			t.Errorf("%s: %q, want %q", name, first, c.want)
		}
		if again := probe(c.check, c.address); again != first {
			t.Errorf("%s: first %q, then %q: what changes each time cannot be told from news", name, first, again)
		}
	}
}

func TestGRPC(t *testing.T) {
	var answer, code, message string
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/grpc.health.v1.Health/Check" || r.ProtoMajor != 2 || r.Header.Get("Te") != "trailers" || string(body) != "\x00\x00\x00\x00\x00" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		raw, _ := hex.DecodeString(answer)
		_, _ = w.Write(raw)
		w.Header().Set("Grpc-Status", code)
		w.Header().Set("Grpc-Message", message)
	}))
	server.Config.Protocols = protocols
	server.Start()
	t.Cleanup(server.Close)
	for _, c := range []struct{ name, answer, code, message, want string }{
		{"serving", "00000000020801", "0", "", ""},
		{"not serving", "00000000020802", "0", "", "NOT_SERVING"},
		{"unknown, which protobuf leaves out", "0000000000", "0", "", "UNKNOWN"},
		{"a later number", "00000000020809", "0", "", "serving status 9"},
		{"no such service", "", "12", "unknown service%20x", `gRPC status "12" unknown service x`},
		{"compressed", "01000000020801", "0", "", "the answer is no HealthCheckResponse"},
		{"cut short", "000000000208", "0", "", "the answer is no HealthCheckResponse"},
		{"another message", "00000000020a00", "0", "", "the answer is no HealthCheckResponse"},
	} {
		answer, code, message = c.answer, c.code, c.message
		if got := probe(api.Check{Type: api.CheckGRPC}, server.Listener.Addr().String()); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := probe(api.Check{Type: api.CheckGRPC}, closed(t)); got != "connection refused" {
		t.Errorf("nobody listens: %q", got)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	if got := probe(api.Check{Type: api.CheckGRPC}, plain.Listener.Addr().String()); !strings.HasPrefix(got, "what answers does not speak gRPC (") {
		t.Errorf("of HTTP/1: %q", got)
	}
}

func TestExec(t *testing.T) {
	says := func(code int, texts ...string) check.Exec {
		return func(_ context.Context, _ []string, out io.Writer) (int, error) {
			for _, text := range texts {
				fmt.Fprint(out, text)
			}
			return code, nil
		}
	}
	hangs := func(ctx context.Context, _ []string, out io.Writer) (int, error) {
		fmt.Fprintln(out, "still waiting")
		<-ctx.Done()
		return -1, ctx.Err()
	}
	for _, c := range []struct {
		name string
		run  check.Exec
		want string
	}{
		{"passes", says(0, "all is well\n"), ""},
		{"fails", says(2, "\n  no response\nsecond line\n"), "exit code 2: no response"},
		{"in pieces", says(1, "no ", "resp", "onse"), "exit code 1: no response"},
		{"in silence", says(1), "exit code 1"},
		{"by a signal", says(139, "oh\n"), "exit code 139 (SIGSEGV): oh"},
		{"at length", says(1, strings.Repeat("x", 1<<20)), "exit code 1: " + strings.Repeat("x", 144) + "..."},
		{"not in time", hangs, "the command did not end within 50ms"},
		{"no such command", func(context.Context, []string, io.Writer) (int, error) {
			return 127, api.Errorf(api.CodeInvalid, "the instance has no command pg_isready")
		}, "the instance has no command pg_isready"},
		{"nowhere to run it", nil, "commands cannot be run in the instance"},
	} {
		spec := api.Check{Type: api.CheckExec, Command: []string{"pg_isready", "-q"}, Timeout: 10 * time.Second}
		if c.name == "not in time" {
			spec.Timeout = 50 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), spec.Timeout)
		if got := check.New().Probe(ctx, &spec, check.Target{Exec: c.run}); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		cancel()
	}
}
