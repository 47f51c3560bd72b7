// Package convert reads what other orchestrators run from, Compose files and Nomad jobs, and writes task files of Cube.
//
// It is pure and bounded as jobspec is: bytes in, text and findings out. Nothing that a file refers to is read, no function
// of a file is called, and what comes out is a task file that jobspec takes.
package convert

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"cube/api"
	"cube/jobspec"
)

// Options say what the text to convert does not.
type Options struct {
	FileName string // for findings, and for the comment at the head of the result
	// Name is the job's name where a Compose file gives none: Compose takes that of the directory.
	Name string
	// CoreMHz is how many MHz of a Nomad job make one core; 0: DefaultCoreMHz.
	CoreMHz int
}

// DefaultCoreMHz is what a core of a server has at its base clock, give or take a third. Nomad reserves MHz, Cube cores.
const DefaultCoreMHz = 2500

// Result is a task file and what it does not say.
type Result struct {
	HCL      []byte    `json:"-"` // laid out as jobspec.Format does
	Findings []Finding // in the order of the source
}

// Finding is something that was not carried over, or not as it was.
type Finding struct {
	File    string
	Line    int
	What    string // where in the source, such as services.web.networks
	Why     string // what became of it
	Instead string `json:",omitempty"` // what to do
}

func (f Finding) String() string {
	text := fmt.Sprintf("%s:%d: %s: %s", f.File, f.Line, f.What, f.Why)
	if f.Instead != "" {
		text += "; " + f.Instead
	}
	return text
}

// Bounds of what is converted. The source's own are those of a task file.
const (
	maxFindings   = 1000   // listed: who has more begins with these
	maxTogether   = 400    // bytes of the places that say the same
	maxRounds     = 200    // of taking out what Cube refuses
	maxNodes      = 50_000 // values of a Compose file, those that aliases repeat counted each time
	maxReferences = 200    // of variables in one text
	maxDepth      = 64     // values inside each other
)

// conversion is what converting one file has come to.
type conversion struct {
	Options
	draft    *node
	findings []Finding
	unlisted int // findings beyond maxFindings
}

// find records that something was not carried over.
func (c *conversion) find(line int, what, why, instead string) {
	if len(c.findings) == maxFindings {
		c.unlisted++
		return
	}
	c.findings = append(c.findings, Finding{c.FileName, max(line, 1), printable(what), printable(why), printable(instead)})
}

// decide records a finding and writes it where the person who has to decide will look.
func (c *conversion) decide(n *node, line int, what, why, instead string) {
	c.find(line, what, why, instead)
	n.note(strings.TrimSuffix(why+"; "+instead, "; "))
}

// finish writes the draft as Cube takes it.
func (c *conversion) finish(vars map[string]string) (*Result, error) {
	hcl, err := c.settle(vars)
	if err != nil {
		return nil, err
	}
	c.findings = together(c.findings)
	if c.unlisted > 0 {
		c.findings = append(c.findings, Finding{File: c.FileName, Line: 1, What: "file", Why: fmt.Sprintf("%d more are not listed", c.unlisted)})
	}
	return &Result{HCL: hcl, Findings: c.findings}, nil
}

// together sorts findings, and makes one of those that say the same of one line: what an anchor holds is met wherever it is
// used.
func together(findings []Finding) []Finding {
	slices.SortStableFunc(findings, func(a, b Finding) int { return cmp.Compare(a.Line, b.Line) })
	var out []Finding
	for _, f := range findings {
		i := slices.IndexFunc(out, func(o Finding) bool { return o.Line == f.Line && o.Why == f.Why && o.Instead == f.Instead })
		switch {
		case i < 0:
			out = append(out, f)
		case !slices.Contains(strings.Split(out[i].What, ", "), f.What) && len(out[i].What) < maxTogether:
			out[i].What += ", " + f.What
		}
	}
	return out
}

// settle renders the draft until Cube's own reader takes it: what that refuses is taken out, and reported with its reason.
// So whatever a source holds, what comes out is a task file.
func (c *conversion) settle(vars map[string]string) ([]byte, error) {
	for range maxRounds {
		text := c.draft.render()
		if len(text) > api.MaxSourceBytes {
			return nil, api.Errorf(api.CodeInvalid, "%s: the task file would have over %d bytes; divide it", c.FileName, api.MaxSourceBytes)
		}
		faults := jobspec.Faults(text, "converted.hcl", vars)
		if len(faults) == 0 {
			return jobspec.Format(text, "converted.hcl")
		}
		removed := map[*node]bool{}
		for _, f := range faults {
			n, title := c.draft.at(f.Line, "")
			if n == nil {
				return nil, api.Errorf(api.CodeInvalid, "%s: nothing in it can be a task of Cube: %s", c.FileName, c.reason(f.Text))
			}
			if !removed[n] {
				c.find(n.origin, title, "left out: "+f.Text, "")
			}
			removed[n] = true
		}
		c.draft.remove(removed)
	}
	return nil, api.Errorf(api.CodeInvalid, "%s: too much of it is refused; begin with: %s", c.FileName, c.reason("?"))
}

// reason is the first thing that was left out, for a file of which nothing is left.
func (c *conversion) reason(otherwise string) string {
	for _, f := range c.findings {
		if strings.HasPrefix(f.Why, "left out") {
			return f.String()
		}
	}
	return otherwise
}

// dnsLabel makes a name as Cube takes them: lower-case letters, digits and, inside, hyphens.
func dnsLabel(name, otherwise string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0:
			b.WriteByte('-')
		}
	}
	s := b.String()
	if len(s) > api.MaxNameLength {
		s = s[:api.MaxNameLength]
	}
	return cmp.Or(strings.Trim(s, "-"), otherwise)
}

// names gives out names that are not taken yet.
type names map[string]bool

func (n names) take(wanted string) string {
	name := wanted
	for i := 2; n[name]; i++ {
		suffix := fmt.Sprintf("-%d", i)
		name = strings.TrimRight(wanted[:min(len(wanted), api.MaxNameLength-len(suffix))], "-") + suffix
	}
	n[name] = true
	return name
}
