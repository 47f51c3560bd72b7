package jobspec

import (
	"cmp"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"cube/api"
)

const (
	maxWork     = 8 << 20 // bytes that evaluating a whole file may handle, references counted each time
	maxOperands = 64      // of arithmetic, comparisons and indexes in one expression
	maxExponent = 128     // of two, in a number: far over any quantity, and cheap to write out
	maxElements = 1024    // of a list or map: what a job's field takes
	maxIndex    = 256     // bytes of a key in [ ]
	bytesAValue = 16      // what an element costs besides its text
	bytesACall  = 4 << 10 // what a call costs besides its arguments
)

// allowed says what an expression may hold besides what is known now.
type allowed uint8

const (
	runtimeNames    allowed = 1 << iota // ${node.name} and the like: the client fills in this field
	sensitiveValues                     // the place takes them and keeps them to itself
)

// sensitive marks what came from a sensitive variable; the mark follows every value made from it.
type sensitive struct{}

// expression is the walk over one expression before it is evaluated. It keeps the ${names} that only the client can fill
// in as text, refuses what would not be bounded, and finds out what the expression refers to and what it costs.
type expression struct {
	p       *parser
	refs    map[string]map[string]cty.Value // "var" or "local" -> name -> value
	cost    int
	values  int                    // met so far, those within others included
	joined  []int                  // values when each node that makes one type of several was entered
	numbers []hclsyntax.Expression // operands that are taken for numbers, outer ones first
	keys    []hclsyntax.Expression // of indexes
	loops   int                    // inside for expressions, whose own names are not looked up
	opaque  int                    // inside what looks into text: a comparison, upper(), an index
	runtime bool                   // it holds a run-time name
	failed  bool
}

func (e *expression) addf(place hcl.Range, format string, args ...any) {
	e.failed = true
	e.p.addf(place, format, args...)
}

// Enter implements hclsyntax.Walker.
func (e *expression) Enter(n hclsyntax.Node) hcl.Diagnostics {
	switch n := n.(type) {
	case *hclsyntax.TemplateExpr:
		for i, part := range n.Parts {
			n.Parts[i] = e.keep(part)
		}
	case *hclsyntax.TemplateWrapExpr:
		n.Wrapped = e.keep(n.Wrapped)
	case *hclsyntax.LiteralValueExpr:
		e.cost += sizeOf(n.Val)
		e.values++
	case *hclsyntax.ScopeTraversalExpr:
		e.refer(n)
	case *hclsyntax.FunctionCallExpr:
		e.cost += bytesACall
		if _, ok := e.p.functions[n.Name]; !ok {
			names := slices.Sorted(maps.Keys(e.p.functions))
			e.addf(n.NameRange, "there is no function %q%s", n.Name, cmp.Or(didYouMean(n.Name, names), "; there are "+strings.Join(names, ", ")))
		}
	case *hclsyntax.BinaryOpExpr:
		if takesNumbers(n.Op) {
			e.numbers = append(e.numbers, n.LHS, n.RHS)
		}
	case *hclsyntax.UnaryOpExpr:
		if takesNumbers(n.Op) {
			e.numbers = append(e.numbers, n.Val)
		}
	case *hclsyntax.IndexExpr:
		e.keys = append(e.keys, n.Key)
	case *hclsyntax.ForExpr:
		e.addf(n.Range(), "for expressions are not supported in a task file")
	case *hclsyntax.SplatExpr:
		e.addf(n.Range(), "[*] is not supported in a task file")
	}
	if unifies(n) {
		e.joined = append(e.joined, e.values)
	}
	e.opaque += opaque(n)
	e.loops += loops(n)
	return nil
}

// Exit implements hclsyntax.Walker.
func (e *expression) Exit(n hclsyntax.Node) hcl.Diagnostics {
	if unifies(n) {
		last := len(e.joined) - 1
		within := e.values - e.joined[last]
		e.cost += within * within
		e.joined = e.joined[:last]
	}
	e.opaque -= opaque(n)
	e.loops -= loops(n)
	return nil
}

