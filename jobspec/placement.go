package jobspec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/go-version"

	"cube/api"
)

// readPlacement reads where a task may stand, where it had better stand, and how its instances are spread.
func (p *parser) readPlacement(b *body, t *api.Task) {
	b.each("constraint", 0, func(r *body) {
		var c api.Constraint
		distinct := false
		r.flag("distinct_hosts", &distinct)
		readCondition(r, &c.Attribute, &c.Operator, &c.Value)
		if distinct {
			if len(r.block.Body.Attributes) > 1 {
				p.addf(r.block.DefRange(), "distinct_hosts = true stands alone in its constraint")
			}
			c = api.Constraint{Operator: api.OpDistinctHosts}
		} else if r.attr("distinct_hosts") != nil {
			return // false asks for nothing
		}
		together := []api.Constraint{c}
		if i := slices.IndexFunc(t.Constraints, c.Excludes); i >= 0 {
			together = []api.Constraint{t.Constraints[i], c}
		}
		if p.sound(r, func(t *api.Task) { t.Constraints = together }) {
			t.Constraints = append(t.Constraints, c)
		}
	})
	b.each("affinity", 0, func(r *body) {
		a := api.Affinity{Weight: api.DefaultWeight}
		readCondition(r, &a.Attribute, &a.Operator, &a.Value)
		p.readWeight(r, &a.Weight, -100)
		if p.sound(r, func(t *api.Task) { t.Affinities = []api.Affinity{a} }) {
			t.Affinities = append(t.Affinities, a)
		}
	})
	b.each("spread", 0, func(r *body) {
		s := api.Spread{Weight: api.DefaultWeight}
		readAttribute(r, &s.Attribute)
		p.readWeight(r, &s.Weight, 1)
		r.each("target", 1, func(target *body) {
			st := api.SpreadTarget{Value: target.block.Labels[0]}
			if target.attr("percent") == nil {
				p.addf(target.block.DefRange(), "percent is missing")
			}
			target.whole("percent", &st.Percent, 0, 100)
			s.Targets = append(s.Targets, st)
		})
		if p.sound(r, func(t *api.Task) { t.Spreads = []api.Spread{s} }) {
			t.Spreads = append(t.Spreads, s)
		}
	})
}

// readWeight reads a weight. Zero is refused here: to api it is a weight that was left out.
func (p *parser) readWeight(r *body, to *int, least int) {
	if r.whole("weight", to, least, 100) && *to == 0 {
		p.addf(r.attr("weight").Expr.Range(), "weight 0 asks for nothing; leave the block out")
	}
}

// readCondition reads a condition on one attribute of nodes.
func readCondition(r *body, attribute, operator, value *string) {
	readAttribute(r, attribute)
	readOperand(r, operator, value)
}

// readOperand reads how an attribute is compared, and with what.
func readOperand(r *body, operator, value *string) {
	*operator = api.OpEqual
	r.text("operator", operator)
	if v, place, ok := r.value("value", 0); ok {
		s, err := written(v)
		if err != nil {
			r.p.addf(place, "value %s", err)
			return
		}
		*value = s
		if err := r.p.checkOperand(*operator, s); err != nil {
			r.p.addf(place, "%s", err)
		}
	}
}

// readAttribute reads the name of a node's attribute: "node.name" or "${node.name}".
func readAttribute(r *body, to *string) {
	if !r.textWith("attribute", to, runtimeNames) {
		return
	}
	if inner, ok := strings.CutPrefix(*to, "${"); ok && strings.HasSuffix(inner, "}") {
		*to = strings.TrimSuffix(inner, "}")
	}
	if err := api.CheckAttribute(*to); err != nil {
		r.p.addf(r.attr("attribute").Expr.Range(), "%s", err)
	}
}

// sound has api check one condition on nodes.
func (p *parser) sound(r *body, put func(*api.Task)) bool { return p.soundOf(r, "node.name", 2, put) }

// soundOf has api check one condition in a task that has nothing else, and reports what is wrong within its block, to which
// the outermost so many blocks of a fault's path lead. The example is of an attribute.
func (p *parser) soundOf(r *body, example string, outer int, put func(*api.Task)) bool {
	if r.finish(); r.faulty() {
		return false
	}
	if given := r.block.Body.Attributes; given["attribute"] == nil && given["distinct_hosts"] == nil {
		p.addf(r.block.DefRange(), "attribute is missing, such as %q", example)
		return false
	}
	t := api.DefaultTask("x")
	t.Image = "x"
	put(t)
	err := checkTask(t, api.JobService)
	if err == nil {
		return true
	}
	r.refuse(err, outer)
	return false
}

// checkOperand checks what a node's attribute is compared with, as the scheduler reads it.
func (p *parser) checkOperand(operator, value string) error {
	switch operator {
	case api.OpRegexp:
		if p.patterns += api.PatternSize(value); p.patterns > api.MaxPatternSize {
			return fmt.Errorf("the regular expressions of this file are too large; the number in { } counts")
		}
	case api.OpVersion:
		if _, err := version.NewConstraint(value); err != nil {
			return fmt.Errorf(`%.80q is not a list of versions such as ">= 1.2, < 2"`, value)
		}
	case api.OpSemver:
		return checkSemver(value)
	}
	return nil
}

func checkSemver(value string) error {
	count := 0
	for part := range strings.SplitSeq(value, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		count++
		number := strings.TrimLeft(part, "=!<>~^")
		switch operator := part[:len(part)-len(number)]; operator {
		case "", api.OpEqual, api.OpNotEqual, api.OpLess, api.OpLessEqual, api.OpGreater, api.OpGreaterEqual:
		default:
			return fmt.Errorf(`semver does not take %s; write a range such as ">= 1.2.0, < 2.0.0"`, operator)
		}
		if _, err := version.NewSemver(strings.TrimSpace(number)); err != nil {
			return fmt.Errorf(`%.80q is not a semantic version; write a list such as ">= 1.2.0, < 2.0.0"`, part)
		}
	}
	if count == 0 {
		return fmt.Errorf(`a list of versions is expected, such as ">= 1.2.0, < 2.0.0"`)
	}
	return nil
}
