package rest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"cube/api"
	"cube/api/attach"
)

// Exec serves a command that says what it was asked, copies its input and ends with 7.
func (e *echo) Exec(ctx context.Context, id string, r api.ExecRequest) (io.ReadWriteCloser, error) {
	if e.err != nil {
		return nil, e.err
	}
	theirs, ours := net.Pipe()
	go attach.Serve(ctx, ours, func(_ context.Context, c *attach.Command) (int, error) { // ends with the connection
		fmt.Fprintf(c.Stderr, "%s %q %v %+v", id, r.Command, r.TTY, r.Size)
		_, err := io.Copy(c.Stdout, c.Stdin)
		return 7, err
	})
	return theirs, nil
}

func (*node) Exec(ctx context.Context, id api.ID, r api.ExecRequest) (io.ReadWriteCloser, error) {
	if id == 0 {
		return nil, api.Errorf(api.CodeConflict, "it does not run")
	}
	return (&echo{}).Exec(ctx, fmt.Sprint(id), r)
}

// TestCommandsAreConnected has a command's input and output pass two hops: to a server, and on from it to a node.
func TestCommandsAreConnected(t *testing.T) {
	end := httptest.NewServer(NewWorkerHandler(&node{}))
	defer end.Close()
	hop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := r.Clone(r.Context())
		out.RequestURI, out.URL.Scheme = "", "http"
		resp, err := redirect{end.URL}.RoundTrip(out)
		if err != nil {
			t.Error(err)
			return
		}
		SwitchOver(w, r, resp)
	}))
	defer hop.Close()
	r := api.ExecRequest{Command: []string{"sh", "-c", "a b"}, TTY: true, Size: api.WindowSize{Rows: 3, Columns: 4}}
	sent := strings.Repeat("0123456789abcdef", 64<<10)
	for name, open := range map[string]func() (io.ReadWriteCloser, error){
		"person": func() (io.ReadWriteCloser, error) { return start(t, &echo{}).Exec(t.Context(), "5", r) },
		"worker": func() (io.ReadWriteCloser, error) { return NewWorker(redirect{end.URL}).Exec(t.Context(), 5, r) },
		"relay":  func() (io.ReadWriteCloser, error) { return NewWorker(redirect{hop.URL}).Exec(t.Context(), 5, r) },
	} {
		conn, err := open()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var out, errs bytes.Buffer
		code, err := (&attach.Person{Stdin: strings.NewReader(sent), Stdout: &out, Stderr: &errs}).Run(t.Context(), conn)
		if code != 7 || err != nil || out.String() != sent {
			t.Errorf("%s: it ends with %d, %v after %d of %d bytes", name, code, err, out.Len(), len(sent))
		}
		if want := `5 ["sh" "-c" "a b"] true {Rows:3 Columns:4}`; errs.String() != want {
			t.Errorf("%s: the command was asked %s, want %s", name, &errs, want)
		}
	}
}

func TestCommandsThatAreRefused(t *testing.T) {
	want := api.Errorf(api.CodeConflict, "web[0] does not run, it is failed")
	_, err := start(t, &echo{err: want}).Exec(t.Context(), "a1", api.ExecRequest{Command: []string{"sh"}})
	if api.CodeOf(err) != want.Code || err.Error() != want.Message {
		t.Errorf("got %v (%s)", err, api.CodeOf(err))
	}
	s := httptest.NewServer(NewWorkerHandler(&node{}))
	defer s.Close()
	if _, err := NewWorker(redirect{s.URL}).Exec(t.Context(), 0, api.ExecRequest{Command: []string{"sh"}}); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("a node that refuses gives %v (%s)", err, api.CodeOf(err))
	}
	if _, err := start(t, &echo{}).Exec(t.Context(), "a1", api.ExecRequest{}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("no command gives %v (%s)", err, api.CodeOf(err))
	}
}

// TestACommandEndsWithItsConnection cuts the person off, with the server knowing no more than that.
func TestACommandEndsWithItsConnection(t *testing.T) {
	ended := make(chan error, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serveExec(w, r, func(ctx context.Context, _ api.ExecRequest) (io.ReadWriteCloser, error) {
			theirs, ours := net.Pipe()
			go attach.Serve(ctx, ours, func(ctx context.Context, c *attach.Command) (int, error) {
				fmt.Fprint(c.Stdout, "begun")
				<-ctx.Done()
				ended <- context.Cause(ctx)
				return -1, ctx.Err()
			})
			return theirs, nil
		})
	}))
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %s\r\nContent-Length: 18\r\n\r\n{\"Command\":[\"sh\"]}", protocolExec)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	if _, err := io.ReadFull(in, make([]byte, 10)); err != nil { // o, its length, begun
		t.Fatal(err)
	}
	conn.Close()
	if err := <-ended; err == nil {
		t.Error("the command ended for nothing")
	}
}
