// Package transcript is how drivers keep what instances print on disk: both streams in one file, in the order in which
// they came, as text that people can read too.
//
// A file is a sequence of lines. The first character is the stream, 1 for stdout and 2 for stderr; the second is a
// space when the rest is a whole line of output, and a + when it is a piece of one, with no line break at its end.
package transcript

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"cube/api"
)

// Stream is where a record was printed.
type Stream byte

const (
	Stdout Stream = '1'
	Stderr Stream = '2'
)

// maxText bounds a record: a longer line is kept in pieces, so that a reader needs no more memory than this.
const maxText = 16 << 10

// Record is a line of output with its line break, or a piece of a line without. It has at most 16 KiB.
type Record struct {
	Stream Stream
	Text   []byte
}

// Whole reports whether the record ends a line.
func (r Record) Whole() bool { return len(r.Text) > 0 && r.Text[len(r.Text)-1] == '\n' }

// Append writes the record behind b, as files have it.
func (r Record) Append(b []byte) []byte {
	b = append(b, byte(r.Stream))
	if r.Whole() {
		return append(append(b, ' '), r.Text...)
	}
	return append(append(append(b, '+'), r.Text...), '\n')
}

// Split makes records of what a stream printed. The texts are parts of p.
func Split(s Stream, p []byte, each func(Record) error) error {
	for len(p) > 0 {
		n := min(len(p), maxText)
		if i := bytes.IndexByte(p[:n], '\n'); i >= 0 {
			n = i + 1
		}
		if err := each(Record{Stream: s, Text: p[:n]}); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// Reader reads records from a file that may still grow.
type Reader struct {
	r    *bufio.Reader
	part []byte // the beginning of a line whose end is not written yet
}

// NewReader reads from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 2*maxText)} }

// Next returns the next record; its text is valid until the call after it. At the end of what is written it returns
// io.EOF, and may be called again when there is more. Lines that are no records are passed over: a machine that lost
// power can leave such.
func (r *Reader) Next() (Record, error) {
	for {
		line, err := r.r.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			r.part = append(r.part, line...)
			return Record{}, io.EOF
		case errors.Is(err, bufio.ErrBufferFull): // no record is so long
			r.part = append(r.part[:0], 'x')
			continue
		case err != nil:
			return Record{}, fmt.Errorf("read kept output: %w", err)
		}
		if len(r.part) > 0 {
			line = append(r.part, line...)
			r.part = nil
		}
		if record, ok := parse(line); ok {
			return record, nil
		}
	}
}

func parse(line []byte) (Record, bool) {
	if len(line) < 3 {
		return Record{}, false
	}
	s := Stream(line[0])
	if s != Stdout && s != Stderr {
		return Record{}, false
	}
	switch line[1] {
	case ' ':
		return Record{s, line[2:]}, true
	case '+':
		return Record{s, line[2 : len(line)-1]}, true
	}
	return Record{}, false
}

// Wanted reports whether the request asks for the stream.
func Wanted(r api.LogRequest, s Stream) bool {
	switch r.Stream {
	case "stdout":
		return s == Stdout
	case "stderr":
		return s == Stderr
	}
	return true
}
