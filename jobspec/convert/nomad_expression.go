package convert

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// expression writes an expression of a Nomad file as one of a task file. Where that cannot be, it says why and ok is false.
func (n *nomad) expression(x hclsyntax.Expression, what string) (string, bool) {
	switch x := x.(type) {
	case *hclsyntax.TemplateExpr:
		return n.template(x, what)
	case *hclsyntax.TemplateWrapExpr:
		return n.expression(x.Wrapped, what)
	case *hclsyntax.LiteralValueExpr:
		return n.literal(x, what)
	case *hclsyntax.ScopeTraversalExpr:
		if name, ok := runtimeName(x.Traversal); ok {
			return n.runtime(x, name, what).String(), true
		}
	case *hclsyntax.TupleConsExpr:
		items := make([]string, 0, len(x.Exprs))
		for i, item := range x.Exprs {
			value, ok := n.expression(item, fmt.Sprintf("%s[%d]", what, i))
			if !ok {
				return "", false
			}
			items = append(items, value)
		}
		return list(items), true
	case *hclsyntax.ObjectConsExpr:
		return n.object(x, what)
	}
	if why := foreign(x); why != "" {
		n.find(x.Range().Start.Line, what, "left out: "+why, "write the value")
		return "", false
	}
	return string(x.Range().SliceBytes(n.src)), true
}

// foreign says why an expression means nothing to Cube, "" if it means the same.
func foreign(x hclsyntax.Expression) string {
	w := &foreignWalker{}
	_ = hclsyntax.Walk(x, w) // it reports by itself
	return w.why
}

type foreignWalker struct{ why string }

// Enter implements hclsyntax.Walker.
func (w *foreignWalker) Enter(n hclsyntax.Node) hcl.Diagnostics {
	switch n := n.(type) {
	case *hclsyntax.FunctionCallExpr:
		if !slices.Contains([]string{"join", "jsonencode", "lower", "upper", "tostring"}, n.Name) {
			w.why = "Cube has no function " + short(n.Name) + "()"
		}
	case *hclsyntax.ScopeTraversalExpr:
		if root := n.Traversal.RootName(); root != "var" && root != "local" {
			w.why = short(root) + " is not known when a task file is read"
		}
	case *hclsyntax.ForExpr, *hclsyntax.SplatExpr:
		w.why = "Cube has no loops"
	}
	return nil
}

// Exit implements hclsyntax.Walker.
func (w *foreignWalker) Exit(hclsyntax.Node) hcl.Diagnostics { return nil }

// template writes a text, part by part.
func (n *nomad) template(x *hclsyntax.TemplateExpr, what string) (string, bool) {
	var out text
	for _, p := range x.Parts {
		switch p := p.(type) {
		case *hclsyntax.LiteralValueExpr:
			if p.Val.Type() != cty.String {
				return "", false
			}
			if last := len(out) - 1; last >= 0 && out[last].expression == "" {
				out[last].literal += p.Val.AsString()
				continue
			}
			out = append(out, part{literal: p.Val.AsString()})
			continue
		case *hclsyntax.ScopeTraversalExpr:
			if name, ok := runtimeName(p.Traversal); ok {
				out = append(out, n.runtime(p, name, what)...)
				continue
			}
		}
		if why := foreign(p); why != "" {
			n.find(p.Range().Start.Line, what, "left out: "+why, "write the value")
			return "", false
		}
		out = append(out, part{expression: string(p.Range().SliceBytes(n.src))})
	}
	if len(out) == 0 {
		return `""`, true
	}
	if len(out) == 1 && out[0].expression != "" { // it was in quotes: a text it stays
		out[0].atStart = true
	}
	return out.String(), true
}

func (n *nomad) literal(x *hclsyntax.LiteralValueExpr, what string) (string, bool) {
	switch {
	case x.Val.IsNull():
		return "", false // the same as nothing
	case x.Val.Type() == cty.String:
		return quote(x.Val.AsString()), true
	}
	return string(x.Range().SliceBytes(n.src)), true
}

func (n *nomad) object(x *hclsyntax.ObjectConsExpr, what string) (string, bool) {
	var b strings.Builder
	b.WriteString("{\n")
	for _, item := range x.Items {
		key, ok := keyText(item.KeyExpr)
		if !ok {
			n.find(item.KeyExpr.Range().Start.Line, what, "left out: a name in it is not a plain text", "")
			return "", false
		}
		value, ok := n.expression(item.ValueExpr, what+"."+short(key))
		if !ok {
			return "", false
		}
		if !hclsyntax.ValidIdentifier(key) {
			key = quote(key)
		}
		b.WriteString(key + " = " + value + "\n")
	}
	if len(x.Items) == 0 {
		return "{}", true
	}
	return b.String() + "}", true
}

// keyText is the name of an entry of an object.
func keyText(x hclsyntax.Expression) (string, bool) {
	if k, ok := x.(*hclsyntax.ObjectConsKeyExpr); ok {
		if name := hcl.ExprAsKeyword(k.Wrapped); name != "" && !k.ForceNonLiteral {
			return name, true
		}
		x = k.Wrapped
	}
	return plainText(x)
}

