package jobspec

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"cube/api"
)

// body reads the attributes and blocks of one block. What is asked for is what is known: finish refuses the rest.
type body struct {
	p      *parser
	block  *hclsyntax.Block
	what   string   // how a message calls it
	before int      // faults of the file when it was opened
	attrs  []string // asked for
	blocks []string
	hints  map[string]string // key -> where it belongs instead

	finished bool
}

func (p *parser) open(block *hclsyntax.Block, what string) *body {
	return &body{p: p, block: block, what: what, before: p.faults, hints: map[string]string{}}
}

// faulty reports whether something was found wrong since the body was opened.
func (b *body) faulty() bool { return b.p.faults > b.before }

// attributes lists a body's attributes in the order of the text.
func attributes(b *hclsyntax.Body) []*hclsyntax.Attribute {
	return slices.SortedFunc(maps.Values(b.Attributes), func(a, b *hclsyntax.Attribute) int {
		return cmp.Compare(a.SrcRange.Start.Byte, b.SrcRange.Start.Byte)
	})
}

// label returns the one label of a block.
func (p *parser) label(b *hclsyntax.Block) (string, bool) {
	if len(b.Labels) != 1 {
		p.addf(b.DefRange(), "%s takes one name, as in %s \"name\" { ... }", b.Type, b.Type)
		return "", false
	}
	return b.Labels[0], true
}

// attr returns an attribute, nil if it is not there.
func (b *body) attr(name string) *hclsyntax.Attribute {
	if !slices.Contains(b.attrs, name) {
		b.attrs = append(b.attrs, name)
	}
	return b.block.Body.Attributes[name]
}

// value evaluates an attribute. ok is false when it is not there or wrong.
func (b *body) value(name string, may allowed) (v cty.Value, place hcl.Range, ok bool) {
	a := b.attr(name)
	if a == nil {
		return cty.NilVal, place, false
	}
	place = a.Expr.Range()
	if v, ok = b.p.value(a.Expr, may); ok && v.IsNull() {
		b.p.addf(place, "%s is null; leave it out to get the default", name)
		ok = false
	}
	return v, place, ok
}

// typed evaluates an attribute that must be of a type as it is.
func (b *body) typed(name string, kind cty.Type, may allowed) (v cty.Value, place hcl.Range, ok bool) {
	if v, place, ok = b.value(name, may); ok && v.Type() != kind {
		b.p.addf(place, "%s takes %s, not %s", name, kindName(kind), kindName(v.Type()))
		ok = false
	}
	return v, place, ok
}

func (b *body) text(name string, to *string) bool { return b.textWith(name, to, 0) }

func (b *body) textWith(name string, to *string, may allowed) bool {
	v, _, ok := b.typed(name, cty.String, may)
	if ok {
		*to = v.AsString()
	}
	return ok
}

func (b *body) flag(name string, to *bool) {
	if v, _, ok := b.typed(name, cty.Bool, 0); ok {
		*to = v.True()
	}
}

// whole reads a whole number from least to most.
func (b *body) whole(name string, to *int, least, most int) bool {
	v, place, ok := b.typed(name, cty.Number, 0)
	if !ok {
		return false
	}
	n, exact := v.AsBigFloat().Int64()
	if exact != big.Exact {
		b.p.addf(place, "%s takes a whole number, not %s", name, v.AsBigFloat().Text('f', -1))
		return false
	}
	if n < int64(least) || n > int64(most) {
		b.p.addf(place, "%s %d is not from %d to %d", name, n, least, most)
		return false
	}
	*to = int(n)
	return true
}

func (b *body) duration(name string, to *time.Duration) {
	v, place, ok := b.value(name, 0)
	if !ok {
		return
	}
	if v.Type() != cty.String {
		b.p.addf(place, `%s takes a duration in quotes, such as "10s" or "1m30s"`, name)
		return
	}
	d, err := time.ParseDuration(v.AsString())
	if err != nil {
		b.p.addf(place, `%s takes a duration such as "10s" or "1m30s", not %.40q`, name, v.AsString())
		return
	}
	*to = d
}

