package jobspec

import (
	"cmp"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"cube/api"
)

const maxNames = 1000 // variables, and locals, of one file

// variable is a variable block and, after setVariables, its value.
type variable struct {
	place     hcl.Range
	kind      cty.Type  // cty.NilType: not declared
	standard  cty.Value // the default; cty.NilVal: none
	sensitive bool
	value     cty.Value
	missing   bool // no value could be had; said once
}

// local is one name of a locals block. It is evaluated when it is first referred to.
type local struct {
	attr    *hclsyntax.Attribute
	state   localState
	value   cty.Value
	runtime bool // its text holds run-time names
}

type localState uint8

const (
	localNew localState = iota
	localBusy
	localDone
	localFailed
)

// lookUp returns the value of a variable or local, and whether it holds run-time names.
func (p *parser) lookUp(root, name string, place hcl.Range) (value cty.Value, runtime, ok bool) {
	if !p.declared {
		p.addf(place, "a default is made from nothing else, such as %s.%s", root, name)
		return cty.NilVal, false, false
	}
	if root == "var" {
		v := p.variables[name]
		if v == nil {
			p.addf(place, "there is no variable %q%s", name, cmp.Or(didYouMean(name, slices.Collect(maps.Keys(p.variables))),
				fmt.Sprintf("; declare it: variable %q {}", name)))
			return cty.NilVal, false, false
		}
		return v.value, false, !v.missing
	}
	l := p.locals[name]
	if l == nil {
		p.addf(place, "there is no local %q%s", name, didYouMean(name, slices.Collect(maps.Keys(p.locals))))
		return cty.NilVal, false, false
	}
	return p.local(l, place)
}

func (p *parser) local(l *local, place hcl.Range) (value cty.Value, runtime, ok bool) {
	switch l.state {
	case localBusy:
		p.addf(place, "local.%s is made from itself", l.attr.Name)
		return cty.NilVal, false, false
	case localNew:
		l.state = localBusy
		if l.value, l.runtime, ok = p.evaluate(l.attr.Expr, runtimeNames|sensitiveValues); ok {
			l.state = localDone
		} else {
			l.state = localFailed
		}
	}
	return l.value, l.runtime, l.state == localDone
}

// declareLocals takes the names of a locals block.
func (p *parser) declareLocals(b *hclsyntax.Block) {
	for _, l := range b.Body.Blocks {
		p.addf(l.DefRange(), "a locals block holds name = value")
	}
	for _, a := range attributes(b.Body) {
		if other := p.locals[a.Name]; other != nil {
			p.addf(a.NameRange, "local %q is there already, at %s", a.Name, p.place(other.attr.NameRange))
			continue
		}
		p.locals[a.Name] = &local{attr: a}
	}
	if len(p.locals) > maxNames {
		p.addf(b.DefRange(), "a file has at most %d locals", maxNames)
		p.exhausted = true
	}
}

// declareVariable takes a variable block.
func (p *parser) declareVariable(block *hclsyntax.Block) {
	b := p.open(block, "variable")
	name, ok := p.label(block)
	if !ok {
		return
	}
	place := block.LabelRanges[0]
	if other := p.variables[name]; other != nil {
		p.addf(place, "variable %q is there already, at %s", name, p.place(other.place))
		return
	}
	if !hclsyntax.ValidIdentifier(name) {
		p.addf(place, "%q is not a name for a variable: letters, digits, _ and - are allowed, a letter first", name)
		return
	}
	v := &variable{place: place, kind: cty.NilType, standard: cty.NilVal}
	if len(p.variables) < maxNames {
		p.variables[name] = v
	} else if !p.exhausted {
		p.exhausted = true
		p.addf(place, "a file has at most %d variables", maxNames)
	}
	if a := b.attr("type"); a != nil {
		v.kind = p.declaredType(a.Expr)
	}
	var description string
	b.text("description", &description)
	b.flag("sensitive", &v.sensitive)
	if a := b.attr("default"); a != nil {
		p.declareDefault(v, name, a)
	}
	b.finish()
	v.missing = v.missing || b.faulty() // that it has no value would be said besides
}

