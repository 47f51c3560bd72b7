package convert

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// composeVariable is what ${NAME} stands for in a Compose file: a variable of the task file.
type composeVariable struct {
	name     string
	line     int      // where it is first met
	defaults []string // the literal ones that its uses give, each once
	derived  bool     // a use makes something of it that needs to know whether it was given
	message  string   // of ${NAME:?message}
	number   bool     // it stands where only a number may
	used     bool
	plain    bool // it is used where a sensitive variable may not be
}

// hasDefault reports whether the variable need not be given, and what it is then.
func (v *composeVariable) hasDefault() (string, bool) {
	switch {
	case len(v.defaults) == 1 && !v.derived:
		return v.defaults[0], true
	case len(v.defaults) > 0 || v.derived:
		return "", true
	}
	return "", false
}

// reference is one ${...} of a Compose text.
type reference struct {
	name     string
	operator string // "", ":-", "-", ":?", "?", ":+" or "+"
	word     string // after it, with references of its own
}

// scan divides a text into literals and references. ok is false where a $ begins nothing that Compose knows; it then stands
// for itself.
func scan(s string) (parts []any, ok bool) {
	if strings.Count(s, "${") > maxReferences { // each may be looked for to the end of the text
		return []any{s}, false
	}
	ok = true
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			parts = append(parts, b.String())
			b.Reset()
		}
	}
	for len(s) > 0 {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:i])
		s = s[i:]
		switch name := leadingName(s[1:]); {
		case strings.HasPrefix(s, "$$"):
			b.WriteByte('$')
			s = s[2:]
		case name != "":
			flush()
			parts = append(parts, reference{name: name})
			s = s[1+len(name):]
		default:
			ref, n := braced(s)
			if n == 0 {
				ok = false
				b.WriteByte('$')
				s = s[1:]
				continue
			}
			flush()
			parts = append(parts, ref)
			s = s[n:]
		}
	}
	flush()
	return parts, ok
}

func leadingName(s string) string {
	for i, r := range s {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return s[:i]
		}
	}
	return s
}

// braced reads ${NAME}, ${NAME:-word} and the like, and returns how long it is; 0 if it is none of them.
func braced(s string) (reference, int) {
	if !strings.HasPrefix(s, "${") {
		return reference{}, 0
	}
	name := leadingName(s[2:])
	rest := s[2+len(name):]
	if name == "" || rest == "" {
		return reference{}, 0
	}
	if rest[0] == '}' {
		return reference{name: name}, 3 + len(name)
	}
	for _, operator := range []string{":-", ":?", ":+", "-", "?", "+"} {
		word, ok := strings.CutPrefix(rest, operator)
		if !ok {
			continue
		}
		for i, depth := 0, 0; i < len(word); i++ {
			switch {
			case strings.HasPrefix(word[i:], "${"):
				depth++
			case word[i] == '}' && depth > 0:
				depth--
			case word[i] == '}':
				return reference{name, operator, word[:i]}, 2 + len(name) + len(operator) + i + 1
			}
		}
	}
	return reference{}, 0
}

// learn notes what the references of a text say of their variables, before any of them is written.
func (c *compose) learn(s string, line, depth int) {
	if depth > maxDepth {
		return
	}
	parts, _ := scan(s)
	for _, p := range parts {
		ref, ok := p.(reference)
		if !ok {
			continue
		}
		v := c.variable(ref.name, line)
		switch ref.operator {
		case ":-", "-":
			if word, _ := scan(ref.word); len(word) > 1 || len(word) == 1 && !isText(word[0]) {
				v.derived = true
			} else if d := unescaped(word); !slices.Contains(v.defaults, d) {
				v.defaults = append(v.defaults, d)
			}
		case ":+", "+":
			v.derived = true
		case ":?", "?":
			v.message = ref.word
		}
		c.learn(ref.word, line, depth+1)
	}
}

func isText(p any) bool { _, ok := p.(string); return ok }

func unescaped(word []any) string {
	if len(word) == 0 {
		return ""
	}
	return word[0].(string)
}

func (c *compose) variable(name string, line int) *composeVariable {
	v := c.variables[name]
	if v == nil {
		v = &composeVariable{name: name, line: line}
		c.variables[name] = v
		c.order = append(c.order, v)
	}
	return v
}

// text turns a Compose text into one of a task file. secret says that sensitive variables may stand there.
func (c *compose) text(t *tree, secret bool) text { return c.fill(t.text, t.line, secret, 0) }

func (c *compose) fill(s string, line int, secret bool, depth int) text {
	parts, ok := scan(s)
	if !ok && depth == 0 {
		c.find(line, strconv.Quote(short(s)), "a $ that begins no variable is taken as it is", "write $$ for it")
	}
	out := text{}
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			out = append(out, part{literal: p})
		case reference:
			out = append(out, part{expression: c.expression(p, line, secret, depth)})
		}
	}
	if len(out) == 0 {
		out = literal("")
	}
	return out
}

