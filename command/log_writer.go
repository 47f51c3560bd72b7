package command

import (
	"bytes"
	"io"
	"sync"
)

// maxLogLine is the longest piece of a line that is held back to be written in one go.
const maxLogLine = 64 << 10

// lineWriter merges the output of several instances line by line. Its writers may be used at once.
type lineWriter struct {
	mu  sync.Mutex
	out io.Writer
	// safe makes what would disturb a terminal visible, colours excepted; into files and pipes every byte goes as it is.
	safe bool
}

// prefixed returns a writer that puts prefix before each line. Its Close writes what is left of a last line that never
// ended.
func (w *lineWriter) prefixed(prefix string) io.WriteCloser {
	return &prefixWriter{to: w, prefix: prefix}
}

type prefixWriter struct {
	to      *lineWriter
	prefix  string
	partial []byte
}

// Write implements io.Writer.
func (p *prefixWriter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			p.partial = append(p.partial, b...)
			if len(p.partial) < maxLogLine {
				return n, nil
			}
			b = nil
		} else {
			p.partial = append(p.partial, b[:end]...)
			b = b[end+1:]
		}
		if err := p.flush(); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// Close implements io.Closer.
func (p *prefixWriter) Close() error {
	if len(p.partial) == 0 {
		return nil
	}
	return p.flush()
}

func (p *prefixWriter) flush() error {
	line := p.partial
	p.partial = p.partial[:0]
	p.to.mu.Lock()
	defer p.to.mu.Unlock()
	text := string(line)
	if p.to.safe {
		text = printableColours(text)
	}
	_, err := io.WriteString(p.to.out, p.prefix+text+"\n")
	return err
}
