package session

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"cube/api"
)

// Everything on a session after the preamble is a frame:
//
//	kind, 1 byte | call, 4 bytes big endian | length of the body, 4 bytes big endian | body
//
// An unknown kind ends the session.
const (
	frameCall   = 1 // the body: one length byte, that many bytes of the method's name, what the method is given
	frameAnswer = 2 // to the call of that number: what the method returned
	frameFail   = 3 // to the call of that number: a code, a newline, a sentence
	frameCancel = 4 // nobody waits for the answer to the call of that number any more
	framePing   = 5 // the other side says something at once; the accepting side's body: milliseconds until its next one
	framePong   = 6
	frameMux    = 7 // bytes of yamux

	frameHeader = 9
	// maxFrame bounds a body: a registration with the largest inventory, the first poll answer of a full node.
	maxFrame = 64 << 20
	// trusted is how much room is made for a body before any of it has come.
	trusted = 64 << 10
	// maxQueued is how much may wait for the connection before those who have more to send wait too.
	maxQueued = 1 << 20
	// readBuffer holds the frames of a quiet session; the body of a larger one is read straight into its place.
	readBuffer = 1 << 10
)

// frame lays out a frame whose body is the given parts.
func frame(kind byte, call uint32, parts ...[]byte) []byte {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	f := make([]byte, 0, frameHeader+size)
	f = append(f, kind)
	f = binary.BigEndian.AppendUint32(f, call)
	f = binary.BigEndian.AppendUint32(f, uint32(size))
	for _, p := range parts {
		f = append(f, p...)
	}
	return f
}

// frameReader reads frames. It belongs to one goroutine.
type frameReader struct {
	r      *bufio.Reader
	header [frameHeader]byte
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, readBuffer)}
}

// next returns a frame; its body is the caller's.
func (f *frameReader) next() (kind byte, call uint32, body []byte, err error) {
	if _, err := io.ReadFull(f.r, f.header[:]); err != nil {
		return 0, 0, nil, err
	}
	kind, call = f.header[0], binary.BigEndian.Uint32(f.header[1:])
	size := int(binary.BigEndian.Uint32(f.header[5:]))
	switch {
	case size > maxFrame:
		return 0, 0, nil, fmt.Errorf("%w: a frame of %d bytes", errForeign, size)
	case size > trusted:
		var b bytes.Buffer
		_, err = io.CopyN(&b, f.r, int64(size))
		body = b.Bytes()
	case size > 0:
		body = make([]byte, size)
		_, err = io.ReadFull(f.r, body)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return kind, call, body, err
}

// frameWriter puts frames on a connection. Whoever finds it idle writes, and then also what others have brought
// meanwhile, in one piece: nobody else waits, and there is no goroutine for it.
type frameWriter struct {
	conn  net.Conn
	wrote func() // after each write

	mu    sync.Mutex
	room  sync.Cond // queue was taken, or err is set
	busy  bool      // somebody writes
	queue []byte
	err   error // the first that a write met
}

func newFrameWriter(conn net.Conn, wrote func()) *frameWriter {
	w := &frameWriter{conn: conn, wrote: wrote}
	w.room.L = &w.mu
	return w
}

// write takes a frame, which must not be changed afterwards. That it returns nil says only that the frame is in good order
// on its way: a later fault shows in the end of the session.
func (w *frameWriter) write(f []byte) error {
	w.mu.Lock()
	for w.err == nil && len(w.queue) > maxQueued {
		w.room.Wait()
	}
	if w.err != nil {
		w.mu.Unlock()
		return w.err
	}
	if w.busy {
		w.queue = append(w.queue, f...)
		w.mu.Unlock()
		return nil
	}
	w.busy = true
	for len(f) > 0 {
		w.mu.Unlock()
		err := w.put(f)
		w.mu.Lock()
		f, w.queue = w.queue, nil
		if err != nil {
			w.err, f = err, nil
		}
		w.room.Broadcast()
	}
	w.busy = false
	err := w.err
	w.mu.Unlock()
	return err
}

func (w *frameWriter) put(b []byte) error {
	if err := w.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := w.conn.Write(b)
	w.wrote()
	return err
}

// tooLarge refuses a body that the other side would not take.
func tooLarge(method string, size int) error {
	return api.Errorf(api.CodeTooLarge, "%s: a body of %d bytes; at most %d are taken", method, size, maxFrame)
}
