package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// DiffKind says what became of a field or a block.
type DiffKind string

const (
	DiffNone    DiffKind = "none"
	DiffAdded   DiffKind = "added"
	DiffRemoved DiffKind = "removed"
	DiffEdited  DiffKind = "edited"
)

// Diff is what differs in one block between two versions of a job, with what differs in the blocks inside it. What is
// the same is left out. The order is always the same: fields as they stand in the block, blocks by their names.
type Diff struct {
	Kind   DiffKind
	Block  string      // as a task file calls it: "job", "task", "port"
	Name   string      `json:",omitempty"` // its label, if it has one
	Forces bool        `json:",omitempty"` // a running instance cannot take the change: it is replaced
	Fields []FieldDiff `json:",omitempty"`
	Blocks []*Diff     `json:",omitempty"`
}

// FieldDiff is one value that differs. Values are written much as in a task file; "" is an absent one. Sensitive values
// are never shown: one that changed is edited from RedactedValue to RedactedValue.
type FieldDiff struct {
	Kind     DiffKind
	Name     string
	Old, New string
	Forces   bool `json:",omitempty"` // see Diff.Forces
}

// DiffJobs says what makes b of a. Either may be nil: then all of the other was removed or added. What the state adds to a
// job and the text it was parsed from do not count, and of a task that was added or removed only what is not the default
// is listed.
func DiffJobs(a, b *Job) *Diff {
	d := differ{}
	var x, y reflect.Value
	name := ""
	if a != nil {
		name, x = a.Name, reflect.ValueOf(*a.spec())
	}
	if b != nil {
		name, y = b.Name, reflect.ValueOf(*b.spec())
	}
	out := d.block("job", name, x, y)
	if out == nil {
		return &Diff{Kind: DiffNone, Block: "job", Name: name}
	}
	return out
}

// differ walks two values of one type. Walking by reflection means that a field nobody thought of here is compared and
// shown like any other.
type differ struct {
	secrets map[string]bool // env keys of the task or part being compared whose values are not shown
}

// block compares two structs; one of them may be invalid, which stands for absent. It returns nil if they say the same.
func (d differ) block(block, name string, a, b reflect.Value) *Diff {
	out := &Diff{Kind: DiffEdited, Block: block, Name: name}
	present := a
	switch {
	case !a.IsValid() && !b.IsValid():
		return nil
	case !a.IsValid():
		out.Kind, present = DiffAdded, b
	case !b.IsValid():
		out.Kind = DiffRemoved
	}
	if t := present.Type(); t == reflect.TypeFor[Task]() || t == reflect.TypeFor[Part]() {
		d = differ{secrets: secretsOf(a, b)}
	}
	for i := range present.NumField() {
		f := present.Type().Field(i)
		if f.IsExported() && !identity(present.Type(), f.Name) {
			d.field(out, f, i, a, b)
		}
	}
	if out.Kind == DiffEdited && len(out.Fields)+len(out.Blocks) == 0 {
		return nil
	}
	return out
}

// field compares one field of two structs, and adds what differs to out.
func (d differ) field(out *Diff, f reflect.StructField, i int, a, b reflect.Value) {
	x, y := part(a, i), part(b, i)
	if out.Kind != DiffEdited && isDefault(cmpValid(a, b), i) {
		return
	}
	fields, blocks := len(out.Fields), len(out.Blocks)
	name := fieldName(f.Name)
	switch {
	case f.Type.Kind() == reflect.Struct:
		d.add(out, d.block(name, "", x, y))
	case f.Type.Kind() == reflect.Pointer && f.Type.Elem().Kind() == reflect.Struct:
		d.add(out, d.block(name, "", pointed(x), pointed(y)))
	case f.Type.Kind() == reflect.Slice && isStruct(f.Type.Elem()):
		d.list(out, singular(name), x, y)
	case f.Type.Kind() == reflect.Map:
		d.add(out, d.pairs(f.Name, name, x, y))
	default:
		d.value(out, name, written(out.Block, f.Name, x), written(out.Block, f.Name, y), false)
	}
	if !forces(a, b, i) {
		return
	}
	for k := fields; k < len(out.Fields); k++ {
		out.Fields[k].Forces = true
	}
	for k := blocks; k < len(out.Blocks); k++ {
		out.Blocks[k].Forces = true
	}
}

