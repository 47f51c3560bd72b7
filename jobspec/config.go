package jobspec

import (
	"errors"
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"cube/api"
)

// readConfig reads what only the driver knows. Keys are those of api.DriverOptions; a map may be written as a block.
func readConfig(b *body, t *api.Task) {
	options, known := api.DriverOptions(t.Driver)
	if !known {
		b.forget() // the driver's name is at fault, and will be said
		return
	}
	b.what = fmt.Sprintf("the %s driver", t.Driver)
	config := map[string]any{}
	check := func(name string, v any, place hcl.Range) {
		if err := api.CheckOptions(t.Driver, map[string]any{name: v}); err != nil {
			var fault *api.Fault
			if errors.As(err, &fault) {
				err = fault.Err // the place says in which block
			}
			b.p.addf(place, "%s", err)
		}
		config[name] = v
	}
	for _, o := range options {
		if o.Kind == api.OptionMap {
			var m map[string]string
			if b.pairs(o.Name, &m, runtimeNames); m != nil {
				config[o.Name] = plainMap(m)
			}
			continue
		}
		if v, place, ok := b.value(o.Name, runtimeNames); ok {
			if plain, err := plainValue(v); err != nil {
				b.p.addf(place, "%s: %s", o.Name, err)
			} else {
				check(o.Name, plain, place)
			}
		}
	}
	if len(config) > 0 {
		t.Config = config
	}
}

func plainMap(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// plainValue turns a value into strings, booleans, numbers, []any and map[string]any.
func plainValue(v cty.Value) (any, error) {
	t := v.Type()
	switch {
	case v.IsNull():
		return nil, fmt.Errorf("null is no value; leave it out")
	case t == cty.String:
		return v.AsString(), nil
	case t == cty.Bool:
		return v.True(), nil
	case t == cty.Number:
		if n, exact := v.AsBigFloat().Int64(); exact == 0 {
			return n, nil
		}
		f, _ := v.AsBigFloat().Float64()
		return f, nil
	case t.IsTupleType() || t.IsListType():
		list := []any{}
		for it := v.ElementIterator(); it.Next(); {
			_, element := it.Element()
			e, err := plainValue(element)
			if err != nil {
				return nil, err
			}
			list = append(list, e)
		}
		return list, nil
	}
	out := map[string]any{}
	for it := v.ElementIterator(); it.Next(); {
		k, element := it.Element()
		e, err := plainValue(element)
		if err != nil {
			return nil, err
		}
		out[k.AsString()] = e
	}
	return out, nil
}
