package command

import (
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// reorder sorts a command line into flags and the rest, so that flags may stand after the arguments; package flag stops
// at the first argument. What follows "--" is never a flag, and "-" alone is an argument (standard input), as is a
// negative number.
func reorder(f *flag.FlagSet, args []string) (flags, rest []string, err error) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return flags, append(rest, args[i+1:]...), nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			rest = append(rest, arg)
			continue
		}
		name, _, hasValue := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		known := f.Lookup(name)
		if known == nil {
			if _, err := strconv.Atoi(name); err == nil { // a number, which the command may refuse in its own words
				rest = append(rest, arg)
				continue
			}
			return nil, nil, unknownFlag(f, name)
		}
		flags = append(flags, arg)
		if hasValue || isBool(known) {
			continue
		}
		if i+1 == len(args) {
			return nil, nil, fmt.Errorf("the flag -%s needs a value", name)
		}
		i++
		flags = append(flags, args[i])
	}
	return flags, rest, nil
}

func isBool(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

func unknownFlag(f *flag.FlagSet, name string) error {
	var known []string
	f.VisitAll(func(f *flag.Flag) { known = append(known, f.Name) })
	if near := nearest(name, known); near != "" {
		return fmt.Errorf("unknown flag -%s; did you mean -%s?", name, near)
	}
	return fmt.Errorf("unknown flag -%s", name)
}

// nearest returns the candidate closest to word, "" when none is close enough to be meant.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", len(word)/3+2
	for _, c := range candidates {
		if d := editDistance(word, c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// editDistance is Levenshtein's distance in bytes, by the one-row form of the Wagner-Fischer table.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// keyValues is a repeatable flag of the form key=value; a key given twice takes its last value.
type keyValues map[string]string

func (k keyValues) String() string { return "" }

// Set implements flag.Value.
func (k keyValues) Set(s string) error {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return errors.New("not of the form name=value")
	}
	k[key] = value
	return nil
}

// patience is a flag that holds how long to wait.
type patience struct {
	time.Duration
	firm bool // a person said so: it is over for whatever goes on
}

// Set implements flag.Value.
func (p *patience) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return errors.New("not a duration such as 90s or 10m")
	}
	p.Duration, p.firm = d, true
	return nil
}

// patienceVar declares the flag -timeout.
func patienceVar(f *flag.FlagSet, p *patience, waitsFor string) {
	p.Duration = defaultPatience
	f.Var(p, "timeout", "How long to wait"+waitsFor+": a `duration` such as 90s or 10m.")
}
