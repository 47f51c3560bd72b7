// Package matching compiles conditions on attributes of nodes and devices. It is pure.
package matching

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-version"

	"cube/api"
)

// Matcher says whether an attribute's value meets a condition. set is false when the node does not have the attribute:
// then only != is met.
type Matcher func(value string, set bool) bool

// New compiles a condition on one attribute. An operand that does not compile is an error: jobs are checked when
// they are registered, but by the rules of the version that registered them.
func New(operator, operand string) (Matcher, error) {
	switch operator {
	case api.OpEqual:
		return func(value string, set bool) bool { return set && value == operand }, nil
	case api.OpNotEqual:
		return func(value string, set bool) bool { return !set || value != operand }, nil
	case api.OpIsSet:
		return func(_ string, set bool) bool { return set }, nil
	case api.OpLess, api.OpLessEqual, api.OpGreater, api.OpGreaterEqual:
		return func(value string, set bool) bool { return set && holds(operator, order(value, operand)) }, nil
	case api.OpSetContains:
		wanted := splitList(operand)
		return func(value string, set bool) bool { return set && containsAll(splitList(value), wanted) }, nil
	case api.OpRegexp:
		re, err := regexp.Compile(operand)
		if err != nil {
			return nil, fmt.Errorf("compile %q: %w", operand, err)
		}
		return remembered(re.MatchString), nil
	case api.OpVersion:
		wanted, err := looseVersion(operand)
		if err != nil {
			return nil, err
		}
		return remembered(wanted), nil
	case api.OpSemver:
		wanted, err := semverRange(operand)
		if err != nil {
			return nil, err
		}
		return remembered(wanted), nil
	}
	return nil, fmt.Errorf("unknown operator %q", operator)
}

// remembered makes a Matcher of a costly test: nodes share values, so each value is tested once.
func remembered(test func(value string) bool) Matcher {
	known := map[string]bool{}
	return func(value string, set bool) bool {
		if !set {
			return false
		}
		met, ok := known[value]
		if !ok {
			met = test(value)
			known[value] = met
		}
		return met
	}
}

// order compares as numbers if both are numbers, else as text.
func order(a, b string) int {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	if errX == nil && errY == nil {
		return cmp.Compare(x, y)
	}
	return strings.Compare(a, b)
}

// holds reports whether a comparison with this outcome satisfies the operator.
func holds(operator string, outcome int) bool {
	switch operator {
	case api.OpEqual:
		return outcome == 0
	case api.OpNotEqual:
		return outcome != 0
	case api.OpLess:
		return outcome < 0
	case api.OpLessEqual:
		return outcome <= 0
	case api.OpGreater:
		return outcome > 0
	case api.OpGreaterEqual:
		return outcome >= 0
	}
	return false
}

func splitList(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func containsAll(have, wanted []string) bool {
	for _, w := range wanted {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

// looseVersion reads a comma list like ">= 5.10, < 7". What follows the numbers of a version ("6.1.0-28-amd64") counts
// only if the list has such a part itself: on machines it says how something was built more often than how far it is.
func looseVersion(text string) (func(value string) bool, error) {
	wanted, err := version.NewConstraint(text)
	if err != nil {
		return nil, fmt.Errorf("read version constraint %q: %w", text, err)
	}
	exact := slices.ContainsFunc(wanted, (*version.Constraint).Prerelease)
	return func(value string) bool {
		v, err := version.NewVersion(value)
		if err == nil && !exact {
			v = v.Core()
		}
		return err == nil && wanted.Check(v)
	}, nil
}

// semverRange reads a comma list like ">= 1.2.0, < 2.0.0-rc.1". Unlike the version operator it takes pre-releases for
// what Semantic Versioning 2.0.0 section 11 says they are: lower than their release, and comparable to everything else.
func semverRange(text string) (func(value string) bool, error) {
	type bound struct {
		operator string
		version  *version.Version
	}
	var bounds []bound
	for _, part := range splitList(text) {
		operator := part[:len(part)-len(strings.TrimLeft(part, "=!<>"))]
		v, err := version.NewSemver(strings.TrimSpace(part[len(operator):]))
		if err != nil {
			return nil, fmt.Errorf("read semver constraint %q: %w", part, err)
		}
		b := bound{cmp.Or(operator, api.OpEqual), v}
		if !slices.Contains([]string{api.OpEqual, api.OpNotEqual, api.OpLess, api.OpLessEqual, api.OpGreater,
			api.OpGreaterEqual}, b.operator) {
			return nil, fmt.Errorf("read semver constraint %q: unknown operator %q", part, b.operator)
		}
		bounds = append(bounds, b)
	}
	if len(bounds) == 0 {
		return nil, fmt.Errorf("read semver constraint %q: no version in it", text)
	}
	return func(value string) bool {
		v, err := version.NewSemver(value)
		if err != nil {
			return false
		}
		for _, b := range bounds {
			if !holds(b.operator, v.Compare(b.version)) {
				return false
			}
		}
		return true
	}, nil
}