func takesNumbers(op *hclsyntax.Operation) bool { return op.Impl.Params()[0].Type == cty.Number }

// unifies reports whether a node looks for a type that all values in it have. That takes go-cty time with the square of
// their number: lists of 30,000 and 20,000 numbers in one condition took 100 seconds.
func unifies(n hclsyntax.Node) bool {
	switch n := n.(type) {
	case *hclsyntax.ConditionalExpr:
		return true
	case *hclsyntax.BinaryOpExpr:
		return n.Op == hclsyntax.OpEqual || n.Op == hclsyntax.OpNotEqual
	}
	return false
}

func loops(n hclsyntax.Node) int {
	if _, ok := n.(*hclsyntax.ForExpr); ok {
		return 1
	}
	return 0
}

// opaque is 1 for what looks into its operands, so that a ${name} in them would give a wrong answer.
func opaque(n hclsyntax.Node) int {
	switch n := n.(type) {
	case *hclsyntax.BinaryOpExpr, *hclsyntax.UnaryOpExpr, *hclsyntax.IndexExpr:
		return 1
	case *hclsyntax.FunctionCallExpr:
		if changesText(n.Name) {
			return 1
		}
	}
	return 0
}

// keep turns a run-time name that stands by itself in ${} into the text it is written as.
func (e *expression) keep(part hclsyntax.Expression) hclsyntax.Expression {
	t, ok := part.(*hclsyntax.ScopeTraversalExpr)
	if !ok || !runtimeRoot(t.Traversal.RootName()) {
		return part
	}
	name, ok := dotted(t.Traversal)
	kept := &hclsyntax.LiteralValueExpr{Val: cty.StringVal("${" + name + "}"), SrcRange: t.SrcRange} // a wrong one too: it is refused once
	if !ok {
		e.addf(t.SrcRange, "a name that is known only when an instance starts takes no [ ]; write ${%s.KEY}", t.Traversal.RootName())
		return kept
	}
	if !strings.HasPrefix(name, "CUBE_") {
		if err := api.CheckAttribute(name); err != nil {
			e.addf(t.SrcRange, "%s", err)
			return kept
		}
	} else if strings.Contains(name, ".") {
		e.addf(t.SrcRange, "%s has no parts; write ${%s}", t.Traversal.RootName(), t.Traversal.RootName())
		return kept
	}
	e.runtime = true
	if e.opaque > 0 {
		e.addf(t.SrcRange, "%s is known only when an instance starts: it cannot be compared or changed here", name)
	}
	return kept
}

func runtimeRoot(root string) bool { return api.IsRuntimeName(root) || api.IsRuntimeName(root+".x") }

// dotted writes a traversal of names alone as text.
func dotted(t hcl.Traversal) (string, bool) {
	var parts []string
	for _, step := range t {
		switch step := step.(type) {
		case hcl.TraverseRoot:
			parts = append(parts, step.Name)
		case hcl.TraverseAttr:
			parts = append(parts, step.Name)
		default:
			return "", false
		}
	}
	return strings.Join(parts, "."), true
}

