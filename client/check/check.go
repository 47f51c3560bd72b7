// Package check asks an instance how it is: one probe of one check. When to ask, and what follows from the answers, is the
// client's to decide.
package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"

	"cube/api"
)

// Target is what a probe asks.
type Target struct {
	Address string // host:port of the check's port; "": the instance has no such port
	Exec    Exec   // nil: commands cannot be run there
}

// Exec runs a command beside the instance and returns its exit code once it has ended, with all that it wrote passed on to
// out. When ctx ends, so does the command. With an error the command could not be run to its end.
type Exec func(ctx context.Context, command []string, out io.Writer) (code int, err error)

// maxFault bounds what a probe says in bytes: a line beside an instance's name.
const maxFault = 160

// Prober probes. It keeps nothing between probes: each has a connection of its own, as a new client of the instance would.
type Prober struct {
	http *http.Transport
	grpc *http.Transport
}

// New returns a prober. It is safe for concurrent use and needs no end.
func New() *Prober {
	cleartext := new(http.Protocols)
	cleartext.SetUnencryptedHTTP2(true)
	const maxHeader = 64 << 10
	return &Prober{
		http: &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader},
		grpc: &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader, Protocols: cleartext},
	}
}

// Probe asks once. It returns "" when the check passes, and otherwise one line that says why not, the same one as long as
// the reason is the same: no port numbers of the asking side, no times. It returns soon after ctx is done.
func (p *Prober) Probe(ctx context.Context, c *api.Check, t Target) string {
	var err error
	switch {
	case c.Type == api.CheckExec:
		err = probeExec(ctx, c, t.Exec)
	case t.Address == "":
		err = fmt.Errorf("the instance has no port %q", c.Port)
	case c.Type == api.CheckHTTP:
		err = p.probeHTTP(ctx, c, t.Address)
	case c.Type == api.CheckTCP:
		err = probeTCP(ctx, t.Address)
	case c.Type == api.CheckGRPC:
		err = p.probeGRPC(ctx, t.Address)
	default:
		err = fmt.Errorf("this version of Cube knows no checks of type %q", c.Type)
	}
	if err == nil {
		return ""
	}
	return line(reason(ctx, err, c))
}

// reason is the heart of an error: what a person can do something about.
func reason(ctx context.Context, err error, c *api.Check) string {
	var errno syscall.Errno
	var dns *net.DNSError
	switch {
	case ctx.Err() != nil && c.Type == api.CheckExec:
		return fmt.Sprintf("the command did not end within %s", c.Timeout)
	case ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("no answer within %s", c.Timeout)
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &dns):
		return dns.Err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed without an answer"
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	if c.Type == api.CheckGRPC && strings.HasPrefix(err.Error(), "http2: ") { // an HTTP/1 server, most often
		return "what answers does not speak gRPC (" + err.Error() + ")"
	}
	return err.Error()
}

// line makes one printable line of a text.
func line(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if len(s) <= maxFault {
		return s
	}
	const dots = "..."
	cut := 0
	for i := range s {
		if i > maxFault-len(dots) {
			break
		}
		cut = i
	}
	return s[:cut] + dots
}

// closesWithin is how soon a connection that was accepted must not be closed again. An engine's proxy accepts for every
// published port, and closes at once when nobody listens behind it.
const closesWithin = 100 * time.Millisecond

func probeTCP(ctx context.Context, address string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetReadDeadline(time.Now().Add(closesWithin)); err != nil {
		return err
	}
	switch _, err := conn.Read(make([]byte, 1)); {
	case err == nil, errors.Is(err, os.ErrDeadlineExceeded): // it says something, or waits for us to
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return errors.New("the connection was accepted and closed at once")
	default:
		return err
	}
}

// excerptOf bounds what is read of an answer that fails.
const excerptOf = 1 << 10

func (p *Prober) probeHTTP(ctx context.Context, c *api.Check, address string) error {
	request, err := http.NewRequestWithContext(ctx, c.Method, "http://"+address+c.Path, strings.NewReader(c.Body))
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "cube-check")
	for name, value := range c.Headers {
		if strings.EqualFold(name, "Host") {
			request.Host = value
			continue
		}
		request.Header.Set(name, value)
	}
	answer, err := p.http.RoundTrip(request) // a redirection is an answer, and is not followed
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode < http.StatusBadRequest {
		return nil
	}
	status := strings.TrimSpace(fmt.Sprintf("%d %s", answer.StatusCode, http.StatusText(answer.StatusCode)))
	body, _ := io.ReadAll(io.LimitReader(answer.Body, excerptOf)) // what there is of it
	if text := line(string(body)); text != "" && !strings.HasPrefix(text, "<") {
		status += ": " + text
	}
	return errors.New(status)
}