func (d differ) add(out *Diff, inner *Diff) {
	if inner != nil && len(inner.Fields)+len(inner.Blocks) > 0 {
		out.Blocks = append(out.Blocks, inner)
	}
}

// value adds a field if its texts differ. differs says that they do although the texts hide it.
func (d differ) value(out *Diff, name, a, b string, differs bool) {
	if a == b && !differs {
		return
	}
	kind := DiffEdited
	switch {
	case a == "":
		kind = DiffAdded
	case b == "":
		kind = DiffRemoved
	}
	out.Fields = append(out.Fields, FieldDiff{Kind: kind, Name: name, Old: a, New: b})
}

// list compares two lists of blocks, each known by its key; without keys of their own, or where two share one, blocks are
// known by all that they say.
func (d differ) list(out *Diff, block string, a, b reflect.Value) {
	x, y := keyed(a, false), keyed(b, false)
	if x == nil || y == nil {
		x, y = keyed(a, true), keyed(b, true)
	}
	var keys []string
	for k := range x {
		keys = append(keys, k)
	}
	for k := range y {
		if _, both := x[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		old, new := x[k], y[k]
		present := cmpValid(old, new)
		if inner := d.block(blockOf(block, present), label(present), old, new); inner != nil {
			out.Blocks = append(out.Blocks, inner)
		}
	}
}

// pairs compares two maps.
func (d differ) pairs(field, name string, a, b reflect.Value) *Diff {
	out := &Diff{Kind: DiffEdited, Block: name}
	x, y := entries(a), entries(b)
	switch {
	case len(x) == 0:
		out.Kind = DiffAdded
	case len(y) == 0:
		out.Kind = DiffRemoved
	}
	var keys []string
	for k := range x {
		keys = append(keys, k)
	}
	for k := range y {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range slices.Compact(keys) {
		old, new := x[k], y[k]
		differs := old != new
		if field == "Env" && d.secrets[k] {
			old, new = hidden(old), hidden(new)
		}
		d.value(out, k, old, new, differs)
	}
	return out
}

func hidden(s string) string {
	if s == "" {
		return ""
	}
	return RedactedValue
}

// secretsOf returns the env keys of a task or a part that are sensitive in either version: a value does not stop being one's secret because
// the next version calls it public.
func secretsOf(a, b reflect.Value) map[string]bool {
	out := map[string]bool{}
	for _, v := range [2]reflect.Value{a, b} {
		if v.IsValid() {
			for _, k := range v.FieldByName("Sensitive").Interface().([]string) {
				out[k] = true
			}
		}
	}
	return out
}

// forces reports whether a running instance of task a cannot become one with field i of b.
func forces(a, b reflect.Value, i int) bool {
	if !a.IsValid() || !b.IsValid() || a.Type() != reflect.TypeFor[Task]() {
		return false
	}
	old := a.Interface().(Task)
	changed := old
	reflect.ValueOf(&changed).Elem().Field(i).Set(b.Field(i))
	return !SameInstance(&old, &changed)
}

// isDefault reports whether a field of what was added or removed goes without saying.
func isDefault(v reflect.Value, i int) bool {
	if v.Field(i).IsZero() {
		return true
	}
	var usual reflect.Value
	switch v.Type() {
	case reflect.TypeFor[Task]():
		usual = reflect.ValueOf(*DefaultTask(""))
	case reflect.TypeFor[Part]():
		usual = reflect.ValueOf(DefaultPart(v.Interface().(Part).Kind, ""))
	case reflect.TypeFor[Check]():
		usual = reflect.ValueOf(DefaultCheck(""))
	case reflect.TypeFor[Job]():
		usual = reflect.ValueOf(Job{Type: JobService, Priority: DefaultPriority})
	default:
		return false
	}
	return reflect.DeepEqual(v.Field(i).Interface(), usual.Field(i).Interface())
}

// blockOf is what a task file calls one of a list of blocks.
func blockOf(usual string, v reflect.Value) string {
	if p, ok := v.Interface().(Part); ok {
		return string(p.Kind)
	}
	return usual
}

// identity reports whether a field is what its block is known by, which stands in its head.
func identity(t reflect.Type, field string) bool {
	return labelField(t) == field && field != "" || t == reflect.TypeFor[Part]() && field == "Kind"
}

// labelField names the field that is the label of a block in a task file, "" if the block has none.
func labelField(t reflect.Type) string {
	if t == reflect.TypeFor[DeviceRequest]() {
		return "Type"
	}
	for _, name := range []string{"Name", "Label"} {
		if f, ok := t.FieldByName(name); ok && f.Type.Kind() == reflect.String {
			return name
		}
	}
	return ""
}

func label(v reflect.Value) string {
	if name := labelField(v.Type()); name != "" {
		return v.FieldByName(name).String()
	}
	return ""
}

// keyed returns the structs of a list by their keys; nil if two share a key.
func keyed(list reflect.Value, whole bool) map[string]reflect.Value {
	out := map[string]reflect.Value{}
	if !list.IsValid() {
		return out
	}
	for i := range list.Len() {
		v := list.Index(i)
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if !v.IsValid() {
			continue // a null, which no valid job has
		}
		key := keyOf(v)
		if whole {
			b, _ := json.Marshal(v.Interface()) // plain data: it cannot fail
			key = string(b)
			for out[key].IsValid() {
				key += " again"
			}
		}
		if out[key].IsValid() {
			return nil
		}
		out[key] = v
	}
	return out
}

func keyOf(v reflect.Value) string {
	switch w := v.Interface().(type) {
	case Affinity:
		return w.Attribute + " " + w.Operator + " " + w.Value
	case Spread:
		return w.Attribute
	case SpreadTarget:
		return w.Value
	case Part:
		return string(w.Kind) + " " + w.Name
	}
	if l := label(v); l != "" {
		return l
	}
	b, _ := json.Marshal(v.Interface()) // as above
	return string(b)
}

// written is a value much as a task file has it, "" for none.
func written(block, field string, v reflect.Value) string {
	if !v.IsValid() {
		return ""
	}
	switch w := v.Interface().(type) {
	case time.Duration:
		text := w.String()
		if minutes, ok := strings.CutSuffix(text, "m0s"); ok {
			text = strings.TrimSuffix(minutes+"m", "h0m") // 1h0m0s is 1h, as people write it
			if strings.HasSuffix(minutes, "h0") {
				text += "h"
			}
		}
		return strconv.Quote(text)
	case []string:
		if len(w) == 0 {
			return ""
		}
		quoted := make([]string, len(w))
		for i, s := range w {
			quoted[i] = strconv.Quote(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	switch {
	case v.Kind() == reflect.String && v.Len() == 0:
		return ""
	case v.Kind() == reflect.String:
		return strconv.Quote(v.String())
	case block == "resources" && field == "CPU", block == "device" && field == "Share":
		return FormatCPU(v.Int())
	case block == "resources":
		return fmt.Sprintf("%d MiB", v.Int())
	}
	return plainJSON(v.Interface())
}

// plainJSON is a value as JSON for people, where < and > need no escape; "" for none. Values come from JSON or HCL, so
// there is none that cannot be written.
func plainJSON(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil || b.String() == "null\n" {
		return ""
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// entries are the values of a map as text.
func entries(m reflect.Value) map[string]string {
	out := map[string]string{}
	if m.IsValid() {
		for it := m.MapRange(); it.Next(); {
			out[it.Key().String()] = plainJSON(it.Value().Interface())
		}
	}
	return out
}

// fieldName is what a task file calls a field of ours: KillTimeout is kill_timeout, CPU is cpu.
func fieldName(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// singular is what one block of a list is called: constraints, affinities.
func singular(name string) string {
	if stem, ok := strings.CutSuffix(name, "ies"); ok {
		return stem + "y"
	}
	return strings.TrimSuffix(name, "s")
}

func part(v reflect.Value, i int) reflect.Value {
	if !v.IsValid() {
		return v
	}
	return v.Field(i)
}

func pointed(v reflect.Value) reflect.Value {
	if !v.IsValid() {
		return v
	}
	return v.Elem()
}

func cmpValid(a, b reflect.Value) reflect.Value {
	if a.IsValid() {
		return a
	}
	return b
}

func isStruct(t reflect.Type) bool {
	return t.Kind() == reflect.Struct || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct
}
