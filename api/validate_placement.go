package api

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

const (
	maxConditions = 64  // constraints, affinities or spreads of one task
	maxPattern    = 512 // bytes of a regular expression or any other value
)

// validatePlacement checks where a task may stand.
func (t *Task) validatePlacement() error {
	if n := max(len(t.Constraints), len(t.Affinities), len(t.Spreads)); n > maxConditions {
		return faultf("", "%d constraints, affinities or spreads are more than %d", n, maxConditions)
	}
	for i, c := range t.Constraints {
		if err := c.Validate(); err != nil {
			return in(fmt.Sprintf("constraint %d", i+1), err)
		}
		if o := slices.IndexFunc(t.Constraints[:i], c.Excludes); o >= 0 {
			return in(fmt.Sprintf("constraint %d", i+1), faultf("value", "%s cannot be %.80q and, as another constraint has it, %.80q: no node is both; for one of several use regexp", c.Attribute, c.Value, t.Constraints[o].Value))
		}
	}
	for i, a := range t.Affinities {
		if err := a.validate(); err != nil {
			return in(fmt.Sprintf("affinity %d", i+1), err)
		}
	}
	for i, s := range t.Spreads {
		if err := s.validate(); err != nil {
			return in(fmt.Sprintf("spread %d", i+1), err)
		}
	}
	return nil
}

// Excludes reports whether no node can meet both constraints, whatever there is on it: an attribute has one value.
func (c Constraint) Excludes(o Constraint) bool {
	return c.Operator == OpEqual && o.Operator == OpEqual && c.Attribute == o.Attribute && c.Value != o.Value
}

func (a Affinity) validate() error {
	switch {
	case a.Operator == OpDistinctHosts:
		return faultf("operator", "distinct_hosts is for constraints; use spread")
	case a.Weight < -maxPercentage || a.Weight > maxPercentage || a.Weight == 0:
		return faultf("weight", "weight %d is not from -100 to 100, and not 0", a.Weight)
	}
	return Constraint{a.Attribute, a.Operator, a.Value}.Validate()
}

// CheckAttribute says what is wrong with the name of a node's attribute.
func CheckAttribute(name string) error {
	root, key, dotted := strings.Cut(name, ".")
	if len(name) > maxKey || !printable(name) || dotted && key == "" {
		return fmt.Errorf("%.80q is not the name of an attribute, such as node.name, attr.KEY or meta.KEY", name)
	}
	switch {
	case !dotted && (name == "id" || name == "name" || name == "datacenter" || name == "address"):
		return fmt.Errorf("%q is not an attribute; did you mean node.%s?", name, name)
	case !dotted:
		return fmt.Errorf("%.80q is not an attribute; did you mean meta.%.80s?", name, name)
	case root == "attr" || root == "meta":
		return nil
	case root == "node" && slices.Contains([]string{"id", "name", "datacenter", "address"}, key):
		return nil
	case root == "device":
		return fmt.Errorf("%.80q is about a device; it belongs into a constraint of device \"type\" { ... } in resources", name)
	case root == "node":
		return fmt.Errorf("nodes have no %q; there are node.id, node.name, node.datacenter and node.address", name)
	}
	return fmt.Errorf("%.80q does not begin with node., attr. or meta., as node.name and attr.KEY do", name)
}

// Validate checks a canonical constraint as far as the standard library can: versions are checked where they are used.
func (c Constraint) Validate() error { return c.validate(CheckAttribute) }

// validate leaves the name of the attribute to check.
func (c Constraint) validate(check func(name string) error) error {
	if !slices.Contains(Operators(), c.Operator) {
		return faultf("operator", "operator %.40q is none of %s", c.Operator, strings.Join(Operators(), " "))
	}
	if c.Operator == OpDistinctHosts {
		if c.Attribute != "" {
			return faultf("attribute", "distinct_hosts takes no attribute")
		}
		return nil
	}
	if err := check(c.Attribute); err != nil {
		return faultf("attribute", "%w", err)
	}
	switch {
	case slices.ContainsFunc(RuntimeRoots(), func(root string) bool { return strings.Contains(c.Value, "${"+root) }):
		return faultf("value", "value %.80q: ${} cannot be filled in here, before there is a node", c.Value)
	case len(c.Value) > maxPattern:
		return faultf("value", "the value of %s has more than %d bytes", c.Attribute, maxPattern)
	case c.Value == "" && c.Operator != OpIsSet && c.Operator != OpEqual && c.Operator != OpNotEqual:
		return faultf("value", "%s %s lacks a value", c.Attribute, c.Operator)
	case c.Operator == OpRegexp:
		if PatternSize(c.Value) > MaxPatternSize {
			return faultf("value", "%.80q is too large a regular expression; the number in { } counts", c.Value)
		}
		if _, err := regexp.Compile(c.Value); err != nil {
			return faultf("value", "%q is not a regular expression: %s", c.Value, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		}
	}
	return nil
}

func (s Spread) validate() error {
	if err := CheckAttribute(s.Attribute); err != nil {
		return faultf("attribute", "%w", err)
	}
	if s.Weight < 1 || s.Weight > maxPercentage {
		return faultf("weight", "weight %d is not from 1 to 100", s.Weight)
	}
	if len(s.Targets) > maxConditions {
		return faultf("", "%d targets are more than %d", len(s.Targets), maxConditions)
	}
	sum := 0
	for i, t := range s.Targets {
		if t.Percent < 0 || t.Percent > maxPercentage {
			return in(fmt.Sprintf("target %q", t.Value), faultf("percent", "percent %d is not from 0 to 100", t.Percent))
		}
		if slices.ContainsFunc(s.Targets[:i], func(o SpreadTarget) bool { return o.Value == t.Value }) {
			return faultf(fmt.Sprintf("target %q", t.Value), "target %.80q is there twice", t.Value)
		}
		sum += t.Percent
	}
	if sum > maxPercentage {
		return faultf("", "the targets add up to %d percent", sum)
	}
	return nil
}

// MaxPatternSize bounds the regular expressions of one job together, counted in instructions: compiling one costs memory
// and time in proportion, on every look at the job.
const MaxPatternSize = 20_000

// PatternSize is about how many instructions a regular expression makes once its repetitions are written out, up to just
// over MaxPatternSize; 0 if it is none.
func PatternSize(pattern string) int {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0
	}
	return expanded(re)
}

func expanded(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		n += expanded(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, MaxPatternSize+1)
}

// patternSize adds up a task's regular expressions.
func (t *Task) patternSize() int {
	n := 0
	add := func(constraints []Constraint) {
		for _, c := range constraints {
			if c.Operator == OpRegexp {
				n += PatternSize(c.Value)
			}
		}
	}
	add(t.Constraints)
	for _, d := range t.Devices {
		add(d.Constraints)
	}
	for _, a := range t.Affinities {
		if a.Operator == OpRegexp {
			n += PatternSize(a.Value)
		}
	}
	return n
}
