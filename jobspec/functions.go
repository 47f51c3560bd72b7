package jobspec

import (
	"fmt"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// maxResult bounds what a function takes and returns, in bytes, since calls nest and some let their input grow.
const maxResult = 16 << 10

// functions are those a task file may call: pure, and bounded by maxResult.
func functions() map[string]function.Function {
	one := []function.Parameter{{Name: "text", Type: cty.String}}
	list := []function.Parameter{{Name: "separator", Type: cty.String}, {Name: "list", Type: cty.DynamicPseudoType}}
	return map[string]function.Function{
		"join":       textFunction(list, join),
		"jsonencode": textFunction([]function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowNull: true}}, jsonEncode),
		"lower":      textFunction(one, func(a []cty.Value) (string, error) { return strings.ToLower(a[0].AsString()), nil }),
		"tostring":   textFunction(one, func(a []cty.Value) (string, error) { return a[0].AsString(), nil }),
		"upper":      textFunction(one, func(a []cty.Value) (string, error) { return strings.ToUpper(a[0].AsString()), nil }),
	}
}

// changesText reports whether a function does more to a text than put it somewhere: such a function would spoil a ${name}
// that is to be filled in later.
func changesText(function string) bool { return function == "lower" || function == "upper" }

// textFunction makes a function that returns text, and holds it to its bounds.
func textFunction(params []function.Parameter, f func([]cty.Value) (string, error)) function.Function {
	return function.New(&function.Spec{
		Params: params,
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			size := 0
			for _, a := range args {
				size += sizeOf(a)
			}
			if size > maxResult {
				return cty.NilVal, fmt.Errorf("it is given over %d bytes", maxResult)
			}
			s, err := f(args)
			if err == nil && len(s) > maxResult {
				err = fmt.Errorf("it would make over %d bytes", maxResult)
			}
			return cty.StringVal(s), err
		},
	})
}

func join(args []cty.Value) (string, error) {
	separator, size := args[0].AsString(), 0
	var parts []string
	if t := args[1].Type(); !t.IsTupleType() && !t.IsListType() {
		return "", fmt.Errorf("it joins a list, not %s", kindName(t))
	}
	for it := args[1].ElementIterator(); it.Next(); {
		_, element := it.Element()
		part, err := written(element)
		if err != nil {
			return "", fmt.Errorf("element %d: it %w", len(parts), err)
		}
		if size += len(separator) + len(part); size > 2*maxResult {
			return "", fmt.Errorf("it would make over %d bytes", maxResult)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, separator), nil
}

func jsonEncode(args []cty.Value) (string, error) {
	v, err := stdlib.JSONEncode(args[0])
	if err != nil {
		return "", err
	}
	return v.AsString(), nil
}
