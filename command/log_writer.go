package command

import "bytes"

// maxLogLine is the longest piece of a line that is held back to be written in one go. Lines with their times come in
// pieces of at most 80 KiB.
const maxLogLine = 96 << 10

// lineSplitter hands on what is written to it line by line, without line breaks. The bytes are valid during the call.
type lineSplitter struct {
	each    func(line []byte) error
	partial []byte
}

// Write implements io.Writer.
func (s *lineSplitter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			s.partial = append(s.partial, b...)
			if len(s.partial) < maxLogLine {
				return n, nil
			}
			b = nil
		} else {
			s.partial = append(s.partial, b[:end]...)
			b = b[end+1:]
		}
		if err := s.flush(); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// Close hands on what is left of a last line that never ended.
func (s *lineSplitter) Close() error {
	if len(s.partial) == 0 {
		return nil
	}
	return s.flush()
}

func (s *lineSplitter) flush() error {
	line := s.partial
	s.partial = s.partial[:0]
	return s.each(line)
}