// expression writes one reference.
func (c *compose) expression(ref reference, line int, secret bool, depth int) string {
	v := c.variable(ref.name, line)
	v.used, v.plain = true, v.plain || !secret
	name := "var." + identifier(ref.name)
	if depth > 8 { // nobody writes it, and Cube's own limit is near
		return name
	}
	empty := name + ` == ""`
	switch ref.operator {
	case ":-", "-":
		if _, simple := v.hasDefault(); !simple || v.derived || len(v.defaults) > 1 {
			return empty + " ? " + c.fill(ref.word, line, secret, depth+1).String() + " : " + name
		}
	case ":+", "+":
		return empty + ` ? "" : ` + c.fill(ref.word, line, secret, depth+1).String()
	}
	return name
}

func identifier(name string) string {
	if !hclsyntax.ValidIdentifier(name) {
		return "v" + name
	}
	return name
}

// resolved is a text with the defaults of its variables filled in, for places where a task file takes no variable or writes
// the value in another way. ok is false where a variable has none, or defaults depend on others too deeply.
func (c *compose) resolved(s string, depth int) (string, bool) {
	if depth > 8 {
		return "", false
	}
	parts, _ := scan(s)
	var b strings.Builder
	for _, p := range parts {
		ref, isRef := p.(reference)
		if !isRef {
			b.WriteString(p.(string))
			continue
		}
		switch ref.operator {
		case ":-", "-":
			word, ok := c.resolved(ref.word, depth+1)
			if !ok {
				return "", false
			}
			b.WriteString(word)
		case ":+", "+":
		default:
			d, ok := c.variable(ref.name, 1).hasDefault()
			if !ok {
				return "", false
			}
			b.WriteString(d)
		}
	}
	return b.String(), true
}

// plain returns a scalar as it is, with variables replaced by their defaults, and says so. ok is false where that cannot be.
func (c *compose) plain(t *tree, what string) (string, bool) {
	if !t.isScalar() {
		c.find(t.line, what, "a plain value is expected here", "")
		return "", false
	}
	s, ok := c.resolved(t.text, 0)
	parts, _ := scan(t.text)
	refers := slices.ContainsFunc(parts, func(p any) bool { return !isText(p) })
	switch {
	case !ok:
		c.find(t.line, what, "left out: "+short(t.text)+" has no default, and a variable cannot stand here", "write the value")
	case refers:
		c.find(t.line, what, "fixed at its default, "+short(s), "Cube has another notation for it: change it in the task file")
	}
	return s, ok
}

// number writes a whole number, which may be a variable.
func (c *compose) number(t *tree, what string) (string, bool) {
	if t.isScalar() {
		if parts, _ := scan(t.text); len(parts) == 1 {
			if ref, ok := parts[0].(reference); ok {
				v := c.variable(ref.name, t.line)
				d, given := v.hasDefault()
				_, err := strconv.Atoi(d)
				if !v.derived && len(v.defaults) <= 1 && (!given || err == nil) {
					v.number, v.used, v.plain = true, true, true
					return "var." + identifier(ref.name), true
				}
			}
		}
	}
	s, ok := c.plain(t, what)
	if !ok {
		return "", false
	}
	n, err := strconv.Atoi(strings.ReplaceAll(s, "_", ""))
	if err != nil {
		c.find(t.line, what, "left out: "+short(s)+" is no whole number", "")
		return "", false
	}
	return strconv.Itoa(n), true
}

// declare writes the variables that are used before everything else, and returns values with which the file can be read.
func (c *compose) declare() map[string]string {
	given := map[string]string{}
	var blocks []*node
	for _, v := range c.order {
		if !v.used {
			continue
		}
		b := (&node{}).block("variable", identifier(v.name), v.line)
		b.what = "${" + v.name + "}"
		d, ok := v.hasDefault()
		if v.number {
			b.attr("type", "number", v.line)
		}
		if v.message != "" {
			b.attr("description", quote(v.message), v.line)
		}
		switch {
		case ok && v.number:
			n, _ := strconv.Atoi(d) // it is one, see number
			b.attr("default", strconv.Itoa(n), v.line)
		case ok:
			b.attr("default", quote(d), v.line)
		default:
			if !v.plain && secretName(v.name) {
				b.attr("sensitive", "true", v.line)
			}
			given[b.label] = "1"
			if v.number {
				given[b.label] = strconv.Itoa(1 + len(given)) // each another: two ports are not the same one
			}
		}
		blocks = append(blocks, b)
	}
	c.draft.children = append(blocks, c.draft.children...)
	return given
}

// secretName reports whether a variable is called as what people keep to themselves.
func secretName(name string) bool {
	return regexp.MustCompile(`(?i)(^|_)(pass|passwd|password|passphrase|secret|token|(api|access|private|secret|encryption)_?key|credentials?)(_|$)`).MatchString(name)
}

func short(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
