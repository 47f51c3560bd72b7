package cubetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"cube/api"
	"cube/api/attach"
	"cube/internal/memnet"
)

const two = `
task "web" {
  driver = "fake"
  count  = 2
  spread {
    attribute = "node.name"
    weight    = 100
  }
}
`

// TestCommandsRunFromAnywhereBubble asks every agent of a cluster for a command beside every instance: so some are relayed
// by a client, some by a server that follows, some from the leader to the server that holds the node's session.
func TestCommandsRunFromAnywhereBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 2)
		c.NodesReady(2, 30*time.Second)
		c.Submit(two)
		allocs := c.Runs("web", 2, 10*time.Second)
		sent := strings.Repeat("how are you? ", 20_000)
		for _, a := range allocs {
			for _, agent := range append(append([]*Agent{}, c.Servers...), c.Clients...) {
				conn, err := agent.API().Exec(t.Context(), a.ID, api.ExecRequest{Command: strings.Fields("warn begun ; cat ; exit 3"), Stdin: true})
				if err != nil {
					t.Fatalf("%s asked for %s: %v", agent.Name, a.Name, err)
				}
				var out, errs bytes.Buffer
				code, err := (&attach.Person{Stdin: strings.NewReader(sent), Stdout: &out, Stderr: &errs}).Run(t.Context(), conn)
				if code != 3 || err != nil || out.String() != sent || errs.String() != "begun\n" {
					t.Errorf("%s asked for %s: it ends with %d, %v after %d of %d bytes and %q", agent.Name, a.Name, code, err, out.Len(), len(sent), &errs)
				}
			}
		}
		c.same("after all those commands", allocs)
	})
}

// TestCommandsAndFaultsBubble: what becomes of a command whose instance, whose node or whose person goes away, and of one
// that cannot be.
func TestCommandsAndFaultsBubble(t *testing.T) {
	memnet.Bubble(t, func(t *testing.T) {
		c := New(t, 3, 2)
		c.NodesReady(2, 30*time.Second)
		c.Submit(two)
		allocs := c.Runs("web", 2, 10*time.Second)
		on := func(a *api.Allocation) *Agent {
			for _, n := range c.Clients {
				if n.Name == a.NodeName {
					return n
				}
			}
			t.Fatalf("there is no agent %s", a.NodeName)
			return nil
		}
		type result struct {
			code int
			err  error
		}
		begin := func(ctx context.Context, a *api.Allocation, signals <-chan syscall.Signal, command string) chan result {
			conn, err := c.Up().Exec(ctx, a.ID, api.ExecRequest{Command: strings.Fields(command)})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan result, 1)
			begun, told := io.Pipe()
			go func() {
				code, err := (&attach.Person{Stdout: told, Stderr: io.Discard, Signals: signals}).Run(ctx, conn)
				done <- result{code, err}
			}()
			if _, err := begun.Read(make([]byte, 16)); err != nil {
				t.Fatal(err)
			}
			return done
		}
		ctx, cancel := context.WithCancel(t.Context())
		left := begin(ctx, allocs[0], nil, "echo begun ; sleep 1000h")
		cancel()
		if r := <-left; !errors.Is(r.err, context.Canceled) {
			t.Errorf("a person who leaves gets %d, %v", r.code, r.err)
		}
		signals := make(chan syscall.Signal, 1)
		told := begin(t.Context(), allocs[0], signals, "echo begun ; sleep 1000h")
		signals <- syscall.SIGINT
		if r := <-told; r.code != 130 || r.err != nil {
			t.Errorf("SIGINT gives %d, %v", r.code, r.err)
		}
		quiet := begin(t.Context(), allocs[0], nil, "echo begun ; sleep 2h")
		if r := <-quiet; r.code != 0 || r.err != nil {
			t.Errorf("two hours without a word give %d, %v", r.code, r.err)
		}

		c.refused(allocs[0].ID, "no-such-command")
		if _, err := c.Up().Exec(t.Context(), "ffffffff", api.ExecRequest{Command: []string{"sh"}}); api.CodeOf(err) != api.CodeNotFound {
			t.Errorf("an allocation that is not there gives %v (%s)", err, api.CodeOf(err))
		}
		lost := begin(t.Context(), allocs[0], nil, "echo begun ; sleep 1000h")
		on(allocs[0]).Crash()
		if r := <-lost; r.err == nil {
			t.Errorf("a command whose node falls gives %d", r.code)
		}
		if _, err := c.Up().Exec(t.Context(), allocs[0].ID, api.ExecRequest{Command: []string{"cat"}}); api.CodeOf(err) != api.CodeUnavailable && api.CodeOf(err) != api.CodeConflict {
			t.Errorf("a node that is gone gives %v (%s)", err, api.CodeOf(err))
		}
	})
}

// refused has a command be asked for that cannot be started.
func (c *Cluster) refused(id, command string) {
	conn, err := c.Up().Exec(c.t.Context(), id, api.ExecRequest{Command: []string{command}})
	if err != nil {
		c.t.Fatal(err)
	}
	code, err := (&attach.Person{Stdout: io.Discard, Stderr: io.Discard}).Run(c.t.Context(), conn)
	if code != 127 || api.CodeOf(err) != api.CodeInvalid {
		c.t.Errorf("%s gives %d, %v", command, code, err)
	}
}
