package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"unicode/utf8"

	"cube/api"
)

var (
	errIsDirectory = errors.New("it is a directory; name a file")
	errEmptySource = errors.New("it is empty; 'cube task init' writes an example")
)

// plainPathError takes the path and the system call out of a file error: the path stands in "Error <doing what>" already.
func plainPathError(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// readSource reads a task file, or standard input for "-". It takes pipes as well as files, reads no more than a
// submission may hold, and refuses what cannot be a task file.
func readSource(stdin io.Reader, path string) (name string, source []byte, err error) {
	in, name := stdin, "<stdin>"
	if path != "-" {
		f, err := openFile(path)
		if err != nil {
			return "", nil, failed(err, "reading %q", path)
		}
		defer f.Close()
		in, name = f, path
	}
	source, err = io.ReadAll(io.LimitReader(in, api.MaxSourceBytes+1))
	switch {
	case err != nil:
		err = plainPathError(err)
	case len(source) > api.MaxSourceBytes:
		err = fmt.Errorf("it is over %d bytes, more than a task file may have", api.MaxSourceBytes)
	case len(bytes.TrimSpace(source)) == 0:
		err = errEmptySource
	default:
		err = checkUTF8(name, source)
	}
	if err != nil {
		return "", nil, failed(err, "reading %q", path)
	}
	return name, source, nil
}

// checkUTF8 refuses what JSON cannot carry: other characters would arrive in place of such bytes.
func checkUTF8(name string, source []byte) error {
	line, column := 1, 1
	for rest := source; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			return fmt.Errorf("%s:%d:%d: the text holds bytes that are not UTF-8", name, line, column)
		case r == '\n':
			line, column = line+1, 0
		}
		column++
		rest = rest[size:]
	}
	return nil
}

// openFile opens anything but a directory.
func openFile(path string) (io.ReadCloser, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, plainPathError(err)
	}
	if info.IsDir() {
		return nil, errIsDirectory
	}
	f, err := os.Open(path)
	return f, plainPathError(err)
}
