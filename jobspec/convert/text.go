package convert

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// text is a text of a task file in which some parts are filled in later.
type text []part

// part is a piece of text as it is, or an expression.
type part struct {
	literal    string
	expression string // of HCL, without ${}
	atStart    bool   // it is known only when an instance starts: it stands in quotes even by itself
}

func literal(s string) text { return text{{literal: s}} }

// String writes the text as an expression of HCL.
func (t text) String() string {
	if len(t) == 1 && t[0].expression != "" && !t[0].atStart {
		return t[0].expression
	}
	var b strings.Builder
	b.WriteByte('"')
	for i, p := range t {
		if p.expression != "" {
			b.WriteString("${" + p.expression + "}")
			continue
		}
		s := p.literal
		dollars := 0
		if i+1 < len(t) { // $ before ${ would be the escape for ${
			dollars = len(s) - len(strings.TrimRight(s, "$"))
			s = s[:len(s)-dollars]
		}
		b.WriteString(escape(s) + strings.Repeat(`\u0024`, dollars))
	}
	b.WriteByte('"')
	return b.String()
}

// quote writes a text as an expression of HCL that stands for it and nothing else.
func quote(s string) string { return `"` + escape(s) + `"` }

func escape(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case (r == '$' || r == '%') && strings.HasPrefix(s[i+1:], "{"):
			b.WriteRune(r)
			b.WriteRune(r)
		case (r == '$' || r == '%') && strings.HasPrefix(s[i+1:], string(r)):
			fmt.Fprintf(&b, `\u%04x`, r) // a row of them before { would be read from its other end
		case r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// list writes expressions as a list.
func list(items []string) string { return "[" + strings.Join(items, ", ") + "]" }

func expressions(texts []text) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = t.String()
	}
	return out
}

// pair is an entry of a map.
type pair struct {
	key   string
	value string // an expression
	line  int
}

// pairs writes a map: a block where all names may stand in one, else an attribute.
func (n *node) pairs(key string, entries []pair, line int) {
	if len(entries) == 0 {
		return
	}
	plain := !slices.ContainsFunc(entries, func(p pair) bool { return !hclsyntax.ValidIdentifier(p.key) })
	if plain {
		b := n.one(key, line)
		b.free = true
		for _, p := range entries {
			b.attr(p.key, p.value, p.line)
		}
		return
	}
	var b strings.Builder
	b.WriteString("{\n")
	for _, p := range entries {
		b.WriteString(quote(p.key) + " = " + p.value + "\n")
	}
	n.attr(key, b.String()+"}", line)
}

// printable is a text without what a terminal would act on, on one line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x202e || r == 0xfffd || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, s)
}

// words divides a command line as a shell would, without running anything: quotes hold words together, a backslash takes
// the next character as it is. ${...} is left for later. ok is false where a quote is not closed.
func words(s string) (list []string, ok bool) {
	var b strings.Builder
	var open rune
	inWord, escaped, depth := false, false, 0
	for i, r := range s {
		switch {
		case escaped:
			b.WriteRune(r)
			escaped = false
		case r == '\\' && open != '\'':
			escaped, inWord = true, true
		case open != 0 && r == open:
			open = 0
		case open == 0 && depth == 0 && (r == '"' || r == '\''):
			open, inWord = r, true
		case open == 0 && depth == 0 && (r == ' ' || r == '\t' || r == '\n' || r == '\r'):
			if inWord {
				list = append(list, b.String())
				b.Reset()
			}
			inWord = false
		default:
			if r == '{' && (depth > 0 || i > 0 && s[i-1] == '$') {
				depth++
			} else if r == '}' && depth > 0 {
				depth--
			}
			b.WriteRune(r)
			inWord = true
		}
	}
	if inWord {
		list = append(list, b.String())
	}
	return list, open == 0 && !escaped
}
