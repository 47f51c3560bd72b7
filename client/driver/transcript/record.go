// Package transcript is how drivers keep what instances print on disk: both streams in one file, in the order in which
// they came, as text that people can read too.
//
// A file is a sequence of lines. The first character is the stream, 1 for stdout and 2 for stderr; the second is a
// space when the rest is a whole line of output, and a + when it is a piece of one, with no line break at its end.
//
// A line such as @2026-11-23T10:05:01.123Z says when the output after it came. There is one only where the millisecond is
// another: most programs write little, and one that writes much has many lines of the same moment. An agent from before
// there were such lines passes over them, as over all that are no records; and output before the first one, of a
// supervisor from before, has no known time. So an agent and a supervisor of different versions understand each other.
package transcript

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
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
	At     time.Time // when it came; files keep milliseconds. Zero: not known
	Text   []byte
}

// Whole reports whether the record ends a line.
func (r Record) Whole() bool { return len(r.Text) > 0 && r.Text[len(r.Text)-1] == '\n' }

const (
	timeMark   = '@'
	timeFormat = "2006-01-02T15:04:05.000Z"
)

// encoder writes records as files have them. Each file has one of its own.
type encoder struct{ at time.Time } // of the record before

// append writes the record behind b.
func (e *encoder) append(b []byte, r Record) []byte {
	if at := r.At.Truncate(time.Millisecond); !r.At.IsZero() && !at.Equal(e.at) {
		e.at = at
		b = append(at.UTC().AppendFormat(append(b, timeMark), timeFormat), '\n')
	}
	b = append(b, byte(r.Stream))
	if r.Whole() {
		return append(append(b, ' '), r.Text...)
	}
	return append(append(append(b, '+'), r.Text...), '\n')
}

// Split makes records of what a stream printed at a time. The texts are parts of p.
func Split(s Stream, at time.Time, p []byte, each func(Record) error) error {
	for len(p) > 0 {
		n := min(len(p), maxText)
		if i := bytes.IndexByte(p[:n], '\n'); i >= 0 {
			n = i + 1
		}
		if err := each(Record{Stream: s, At: at, Text: p[:n]}); err != nil {
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
	at   time.Time
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
		if line[0] == timeMark {
			if at, err := time.Parse(timeFormat, string(line[1:len(line)-1])); err == nil {
				r.at = at
			}
			continue
		}
		if record, ok := parse(line); ok {
			record.At = r.at
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
		return Record{Stream: s, Text: line[2:]}, true
	case '+':
		return Record{Stream: s, Text: line[2 : len(line)-1]}, true
	}
	return Record{}, false
}