func (p *parser) declareDefault(v *variable, name string, a *hclsyntax.Attribute) {
	standard, ok := p.value(a.Expr, 0)
	switch {
	case !ok:
		v.missing = true
		return
	case standard.IsNull():
		p.addf(a.Expr.Range(), "default is null; leave it out and a value must be given")
	case v.sensitive:
		p.addf(a.NameRange, "a sensitive variable has no default: the file is kept with the job; give its value with CUBE_VAR_%s", name)
	default:
		if v.kind == cty.NilType {
			if v.kind, ok = kindOf(standard); !ok {
				p.addf(a.Expr.Range(), "a variable holds text, a number, true or false, or a list or map of these that are all of one type")
				break
			}
		}
		converted, err := ofKind(standard, v.kind)
		if err != nil {
			p.addf(a.Expr.Range(), "default is %s, but the variable's type is %s: %s", kindName(standard.Type()), kindName(v.kind), err)
			break
		}
		v.standard = converted
		return
	}
	v.missing = true
}

// kindOf is the type of a variable that says none.
func kindOf(v cty.Value) (cty.Type, bool) {
	t := v.Type()
	if t.IsPrimitiveType() {
		return t, true
	}
	element := cty.NilType
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		switch {
		case !e.Type().IsPrimitiveType() || e.IsNull():
			return cty.NilType, false
		case element == cty.NilType:
			element = e.Type()
		case element != e.Type():
			element = cty.String
		}
	}
	if element == cty.NilType {
		element = cty.String
	}
	if t.IsTupleType() {
		return cty.List(element), true
	}
	return cty.Map(element), true
}

// ofKind makes a value of a declared type out of one as it was written. Text in a list or map may be written as a number or
// a boolean; nothing else is taken for something else.
func ofKind(v cty.Value, kind cty.Type) (cty.Value, error) {
	t := v.Type()
	switch {
	case v.IsNull():
		return cty.NilVal, fmt.Errorf("it is null")
	case t == kind:
		return v, nil
	case kind.IsPrimitiveType(), kind.IsListType() != t.IsTupleType(), kind.IsMapType() != t.IsObjectType():
		return cty.NilVal, fmt.Errorf("it is %s", kindName(t))
	}
	want := kind.ElementType()
	list, pairs := []cty.Value{}, map[string]cty.Value{}
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		if e.IsNull() || e.Type() != want && want != cty.String {
			return cty.NilVal, fmt.Errorf("it holds %s", kindName(e.Type()))
		}
		if want == cty.String {
			text, err := written(e)
			if err != nil {
				return cty.NilVal, fmt.Errorf("one in it %w", err)
			}
			e = cty.StringVal(text)
		}
		if kind.IsListType() {
			list = append(list, e)
		} else {
			pairs[k.AsString()] = e
		}
	}
	switch {
	case kind.IsMapType() && len(pairs) > 0:
		return cty.MapVal(pairs), nil
	case kind.IsMapType():
		return cty.MapValEmpty(want), nil
	case len(list) > 0:
		return cty.ListVal(list), nil
	}
	return cty.ListValEmpty(want), nil
}

// declaredType reads string, number, bool, list(...) or map(...).
func (p *parser) declaredType(x hclsyntax.Expression) cty.Type {
	if t, ok := primitive(hcl.ExprAsKeyword(x)); ok {
		return t
	}
	if call, diags := hcl.ExprCall(x); !diags.HasErrors() && len(call.Arguments) == 1 {
		if element, ok := primitive(hcl.ExprAsKeyword(call.Arguments[0])); ok {
			switch call.Name {
			case "list":
				return cty.List(element)
			case "map":
				return cty.Map(element)
			}
		}
	}
	p.addf(x.Range(), "a type is string, number, bool, or list( ) or map( ) of one of these, without quotes")
	return cty.String
}

func primitive(name string) (cty.Type, bool) {
	switch name {
	case "string":
		return cty.String, true
	case "number":
		return cty.Number, true
	case "bool":
		return cty.Bool, true
	}
	return cty.NilType, false
}

// kindName is how people call a type.
func kindName(t cty.Type) string {
	switch {
	case t == cty.String:
		return "text"
	case t == cty.Number:
		return "a number"
	case t == cty.Bool:
		return "true or false"
	case t.IsListType():
		return "a list of " + plural(t.ElementType())
	case t.IsMapType():
		return "a map of " + plural(t.ElementType())
	case t.IsTupleType():
		return "a list"
	case t.IsObjectType():
		return "a map"
	}
	return "nothing"
}

