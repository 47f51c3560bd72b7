package transcript

import "slices"

// Tail remembers the last lines, or the last bytes of each stream, of the records it is given. Copies are its own.
type Tail struct {
	lines   int // at most so many; below 0: no bound
	size    int // at most so many bytes of each stream; below 0: no bound
	records []Record
	first   int // records before it are dropped
	whole   int // lines among records[first:]
	bytes   map[Stream]int
}

// maxTail bounds what is held of lines that somebody asks for by their number: a slip of the finger is not to take an
// agent's memory.
const maxTail = 16 << 20

// LastLines remembers the last n lines, and of longer ones the last 16 MiB of each stream.
func LastLines(n int) *Tail { return &Tail{lines: n, size: maxTail, bytes: map[Stream]int{}} }

// LastBytes remembers about the last n bytes of each stream, in whole records.
func LastBytes(n int) *Tail { return &Tail{lines: -1, size: n, bytes: map[Stream]int{}} }

// Add adds a record.
func (t *Tail) Add(r Record) {
	r.Text = slices.Clone(r.Text)
	t.records = append(t.records, r)
	t.bytes[r.Stream] += len(r.Text)
	if r.Whole() {
		t.whole++
	}
	if t.lines >= 0 {
		for t.first < len(t.records) && t.over() {
			t.drop()
		}
	}
	if t.size >= 0 && t.bytes[r.Stream] > 2*t.size { // not at each record: it looks at all of them
		t.trim()
	}
	if t.first > 1024 && t.first > len(t.records)/2 {
		t.records, t.first = slices.Clone(t.records[t.first:]), 0
	}
}

// over reports whether there are more lines than asked for. A line that is not at its end yet is one too.
func (t *Tail) over() bool {
	n := t.whole
	if !t.records[len(t.records)-1].Whole() {
		n++
	}
	return n > t.lines
}

func (t *Tail) drop() {
	r := t.records[t.first]
	t.bytes[r.Stream] -= len(r.Text)
	if r.Whole() {
		t.whole--
	}
	t.records[t.first] = Record{}
	t.first++
}

// trim drops the oldest records of each stream that has more bytes than asked for.
func (t *Tail) trim() {
	kept := t.records[t.first:]
	t.records, t.first = slices.DeleteFunc(kept, func(r Record) bool {
		if t.bytes[r.Stream] <= t.size {
			return false
		}
		t.bytes[r.Stream] -= len(r.Text)
		if r.Whole() {
			t.whole--
		}
		return true
	}), 0
}

// Records returns what is remembered, oldest first.
func (t *Tail) Records() []Record {
	if t.size >= 0 {
		t.trim()
	}
	return t.records[t.first:]
}