// plainText is the text of an expression that is a literal and nothing else; numbers and booleans are written out.
func plainText(x hclsyntax.Expression) (string, bool) {
	switch x := x.(type) {
	case *hclsyntax.TemplateExpr:
		var b strings.Builder
		for _, p := range x.Parts {
			l, ok := p.(*hclsyntax.LiteralValueExpr)
			if !ok || l.Val.Type() != cty.String {
				return "", false
			}
			b.WriteString(l.Val.AsString())
		}
		return b.String(), true
	case *hclsyntax.LiteralValueExpr:
		switch {
		case x.Val.IsNull():
		case x.Val.Type() == cty.Bool:
			return strconv.FormatBool(x.Val.True()), true
		case x.Val.Type() == cty.Number:
			return x.Val.AsBigFloat().Text('f', -1), true
		case x.Val.Type() == cty.String:
			return x.Val.AsString(), true
		}
	case *hclsyntax.UnaryOpExpr:
		if s, ok := plainText(x.Val); ok && x.Op == hclsyntax.OpNegate {
			return "-" + s, true
		}
	}
	return "", false
}

func isNull(x hclsyntax.Expression) bool {
	l, ok := x.(*hclsyntax.LiteralValueExpr)
	return ok && l.Val.IsNull()
}

// plainTexts are the texts of a list of literals.
func plainTexts(x hclsyntax.Expression) ([]string, bool) {
	tuple, ok := x.(*hclsyntax.TupleConsExpr)
	if !ok {
		return nil, false
	}
	var out []string
	for _, item := range tuple.Exprs {
		s, ok := plainText(item)
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// runtimeName is the name in a ${} that Nomad fills in on the node: node.unique.name, attr.cpu.arch, meta.rack, NOMAD_PORT_http.
func runtimeName(t hcl.Traversal) (string, bool) {
	root := t.RootName()
	if !slices.Contains([]string{"node", "attr", "meta", "env", "device"}, root) && !strings.HasPrefix(root, "NOMAD_") {
		return "", false
	}
	parts := []string{root}
	for _, step := range t[1:] {
		switch step := step.(type) {
		case hcl.TraverseAttr:
			parts = append(parts, step.Name)
		case hcl.TraverseIndex:
			if step.Key.Type() != cty.String {
				return "", false
			}
			parts = append(parts, step.Key.AsString())
		}
	}
	return strings.Join(parts, "."), true
}

// runtime writes a name that is filled in on the node. One that Cube does not fill in stays as text, and is reported.
func (n *nomad) runtime(x hclsyntax.Expression, name, what string) text {
	if cube, ok := n.cubeName(name); ok {
		return text{{expression: cube, atStart: true}}
	}
	why, instead := "Cube fills in no ${"+short(name)+"}; it is left as text", ""
	switch {
	case strings.HasSuffix(name, "_DIR"):
		instead = "write a path inside the container"
	case strings.HasPrefix(name, "NOMAD_META_"):
		instead = "write the value"
	}
	n.find(x.Range().Start.Line, what, why, instead)
	return literal("${" + name + "}")
}

// cubeName is what Cube calls a name that Nomad fills in on the node.
func (n *nomad) cubeName(name string) (string, bool) {
	for _, prefix := range []string{"PORT_", "HOST_PORT_", "IP_", "ADDR_"} {
		if label, ok := strings.CutPrefix(name, "NOMAD_"+prefix); ok && label != "" {
			return "CUBE_" + prefix + strings.ReplaceAll(portName(label), "-", "_"), true
		}
	}
	same := map[string]string{
		"NOMAD_ALLOC_ID": "CUBE_ALLOC_ID", "NOMAD_ALLOC_INDEX": "CUBE_ALLOC_INDEX", "NOMAD_ALLOC_NAME": "CUBE_ALLOC_NAME", "NOMAD_JOB_ID": "CUBE_JOB_NAME",
		"NOMAD_JOB_NAME": "CUBE_JOB_NAME", "NOMAD_TASK_NAME": "CUBE_TASK_NAME", "NOMAD_GROUP_NAME": "CUBE_TASK_NAME", "NOMAD_DC": "CUBE_DATACENTER",
		"NOMAD_MEMORY_LIMIT": "CUBE_MEMORY",
	}
	if cube, ok := same[name]; ok {
		return cube, true
	}
	if attribute, ok := nodeAttribute(name); ok {
		return attribute, true
	}
	return n.toldName(name)
}

// toldName is what Cube calls the variable of a meta key that a dispatch has. Nomad knows each under its name in capitals, too.
func (n *nomad) toldName(name string) (string, bool) {
	key, ok := strings.CutPrefix(name, "NOMAD_META_")
	i := slices.IndexFunc(n.told, func(told string) bool { return told == key || strings.ToUpper(told) == key })
	if !ok || i < 0 {
		return "", false
	}
	return "CUBE_META_" + n.told[i], true
}

// nodeAttribute is what Cube calls an attribute of a node.
func nodeAttribute(name string) (string, bool) {
	same := map[string]string{
		"node.unique.name": "node.name", "node.unique.id": "node.id", "node.datacenter": "node.datacenter", "attr.unique.hostname": "node.name",
		"attr.unique.network.ip-address": "node.address", "attr.cpu.arch": "attr.cpu.arch", "attr.cpu.numcores": "attr.cpu.cores",
		"attr.cpu.modelname": "attr.cpu.model", "attr.kernel.name": "attr.kernel.name", "attr.kernel.version": "attr.kernel.version", "attr.os.name": "attr.os.name",
		"attr.os.version": "attr.os.version", "attr.driver.docker": "attr.driver.docker", "attr.driver.docker.version": "attr.driver.docker.version",
		"attr.driver.raw_exec": "attr.driver.raw_exec",
	}
	if attribute, ok := same[name]; ok {
		return attribute, true
	}
	if strings.HasPrefix(name, "meta.") {
		return name, true
	}
	return "", false
}

// portName is the label of a port: as it is, where Cube takes it.
func portName(label string) string {
	if dnsLabel(strings.ReplaceAll(label, "_", "-"), "") == strings.ToLower(strings.ReplaceAll(label, "_", "-")) {
		return label
	}
	return dnsLabel(label, "port")
}
