package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"cube/api"
)

// The preamble. Both frames begin alike, and that beginning is frozen for all versions, so that two versions can at
// least refuse each other with a sentence:
//
//	magic "CUBE" | version, 1 byte | kind or verdict, 1 byte | length of the body, 2 bytes big endian | body
//
// The body of a hello: incarnation, 8 bytes big endian, then cluster, role, sender and target, each as one length byte
// and that many bytes. The body of a refusal: a code, a newline, a sentence. Acceptance has no body.
const (
	magic      = "CUBE"
	version    = 1
	headerSize = len(magic) + 4
	maxBody    = 1200 // a hello is at most 8 + 4*256 bytes

	verdictAccept = 1
	verdictRefuse = 2
)

// handshakeTimeout bounds the preamble on both sides: long enough for a slow network and a busy machine, short enough
// that a silent connection does not stay.
const handshakeTimeout = 5 * time.Second

// errForeign says that what came is not this protocol.
var errForeign = errors.New("the other side does not speak Cube's protocol")

// handshake runs f with the connection's deadline set to the end of the handshake, or of ctx if that is sooner, and
// clears the deadline afterwards. The connection is closed if f fails.
func handshake(ctx context.Context, conn net.Conn, f func() error) error {
	deadline := time.Now().Add(handshakeTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := conn.SetDeadline(deadline); err != nil {
		conn.Close()
		return err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() && err == nil {
		err = context.Cause(ctx) // the deadline of the past may be set after we clear it: the connection is lost
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}
	return err
}

func writeFrame(w io.Writer, kind byte, body []byte) error {
	frame := make([]byte, 0, headerSize+len(body))
	frame = append(frame, magic...)
	frame = append(frame, version, kind)
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(body)))
	_, err := w.Write(append(frame, body...))
	return err
}

// readFrame reads no byte beyond the frame. A wrong magic is noticed at its first wrong byte, so that whoever else
// knocks on this port is not kept waiting.
func readFrame(r io.Reader) (ver, kind byte, body []byte, err error) {
	var h [headerSize]byte
	for n := 0; n < len(magic); {
		m, err := r.Read(h[n:len(magic)])
		n += m
		if !strings.HasPrefix(magic, string(h[:n])) {
			return 0, 0, nil, fmt.Errorf("%w: it began with %q", errForeign, h[:n])
		}
		if err != nil && n < len(magic) {
			return 0, 0, nil, err
		}
	}
	if _, err := io.ReadFull(r, h[len(magic):]); err != nil {
		return 0, 0, nil, err
	}
	ver, kind = h[len(magic)], h[len(magic)+1]
	size := int(binary.BigEndian.Uint16(h[len(magic)+2:]))
	if size > maxBody {
		return ver, kind, nil, fmt.Errorf("%w: a preamble of %d bytes", errForeign, size)
	}
	body = make([]byte, size)
	_, err = io.ReadFull(r, body)
	return ver, kind, body, err
}

func (h Hello) encode() ([]byte, error) {
	body := binary.BigEndian.AppendUint64(nil, h.Incarnation)
	for _, s := range []string{h.ClusterID, string(h.Role), h.Sender, h.Target} {
		if len(s) > 255 {
			return nil, api.Errorf(api.CodeTooLarge, "%.20q... is longer than 255 bytes", s)
		}
		body = append(append(body, byte(len(s))), s...)
	}
	return body, nil
}

func decodeHello(kind byte, body []byte) (Hello, error) {
	h := Hello{Protocol: Protocol(kind)}
	if h.Protocol != Raft && h.Protocol != RPC {
		return h, api.Errorf(api.CodeIncompatible, "unknown protocol %d", kind)
	}
	if len(body) < 8 {
		return h, api.Errorf(api.CodeInvalid, "the preamble is cut short")
	}
	h.Incarnation = binary.BigEndian.Uint64(body)
	body = body[8:]
	var role string
	for _, s := range []*string{&h.ClusterID, &role, &h.Sender, &h.Target} {
		if len(body) == 0 || len(body) < 1+int(body[0]) {
			return h, api.Errorf(api.CodeInvalid, "the preamble is cut short")
		}
		*s = string(body[1 : 1+int(body[0])])
		body = body[1+int(body[0]):]
	}
	h.Role = api.Role(role)
	if h.Role != api.RoleServer && h.Role != api.RoleClient {
		return h, api.Errorf(api.CodeInvalid, "unknown role %q", role)
	}
	return h, nil // what is left over belongs to a later minor addition
}

// greet sends the hello and waits for the verdict.
func greet(ctx context.Context, conn net.Conn, h Hello) error {
	return handshake(ctx, conn, func() error {
		body, err := h.encode()
		if err != nil {
			return err
		}
		if err := writeFrame(conn, byte(h.Protocol), body); err != nil {
			return api.Errorf(api.CodeUnavailable, "greet %s: %w", conn.RemoteAddr(), err)
		}
		ver, verdict, body, err := readFrame(conn)
		switch {
		case errors.Is(err, errForeign):
			return api.Errorf(api.CodeIncompatible, "greet %s: %w", conn.RemoteAddr(), err)
		case err != nil:
			return api.Errorf(api.CodeUnavailable, "greet %s: %w", conn.RemoteAddr(), err)
		case verdict == verdictAccept && ver == version:
			return nil
		case verdict != verdictRefuse:
			return api.Errorf(api.CodeIncompatible, "greet %s: it answers in version %d of the protocol, this is version %d",
				conn.RemoteAddr(), ver, version)
		}
		code, sentence, ok := strings.Cut(string(body), "\n")
		if !ok {
			code, sentence = string(api.CodeInternal), string(body)
		}
		return api.Errorf(api.Code(code), "%s refused: %s", conn.RemoteAddr(), oneLine(sentence))
	})
}

// admit reads a hello, has it checked, and answers.
func admit(ctx context.Context, conn net.Conn, check func(Hello) error) (h Hello, err error) {
	err = handshake(ctx, conn, func() error {
		ver, kind, body, err := readFrame(conn)
		if err != nil {
			return err
		}
		if ver != version {
			return refuse(conn, api.Errorf(api.CodeIncompatible, "this agent speaks version %d of the protocol, not %d; upgrade servers first", version, ver))
		}
		if h, err = decodeHello(kind, body); err != nil {
			return refuse(conn, err)
		}
		if check != nil {
			if err := check(h); err != nil {
				return refuse(conn, err)
			}
		}
		return writeFrame(conn, verdictAccept, nil)
	})
	if err != nil {
		return h, fmt.Errorf("connection from %s: %w", conn.RemoteAddr(), err)
	}
	return h, nil
}

// refuse sends the reason and returns it.
func refuse(conn net.Conn, reason error) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n%s", api.CodeOf(reason), oneLine(reason.Error()))
	b.Truncate(min(b.Len(), maxBody))
	if err := writeFrame(conn, verdictRefuse, b.Bytes()); err != nil {
		return errors.Join(reason, err)
	}
	return fmt.Errorf("refused: %w", reason)
}

// oneLine makes a foreign sentence fit for a log or a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
