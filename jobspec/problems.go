package jobspec

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"

	"cube/api"
)

const (
	maxProblems  = 10  // shown of one file: who has more begins with these
	maxShownLine = 160 // bytes of a source line that a message shows
	maxDetail    = 300 // bytes of a sentence of the HCL library
	maxText      = 800 // bytes of a sentence
	maxCounted   = 500 // faults after which nothing more is looked for
)

// problem is one fault of a text, at its place.
type problem struct {
	place hcl.Range
	text  string
	code  api.Code
}

// problems collects the faults of a text.
type problems struct {
	file   string
	src    []byte
	list   []problem
	faults int // grows with each fault, and with each thing that another fault made useless
}

// addf records a fault at its place. The sentence is lower case, without the place and without a full stop.
func (p *problems) addf(place hcl.Range, format string, args ...any) {
	p.add(place, api.CodeInvalid, fmt.Sprintf(format, args...))
}

func (p *problems) add(place hcl.Range, code api.Code, text string) {
	p.faults++
	p.list = append(p.list, problem{place, text, code})
}

// full reports whether there are so many faults that it is not worth looking for others.
func (p *problems) full() bool { return len(p.list) >= maxCounted }

// addHCL records what the HCL library found.
func (p *problems) addHCL(diags hcl.Diagnostics) {
	for _, d := range diags {
		place := hcl.Range{Start: hcl.InitialPos}
		if d.Subject != nil {
			place = *d.Subject
		}
		text := lowerFirst(d.Summary)
		if d.Detail != "" {
			text += ": " + lowerFirst(cut(strings.Join(strings.Fields(d.Detail), " "), maxDetail))
		}
		p.addf(place, "%s", strings.TrimSuffix(text, "."))
	}
}

// at is the place of a byte of the text.
func (p *problems) at(offset int) hcl.Range {
	before := p.src[:offset]
	start := bytes.LastIndexByte(before, '\n') + 1
	pos := hcl.Pos{Line: bytes.Count(before, []byte("\n")) + 1, Column: utf8.RuneCount(before[start:]) + 1, Byte: offset}
	return hcl.Range{Filename: p.file, Start: pos, End: pos}
}

// sorted are all faults, in the order of the text, each once.
func (p *problems) sorted() []problem {
	list := slices.Clone(p.list)
	slices.SortStableFunc(list, func(a, b problem) int { return cmp.Compare(a.place.Start.Byte, b.place.Start.Byte) })
	return slices.Compact(list)
}

// err makes one error of all faults, in the order of the text; nil if there are none.
func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	list := p.sorted()
	code := api.CodeNotYet
	var b strings.Builder
	for i, one := range list {
		if one.code != api.CodeNotYet {
			code = api.CodeInvalid
		}
		if i < maxProblems {
			p.write(&b, one)
		}
	}
	if n := len(list) - maxProblems; p.full() {
		fmt.Fprintf(&b, "and many more\n")
	} else if n > 0 {
		fmt.Fprintf(&b, "and %d more\n", n)
	}
	return &api.Error{Code: code, Message: strings.TrimSuffix(b.String(), "\n")}
}

// write shows a fault: its place and what is wrong, then the source line and a line that points at it.
func (p *problems) write(b *strings.Builder, one problem) {
	start, end := one.place.Start.Byte, one.place.End.Byte
	fmt.Fprintf(b, "%s:%d:%d: %s\n", p.file, one.place.Start.Line, one.place.Start.Column, visible(cut(one.text, maxText)))
	if start > len(p.src) || end <= start {
		return // it is about the whole text
	}
	from := bytes.LastIndexByte(p.src[:start], '\n') + 1
	to := len(p.src)
	if i := bytes.IndexByte(p.src[start:], '\n'); i >= 0 {
		to = start + i
	}
	if start-from > maxShownLine/2 {
		from = start - maxShownLine/2
	}
	to = min(to, from+maxShownLine)
	line := strings.TrimRight(string(p.src[from:to]), "\r")
	if strings.TrimSpace(line) == "" {
		return
	}
	width := utf8.RuneCount(p.src[start:max(start, min(to, end))])
	fmt.Fprintf(b, "    %s\n    %s%s\n", visible(line), blank(p.src[from:start]), strings.Repeat("^", max(width, 1)))
}

// blank is as wide as s on a screen.
func blank(s []byte) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, string(s))
}

// visible replaces what a terminal would act on rather than show, such as escapes and signs that turn the direction of
// writing, one for one.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return r
		case r < 0x20, r >= 0x7f && r < 0xa0, r == 0x061c, r == 0x200e, r == 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return utf8.RuneError
		}
		return r
	}, s)
}

func lowerFirst(s string) string {
	if len(s) > 1 && s[0] >= 'A' && s[0] <= 'Z' && (s[1] < 'A' || s[1] > 'Z') {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

// cut shortens s to about n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + " ..."
}

// didYouMean is the hint for a word that is not one of those there are: "" if none is close.
func didYouMean(word string, words []string) string {
	if len(word) > api.MaxNameLength {
		return ""
	}
	best, least := "", min(3, (len(word)+2)/3+1)
	for _, w := range slices.Sorted(slices.Values(words)) {
		if d := distance(word, w, least); d < least {
			best, least = w, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is how many letters must be added, dropped, replaced or swapped with their neighbour to make b of a (optimal
// string alignment), or limit if their lengths already differ so much.
func distance(a, b string, limit int) int {
	if max(len(a), len(b))-min(len(a), len(b)) >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			differ := 1
			if a[i-1] == b[j-1] {
				differ = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+differ)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