// refer resolves var.x or local.x.
func (e *expression) refer(t *hclsyntax.ScopeTraversalExpr) {
	root := t.Traversal.RootName()
	switch {
	case e.loops > 0:
		return
	case e.p.full(): // what is not shown is not looked for
		e.failed = true
		return
	case runtimeRoot(root):
		name, _ := dotted(t.Traversal)
		e.addf(t.SrcRange, `%s is known only when an instance starts: it stands by itself in a text, as in "${%s}"`, name, cmp.Or(name, root+".KEY"))
		return
	case root != "var" && root != "local":
		e.addf(t.SrcRange, "%s is not known%s", root, cmp.Or(e.p.rootHint(root), `; a text stands in quotes, a value is var.NAME, local.NAME or, inside a text, a ${node.}, ${attr.}, ${meta.} or ${CUBE_} name`))
		return
	}
	name := ""
	if len(t.Traversal) > 1 {
		switch step := t.Traversal[1].(type) {
		case hcl.TraverseAttr:
			name = step.Name
		case hcl.TraverseIndex:
			if step.Key.Type() == cty.String {
				name = step.Key.AsString()
			}
		}
	}
	if name == "" {
		e.addf(t.SrcRange, "%s takes a name, as in %s.NAME", root, root)
		return
	}
	for _, step := range t.Traversal {
		if i, ok := step.(hcl.TraverseIndex); ok && sizeOf(i.Key) > maxIndex {
			e.addf(i.SrcRange, "this key is over %d bytes long", maxIndex)
			return
		}
	}
	value, runtime, ok := e.p.lookUp(root, name, t.SrcRange)
	if !ok {
		e.failed = true
		return
	}
	if runtime && e.opaque > 0 {
		e.addf(t.SrcRange, "%s.%s holds what is known only when an instance starts: it cannot be compared or changed here", root, name)
	}
	e.runtime = e.runtime || runtime
	if e.refs[root] == nil {
		e.refs[root] = map[string]cty.Value{}
	}
	e.refs[root][name] = value
	if part, diags := t.Traversal[2:].TraverseRel(value); !diags.HasErrors() {
		e.cost += sizeOf(part)
		e.values += valuesIn(part)
	}
}

// rootHint says what a person may have meant by a name that begins nothing.
func (p *parser) rootHint(root string) string {
	if p.variables[root] != nil {
		return fmt.Sprintf("; did you mean var.%s?", root)
	}
	if p.locals[root] != nil {
		return fmt.Sprintf("; did you mean local.%s?", root)
	}
	return didYouMean(root, append([]string{"var", "local"}, api.RuntimeRoots()...))
}

// value evaluates an expression. ok is false when that failed, with the fault recorded.
func (p *parser) value(x hclsyntax.Expression, may allowed) (v cty.Value, ok bool) {
	v, _, ok = p.evaluate(x, may)
	return v, ok
}

// evaluate is value that also says whether the value holds run-time names.
func (p *parser) evaluate(x hclsyntax.Expression, may allowed) (v cty.Value, runtime, ok bool) {
	if p.full() || p.exhausted {
		p.faults++
		return cty.NilVal, false, false
	}
	e := &expression{p: p, refs: map[string]map[string]cty.Value{}}
	_ = hclsyntax.Walk(x, e) // it reports by itself
	if e.affordable(x, may) {
		v, ok = p.valueIn(x, e)
	}
	if ok && may&sensitiveValues == 0 && v.ContainsMarked() {
		p.addf(x.Range(), "this is made from a sensitive variable, whose value may only go into env")
		ok = false
	}
	if !ok {
		p.faults++
		return cty.NilVal, false, false
	}
	return v, e.runtime, true
}

// affordable reports whether the expression may be evaluated.
func (e *expression) affordable(x hclsyntax.Expression, may allowed) bool {
	operands := len(e.numbers) + len(e.keys)
	e.p.work += e.cost * (1 + operands) // each is evaluated by itself too
	switch {
	case e.failed:
	case operands > maxOperands:
		e.addf(x.Range(), "an expression has at most %d operands of arithmetic, comparisons and indexes", maxOperands)
	case e.p.work > maxWork:
		e.failed = true
		if !e.p.exhausted {
			e.addf(x.Range(), "the values of this file add up to over %d MiB", maxWork>>20)
		}
		e.p.exhausted = true
	case e.runtime && may&runtimeNames == 0:
		e.addf(x.Range(), "this must be known when the file is read; ${node.}, ${attr.}, ${meta.} and ${CUBE_} names go into image, command, args, user, work_dir, env and config")
	}
	return !e.failed
}