// texts reads a list of texts; numbers and booleans in it are written out.
func (b *body) texts(name string, to *[]string, may allowed) {
	v, place, ok := b.value(name, may)
	if !ok {
		return
	}
	if t := v.Type(); !t.IsTupleType() && !t.IsListType() {
		b.p.addf(place, `%s takes a list such as ["a", "b"], not %s`, name, kindName(t))
		return
	}
	var list []string
	for it := v.ElementIterator(); it.Next(); {
		_, element := it.Element()
		s, err := written(element)
		if err != nil {
			b.p.addf(place, "%s[%d] %s", name, len(list), err)
			return
		}
		list = append(list, s)
	}
	*to = list
}

// written is a text, a number or a boolean as text.
func written(v cty.Value) (string, error) {
	if v.IsNull() || !v.Type().IsPrimitiveType() {
		return "", fmt.Errorf("takes a text, not %s", cmp.Or(map[bool]string{true: "null"}[v.IsNull()], kindName(v.Type())))
	}
	if v.Type() == cty.Number {
		if n, exact := v.AsBigFloat().Int64(); exact == big.Exact {
			return strconv.FormatInt(n, 10), nil // a hundred times as fast as writing out 512 bits
		}
	}
	s, err := convert.Convert(v, cty.String)
	if err != nil {
		return "", err
	}
	return s.AsString(), nil
}

// pairs reads a map of texts, as an attribute or as a block. The keys whose values are sensitive are returned, sorted.
func (b *body) pairs(name string, to *map[string]string, may allowed) (secret []string) {
	out := map[string]string{}
	set := func(key string, v cty.Value, place hcl.Range) {
		v, marks := v.Unmark()
		if len(marks) > 0 {
			secret = append(secret, key)
		}
		s, err := written(v)
		if err != nil {
			b.p.addf(place, "%s: %.80s %s", name, key, err)
			return
		}
		out[key] = s
	}
	b.block1(name, func(inner *body) {
		for _, a := range attributes(inner.block.Body) {
			if v, ok := b.p.value(a.Expr, may); ok {
				set(a.Name, v, a.Expr.Range())
			}
		}
		for _, c := range inner.block.Body.Blocks {
			b.p.addf(c.TypeRange, "%s holds NAME = value, not blocks", name)
		}
		inner.forget()
	})
	if v, place, ok := b.value(name, may); ok {
		switch t := v.Type(); {
		case len(out) > 0:
			b.p.addf(b.attr(name).NameRange, "%s is there both as a block and as an attribute; use one", name)
		case v.IsMarked():
			b.p.addf(place, "the names in %s are sensitive here: only values may be", name)
		case !t.IsObjectType() && !t.IsMapType():
			b.p.addf(place, `%s takes a map such as { NAME = "value" }, not %s`, name, kindName(t))
		default:
			for it := v.ElementIterator(); it.Next(); {
				k, element := it.Element()
				set(k.AsString(), element, place)
			}
		}
	}
	if len(out) > 0 {
		*to = out
	}
	slices.Sort(secret)
	return secret
}

// each reads the blocks of a type, with their labels counted.
func (b *body) each(kind string, labels int, read func(*body)) {
	b.blocks = append(b.blocks, kind)
	for _, block := range b.block.Body.Blocks {
		if block.Type != kind {
			continue
		}
		switch {
		case len(block.Labels) == labels:
			inner := b.p.open(block, kind)
			read(inner)
			inner.finish()
		case labels == 0:
			b.p.addf(block.LabelRanges[0], "%s takes no name: write %s { ... }", kind, kind)
		default:
			b.p.label(block)
		}
	}
}

