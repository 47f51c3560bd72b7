package transcript

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const outputPrefix, outputSuffix = "output-", ".log"

func outputName(n int) string { return fmt.Sprintf("%s%06d%s", outputPrefix, n, outputSuffix) }

// Writer writes the output of one instance to files in a directory. When a file is full the next one is begun, and the
// oldest is deleted. It is safe for concurrent use.
type Writer struct {
	dir   *os.Root
	size  int // of a file, at most
	files int // at most

	mu      sync.Mutex
	number  int // of the file that is written
	written int
	file    *os.File
	encoder encoder
	buffer  []byte
}

// NewWriter begins the first file. The directory is the caller's, and stays open at least until Close.
func NewWriter(dir *os.Root, size, files int) (*Writer, error) {
	w := &Writer{dir: dir, size: size, files: files}
	if err := w.next(); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *Writer) next() error {
	f, err := w.dir.OpenFile(outputName(w.number+1), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("begin a file for output: %w", err)
	}
	if w.file != nil {
		w.file.Close()
	}
	w.file, w.written, w.encoder = f, 0, encoder{}
	w.number++
	if old := w.number - w.files; old > 0 {
		if err := w.dir.Remove(outputName(old)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete old output: %w", err)
		}
	}
	return nil
}

// Write appends what a stream printed just now. After an error, such as a full disk, it may be called again.
func (w *Writer) Write(s Stream, p []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.written >= w.size {
		if err := w.next(); err != nil {
			return err
		}
	}
	w.buffer = w.buffer[:0]
	err := Split(s, time.Now(), p, func(r Record) error {
		w.buffer = w.encoder.append(w.buffer, r)
		return nil
	})
	if err != nil {
		return err
	}
	n, err := w.file.Write(w.buffer)
	w.written += n
	if err != nil {
		w.written = w.size // a piece of a record may be there: nothing may follow it in this file
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// Close closes the file.
func (w *Writer) Close() error { return w.file.Close() }

// Output reads what a Writer writes, also while it does.
type Output struct {
	dir    string
	number int // of the open file
	file   *os.File
	reader *Reader
}

// OpenOutput reads the files of a Writer in dir, from the oldest on.
func OpenOutput(dir string) *Output { return &Output{dir: dir} }

// Each calls each with the records that have come since the last call.
func (o *Output) Each(each func(Record) error) error {
	for {
		if o.reader != nil {
			if err := o.drain(each); err != nil {
				return err
			}
		}
		next, err := o.newer()
		if err != nil || next == 0 {
			return err
		}
		// The open file may have grown between its end and the moment when the next one was seen: then it is complete.
		if o.reader != nil {
			if err := o.drain(each); err != nil {
				return err
			}
			o.file.Close()
			o.reader = nil
		}
		f, err := os.Open(filepath.Join(o.dir, outputName(next)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile: there is one newer still
		}
		if err != nil {
			return fmt.Errorf("open output: %w", err)
		}
		o.file, o.reader, o.number = f, NewReader(f), next
	}
}

func (o *Output) drain(each func(Record) error) error {
	for {
		r, err := o.reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(r); err != nil {
			return err
		}
	}
}

// newer is the number of the oldest file that is newer than the open one, 0 for none.
func (o *Output) newer() (int, error) {
	entries, err := os.ReadDir(o.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look for output: %w", err)
	}
	var numbers []int
	for _, e := range entries {
		middle := strings.TrimSuffix(strings.TrimPrefix(e.Name(), outputPrefix), outputSuffix)
		if n, err := strconv.Atoi(middle); err == nil && e.Name() == outputName(n) && n > o.number {
			numbers = append(numbers, n)
		}
	}
	if len(numbers) == 0 {
		return 0, nil
	}
	return slices.Min(numbers), nil
}

// Close closes the open file.
func (o *Output) Close() error {
	if o.file == nil {
		return nil
	}
	return o.file.Close()
}