func plural(t cty.Type) string {
	switch t {
	case cty.Number:
		return "numbers"
	case cty.Bool:
		return "true and false"
	}
	return "texts"
}

// setVariables gives each variable its value and refuses values for what is not declared.
func (p *parser) setVariables() {
	for _, name := range slices.Sorted(maps.Keys(p.given)) {
		if p.variables[name] == nil {
			p.addf(hcl.Range{Start: hcl.InitialPos}, "the file declares no variable %.80q, which was given%s", name,
				didYouMean(name, slices.Collect(maps.Keys(p.variables))))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.variables)) {
		v := p.variables[name]
		if v.kind == cty.NilType {
			v.kind = cty.String
		}
		text, given := p.given[name]
		switch {
		case given:
			value, err := p.fromText(text, v.kind)
			if err != nil {
				p.addf(v.place, "the value given for variable %q is not %s%s", name, kindName(v.kind), reason(err, v.sensitive))
				v.missing = true
				continue
			}
			v.value, v.missing = value, false
		case v.standard != cty.NilVal:
			v.value = v.standard
		case !v.missing:
			v.missing = true
			p.addf(v.place, "variable %q has no value; give one with -var %s=..., in a -var-file, or in the environment as CUBE_VAR_%s", name, name, name)
		}
		if v.sensitive && !v.missing {
			v.value = markDeep(v.value)
		}
	}
}

// reason is the end of a message on a value; it is left out where it could show a secret.
func reason(err error, secret bool) string {
	if secret {
		return ""
	}
	return ": " + err.Error()
}

// markDeep marks the elements of a list or map rather than the whole, since a map's keys are no secret.
func markDeep(v cty.Value) cty.Value {
	if v.Type().IsPrimitiveType() || v.LengthInt() == 0 {
		return v.Mark(sensitive{})
	}
	if v.Type().IsListType() {
		elements := v.AsValueSlice()
		for i := range elements {
			elements[i] = elements[i].Mark(sensitive{})
		}
		return cty.ListVal(elements)
	}
	elements := v.AsValueMap()
	for k := range elements {
		elements[k] = elements[k].Mark(sensitive{})
	}
	return cty.MapVal(elements)
}

// fromText converts what a person gave for a variable.
func (p *parser) fromText(text string, kind cty.Type) (cty.Value, error) {
	if len(text) > api.MaxSourceBytes || notText([]byte(text)) >= 0 {
		return cty.NilVal, fmt.Errorf("it is too long, or not text")
	}
	p.work += len(text)
	switch kind {
	case cty.String:
		return cty.StringVal(text), nil
	case cty.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil || text != strconv.FormatBool(b) {
			return cty.NilVal, fmt.Errorf("%.40q is neither true nor false", text)
		}
		return cty.BoolVal(b), nil
	case cty.Number:
		return numberFromText(text)
	}
	v, ok := literal(text)
	if !ok {
		return cty.NilVal, fmt.Errorf(`write it as in a task file, such as ["a", "b"] or {a = "b"}`)
	}
	return ofKind(v, kind)
}

// literal reads an expression that refers to nothing.
func literal(text string) (cty.Value, bool) {
	const name = "value"
	p := newParser([]byte(name+" = (\n"+text+"\n)"), name, nil)
	body := p.parse()
	if body == nil || len(body.Attributes) != 1 || len(body.Blocks) > 0 || body.Attributes[name] == nil {
		return cty.NilVal, false
	}
	return p.value(body.Attributes[name].Expr, runtimeNames)
}

func numberFromText(text string) (cty.Value, error) {
	digits := 0
	for i, c := range text {
		if c >= '0' && c <= '9' {
			digits++
		} else if c != '.' && (c != '-' || i > 0) {
			return cty.NilVal, fmt.Errorf("%.40q is not written as one, without an exponent", text)
		}
	}
	if digits == 0 || digits > maxDigits {
		return cty.NilVal, fmt.Errorf("%.40q has %d digits", text, digits)
	}
	f, _, err := big.ParseFloat(text, 10, 512, big.ToNearestEven)
	if err != nil {
		return cty.NilVal, fmt.Errorf("%.40q is not written as one", text)
	}
	return cty.NumberVal(f), nil
}
