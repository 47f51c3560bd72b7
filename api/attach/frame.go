package attach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// kind says what a frame carries.
type kind byte

const (
	kindInput  kind = 'i' // to the command's standard input
	kindEnd    kind = 'e' // its input has ended
	kindSize   kind = 's' // of the terminal: rows and columns, two bytes each
	kindSignal kind = 'g' // for the command: a name such as SIGTERM
	kindOutput kind = 'o' // from its standard output
	kindErrors kind = 'r' // from its standard error
	kindRoom   kind = 'w' // so many more bytes of input may be sent: four bytes
	kindExit   kind = 'x' // how it ended: JSON of an ending. The last frame of a node
	kindAlive  kind = 'h' // nothing but that the sender is there
)

const (
	headerBytes = 5
	// maxPayload bounds a frame, and with it what a reader must hold.
	maxPayload = 32 << 10
	// window is how much input may be on its way: enough to keep a fast connection busy, little enough to be held for a
	// command that reads nothing.
	window = 256 << 10
)

var errForeign = errors.New("what came is not what Cube sends")

func frame(k kind, payload []byte) []byte {
	f := make([]byte, headerBytes, headerBytes+len(payload))
	f[0] = byte(k)
	binary.BigEndian.PutUint32(f[1:], uint32(len(payload)))
	return append(f, payload...)
}

// frameReader reads frames.
type frameReader struct {
	in      io.Reader
	header  [headerBytes]byte
	payload [maxPayload]byte
}

// next returns the next frame. The payload is valid until the call after it.
func (r *frameReader) next() (kind, []byte, error) {
	if _, err := io.ReadFull(r.in, r.header[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(r.header[1:])
	if n > maxPayload {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes", errForeign, n)
	}
	if _, err := io.ReadFull(r.in, r.payload[:n]); err != nil {
		return 0, nil, err
	}
	return kind(r.header[0]), r.payload[:n], nil
}
