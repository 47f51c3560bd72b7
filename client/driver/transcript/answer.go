package transcript

import (
	"io"
	"time"

	"cube/api"
)

// maxLine is how much of a line is held back until its end comes, where lines must be whole.
const maxLine = 64 << 10

// Answer writes what answers a request for output. It is given all records there are, oldest first; it picks those that
// are asked for, and writes the last ones of the past in front of what comes later. It holds no more than a Tail does,
// and nothing when all of the past is asked for.
type Answer struct {
	to      io.Writer
	request api.LogRequest
	past    *Tail // nil: what is added is written at once
	lines   map[Stream]*line
}

// line is the line that a stream is at.
type line struct {
	open    bool // its end has not come
	skipped bool // it was begun before the time that is asked for
	at      time.Time
	held    []byte // of a line that is written whole
	broken  bool   // a piece of it was written as a line: it was too long
}

// NewAnswer begins an answer.
func NewAnswer(to io.Writer, r api.LogRequest) *Answer {
	a := &Answer{to: to, request: r, lines: map[Stream]*line{Stdout: {}, Stderr: {}}}
	if r.Tail >= 0 {
		a.past = LastLines(r.Tail)
	}
	return a
}

// Add takes the next record. Its text is copied where it is kept.
func (a *Answer) Add(r Record) error {
	if !Wanted(a.request, r.Stream) {
		return nil
	}
	l := a.lines[r.Stream]
	if !l.open {
		l.at, l.skipped = r.At, !r.At.IsZero() && r.At.Before(a.request.Since)
	}
	l.open = !r.Whole()
	switch {
	case l.skipped:
		return nil
	case a.past != nil:
		a.past.Add(r)
		return nil
	}
	return a.write(r)
}

// EndRun says that nothing more comes of the run that the records were of. Where lines must be whole, its last one ends
// here.
func (a *Answer) EndRun() error {
	for _, s := range []Stream{Stdout, Stderr} {
		l := a.lines[s]
		if l.open && a.request.Timestamps {
			if err := a.Add(Record{Stream: s, At: l.at, Text: []byte{'\n'}}); err != nil {
				return err
			}
		}
		l.open = false
	}
	return nil
}

// EndPast writes what is asked for of the records until now. Those that come later are written at once.
func (a *Answer) EndPast() error {
	past := a.past
	if past == nil {
		return nil
	}
	a.past = nil
	for _, r := range past.Records() {
		if err := a.write(r); err != nil {
			return err
		}
	}
	return nil
}

func (a *Answer) write(r Record) error {
	if !a.request.Timestamps {
		_, err := a.to.Write(r.Text)
		return err
	}
	l := a.lines[r.Stream]
	if len(l.held) == 0 {
		if l.broken && len(r.Text) == 1 && r.Whole() { // its end, alone
			l.broken = false
			return nil
		}
		l.held = api.AppendLogTime(l.held, r.At)
	}
	l.held = append(l.held, r.Text...)
	l.broken = !r.Whole() && len(l.held) >= maxLine
	switch {
	case l.broken:
		l.held = append(l.held, '\n')
	case !r.Whole():
		return nil
	}
	_, err := a.to.Write(l.held)
	l.held = l.held[:0]
	return err
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