// block1 reads a block that may stand there once.
func (b *body) block1(kind string, read func(*body)) {
	var first *hclsyntax.Block
	b.each(kind, 0, func(inner *body) {
		if first != nil {
			b.p.addf(inner.block.DefRange(), "%s is there already, at %s", kind, b.p.place(first.DefRange()))
			inner.forget()
			return
		}
		first = inner.block
		read(inner)
	})
}

// forget makes finish say nothing, of a block that is not read or that takes any key.
func (b *body) forget() {
	for name := range b.block.Body.Attributes {
		b.attrs = append(b.attrs, name)
	}
	for _, block := range b.block.Body.Blocks {
		b.blocks = append(b.blocks, block.Type)
	}
}

// finish refuses what nobody asked for. Who checks what was read finishes first: a key that is misspelt explains why
// another is missing.
func (b *body) finish() {
	if b.finished {
		return
	}
	b.finished = true
	known := slices.Concat(b.attrs, b.blocks)
	for _, a := range attributes(b.block.Body) {
		switch {
		case slices.Contains(b.attrs, a.Name):
		case slices.Contains(b.blocks, a.Name):
			b.p.addf(a.NameRange, "%s is a block: write %s { ... } without =", a.Name, a.Name)
		default:
			b.unknown(a.Name, a.NameRange, known)
		}
	}
	for _, block := range b.block.Body.Blocks {
		switch {
		case slices.Contains(b.blocks, block.Type):
		case slices.Contains(b.attrs, block.Type):
			b.p.addf(block.TypeRange, "%s is not a block: write %s = ...", block.Type, block.Type)
		default:
			b.unknown(block.Type, block.TypeRange, known)
		}
	}
}

func (b *body) unknown(name string, place hcl.Range, known []string) {
	if b.p.full() {
		b.p.faults++
		return
	}
	if later(name) {
		b.p.add(place, api.CodeNotYet, fmt.Sprintf("%s is not there yet", name))
		return
	}
	hint := cmp.Or(b.hints[name], didYouMean(name, known))
	if hint == "" {
		hint = fmt.Sprintf("; %s takes %s", b.what, cmp.Or(strings.Join(slices.Compact(slices.Sorted(slices.Values(known))), ", "), "none"))
	}
	b.p.addf(place, "unknown key %q%s", name, hint)
}

// later reports whether a key is one that this version of Cube does not have yet.
func later(key string) bool {
	return slices.Contains([]string{"artifact", "service", "template"}, key)
}

// locate finds the value that a path leads to from this block on: the blocks, then the key. It comes as near as the text
// allows, since what is wrong may be that a value is not there, and returns what is left of the path.
func (b *body) locate(path []string) (place hcl.Range, left []string) {
	here := b.block
	for i, step := range path {
		if a := here.Body.Attributes[step]; a != nil {
			return a.Expr.Range(), path[i:]
		}
		inner := slices.IndexFunc(here.Body.Blocks, func(c *hclsyntax.Block) bool {
			return step == c.Type || len(c.Labels) == 1 && step == fmt.Sprintf("%s %q", c.Type, c.Labels[0])
		})
		if inner < 0 {
			return here.DefRange(), path[i:]
		}
		here = here.Body.Blocks[inner]
	}
	return here.DefRange(), nil
}

// refuse records an error of api at the value that it is about. The outermost so many blocks of its path lead to this one.
func (b *body) refuse(err error, outer int) {
	code := api.CodeInvalid
	if api.CodeOf(err) == api.CodeNotYet {
		code = api.CodeNotYet
	}
	var fault *api.Fault
	if !errors.As(err, &fault) || len(fault.Path) <= outer {
		b.p.add(b.block.DefRange(), code, err.Error())
		return
	}
	place, left := b.locate(fault.Path[outer:])
	text := fault.Err.Error() // the place says the rest
	if len(left) > 1 {
		text = (&api.Fault{Path: left, Err: fault.Err}).Error()
	}
	b.p.add(place, code, text)
}