// valueIn evaluates an expression with what it refers to.
func (p *parser) valueIn(x hclsyntax.Expression, e *expression) (v cty.Value, ok bool) {
	ctx := &hcl.EvalContext{Variables: map[string]cty.Value{}, Functions: p.functions}
	for root, values := range e.refs {
		ctx.Variables[root] = cty.ObjectVal(values)
	}
	if !p.checkOperands(e, ctx) {
		return cty.NilVal, false
	}
	v, diags := x.Value(ctx)
	if diags.HasErrors() {
		p.addHCL(diags)
		return cty.NilVal, false
	}
	if err := p.checkValue(v); err != nil {
		p.addf(x.Range(), "%s", err)
		return cty.NilVal, false
	}
	return v, true
}

// checkOperands makes sure that what is taken for a number is one, of an ordinary size, and that keys are short. HCL would
// also take text such as "1e9999999" for a number, and results could grow until it takes minutes to write them out.
func (p *parser) checkOperands(e *expression, ctx *hcl.EvalContext) bool {
	check := func(x hclsyntax.Expression, fits func(cty.Value) bool, fault string) bool {
		v, diags := x.Value(ctx)
		if diags.HasErrors() {
			p.addHCL(diags)
			return false
		}
		if v, _ = v.UnmarkDeep(); v.IsNull() || !fits(v) {
			p.addf(x.Range(), "%s", fault)
			return false
		}
		return true
	}
	number := func(v cty.Value) bool { return v.Type() == cty.Number && ordinary(v.AsBigFloat()) }
	key := func(v cty.Value) bool { return number(v) || v.Type() == cty.String && len(v.AsString()) <= maxIndex }
	for _, x := range slices.Backward(e.numbers) { // the inner ones first: none is evaluated before what is in it is known to be small
		if !check(x, number, "this must be a number of ordinary size") {
			return false
		}
	}
	for _, x := range slices.Backward(e.keys) {
		if !check(x, key, "this must be a number or a short text") {
			return false
		}
	}
	return true
}

func ordinary(f *big.Float) bool {
	return !f.IsInf() && (f.Sign() == 0 || f.MantExp(nil) <= maxExponent && f.MantExp(nil) >= -maxExponent)
}

// checkValue bounds a value: numbers of ordinary size, and no deeper than brackets may be.
func (p *parser) checkValue(v cty.Value) error {
	v, _ = v.UnmarkDeep()
	return checkDeep(v, 0)
}

func checkDeep(v cty.Value, depth int) error {
	switch {
	case depth > maxNesting:
		return fmt.Errorf("this value is nested over %d deep", maxNesting)
	case v.IsNull() || !v.IsKnown():
		return nil
	case v.Type() == cty.Number && !ordinary(v.AsBigFloat()):
		return fmt.Errorf("this number is too large or too small to be one")
	case !v.CanIterateElements():
		return nil
	}
	for it := v.ElementIterator(); it.Next(); {
		_, element := it.Element()
		if err := checkDeep(element, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// valuesIn counts a value and those in it.
func valuesIn(v cty.Value) int {
	n := 1
	if v, _ = v.Unmark(); !v.IsNull() && v.IsKnown() && v.CanIterateElements() {
		for it := v.ElementIterator(); it.Next(); {
			_, element := it.Element()
			n += valuesIn(element)
		}
	}
	return n
}

// sizeOf is about how many bytes a value holds.
func sizeOf(v cty.Value) int {
	v, _ = v.Unmark()
	if v.IsNull() || !v.IsKnown() {
		return bytesAValue
	}
	if v.Type() == cty.String {
		return bytesAValue + len(v.AsString())
	}
	n := bytesAValue
	if v.CanIterateElements() {
		for it := v.ElementIterator(); it.Next(); {
			k, element := it.Element()
			n += sizeOf(element)
			if k.Type() == cty.String {
				n += sizeOf(k)
			}
		}
	}
	return n
}
