// Package result holds what a scenario measured, and writes it: a table for people, JSON for machines. It judges a figure
// only against the target that the scenario gives it.
package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Result is one run of one scenario. Its methods are not safe for concurrent use.
type Result struct {
	Scenario   string            `json:"scenario"`
	Machine    Machine           `json:"machine"`
	Parameters map[string]string `json:"parameters"`
	Figures    []Figure          `json:"figures"`
	Notes      []string          `json:"notes,omitempty"` // what a reader must know to read the figures right
}

// Figure is one measured value.
type Figure struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Target string  `json:"target,omitempty"` // "<= 60" in the same unit; "" for none
	Met    *bool   `json:"met,omitempty"`    // nil without a target
}

// New returns an empty result of this machine.
func New(scenario string) *Result {
	return &Result{Scenario: scenario, Machine: here(), Parameters: map[string]string{}}
}

// Set notes a parameter of the run.
func (r *Result) Set(name string, value any) { r.Parameters[name] = fmt.Sprint(value) }

// Note adds a sentence that belongs to the figures.
func (r *Result) Note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Add adds a figure without a target.
func (r *Result) Add(name string, value float64, unit string) {
	r.Figures = append(r.Figures, Figure{Name: name, Value: value, Unit: unit})
}

// AtMost adds a figure that is met when value <= target.
func (r *Result) AtMost(name string, value float64, unit string, target float64) {
	r.judged(name, value, unit, "<= "+short(target), value <= target)
}

// AtLeast adds a figure that is met when value >= target.
func (r *Result) AtLeast(name string, value float64, unit string, target float64) {
	r.judged(name, value, unit, ">= "+short(target), value >= target)
}

func (r *Result) judged(name string, value float64, unit, target string, met bool) {
	r.Figures = append(r.Figures, Figure{Name: name, Value: value, Unit: unit, Target: target, Met: &met})
}

// Figure returns the figure of that name; ok is false when there is none.
func (r *Result) Figure(name string) (f Figure, ok bool) {
	i := slices.IndexFunc(r.Figures, func(f Figure) bool { return f.Name == name })
	if i < 0 {
		return Figure{}, false
	}
	return r.Figures[i], true
}

// Table writes the result for people.
func (r *Result) Table(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s\n", r.Scenario, r.Machine)
	for i, name := range slices.Sorted(maps.Keys(r.Parameters)) {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s", name, r.Parameters[name])
	}
	if len(r.Parameters) > 0 {
		b.WriteString("\n")
	}
	b.WriteString("\n")
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range r.Figures {
		line := f.Name + "\t" + strings.TrimSpace(short(f.Value)+" "+f.Unit)
		if f.Met != nil {
			line += "\t" + strings.TrimSpace(f.Target+" "+f.Unit) + "\t" + map[bool]string{true: "met", false: "missed"}[*f.Met]
		}
		fmt.Fprintln(table, line)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "\n* %s", n)
	}
	if len(r.Notes) > 0 {
		b.WriteString("\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

// Save writes the result as JSON to the file at path, which it replaces.
func (r *Result) Save(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("save the result: %w", err)
	}
	e := json.NewEncoder(f)
	e.SetEscapeHTML(false) // a target is written "<= 60"
	e.SetIndent("", "  ")
	if err := errors.Join(e.Encode(r), f.Close()); err != nil {
		return fmt.Errorf("save the result: %w", err)
	}
	return nil
}

// short writes a number with three significant digits, or as it is when it is whole and large.
func short(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) || a >= 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
