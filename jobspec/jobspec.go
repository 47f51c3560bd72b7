// Package jobspec reads task files: HCL text in, api.Job out. See website/docs/task-file.md for the language.
//
// It is pure and bounded: the same text and variables always give the same jobs, nothing outside is read, and no text,
// however hostile, costs more than a fraction of a second and a few dozen megabytes. That is because servers parse what
// anyone with access sends them, and a parser that recurses can be made to overflow its stack, which no recover catches.
package jobspec

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty/function"

	"cube/api"
)

const (
	maxFileName = 1024    // bytes of a file's name, since it is kept with the job
	maxKept     = 4 << 20 // bytes of text that the jobs of one file keep together: they are one entry of the Raft log
)

// File is what a task file says.
type File struct {
	Jobs []*api.Job // canonical and valid, in the order of the file
}

// Parse reads a task file. The variables are those given for it, as text, each converted to the type the file declares;
// the file's name is for messages and for the jobs' Source, which holds the text and the variables that are not sensitive.
// An error is an *api.Error, with CodeNotYet if all that is wrong is something Cube does not do yet and with CodeInvalid
// otherwise. Its message says for each fault its place, what is wrong and what to do, with the line it stands in.
func Parse(src []byte, fileName string, vars map[string]string) (*File, error) {
	p := newParser(src, fileName, vars)
	file := &File{}
	if body := p.parse(); body != nil {
		file.Jobs = p.readFile(body)
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	return file, nil
}

// Fault is one thing that is wrong with a task file, and its place.
type Fault struct {
	Line, Column int
	Text         string // one line, without the place
}

// Faults lists what Parse refuses in a text, in the order of the text; none if it takes it. It is for programs that write
// task files: people read the error of Parse.
func Faults(src []byte, fileName string, vars map[string]string) []Fault {
	p := newParser(src, fileName, vars)
	if body := p.parse(); body != nil {
		p.readFile(body)
	}
	var out []Fault
	for _, one := range p.sorted() {
		out = append(out, Fault{one.place.Start.Line, one.place.Start.Column, visible(cut(one.text, maxText))})
	}
	return out
}

// Syntax reads a text of HCL within the bounds of a task file, whatever its blocks are about.
func Syntax(src []byte, fileName string) (*hclsyntax.Body, error) {
	p := newParser(src, fileName, nil)
	if body := p.parse(); body != nil {
		return body, nil
	}
	return nil, p.err()
}

// ParseVariables reads a file of variables: lines of name = value. The values are text as Parse takes it.
func ParseVariables(src []byte, fileName string) (map[string]string, error) {
	p := newParser(src, fileName, nil)
	out := map[string]string{}
	body := p.parse()
	if body == nil {
		return nil, p.err()
	}
	for _, b := range body.Blocks {
		p.addf(b.DefRange(), "a file of variables holds name = value; blocks belong into the task file")
	}
	for _, a := range attributes(body) {
		v, ok := p.value(a.Expr, runtimeNames)
		switch {
		case !ok:
		case v.IsNull():
			p.addf(a.Expr.Range(), "%s is null; leave it out to get the default", a.Name)
		case v.Type().IsPrimitiveType():
			out[a.Name], _ = written(v)
		default:
			out[a.Name] = string(a.Expr.Range().SliceBytes(p.src))
		}
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	return out, nil
}

// Declared returns the names of the variables that a task file declares, sorted; nil if the text cannot be read.
func Declared(src []byte) []string {
	body := newParser(src, "", nil).parse()
	if body == nil {
		return nil
	}
	var names []string
	for _, b := range body.Blocks {
		if b.Type == "variable" && len(b.Labels) == 1 {
			names = append(names, b.Labels[0])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Format lays a task file out in the usual way, without changing what it says. Text that is not HCL is refused; whether it
// says something sensible is not looked at.
func Format(src []byte, fileName string) ([]byte, error) {
	p := newParser(src, fileName, nil)
	if p.parse() == nil {
		return nil, p.err()
	}
	return hclwrite.Format(src), nil
}

// parser reads one text. It is used once.
type parser struct {
	problems
	functions map[string]function.Function
	given     map[string]string // variables
	variables map[string]*variable
	locals    map[string]*local
	declared  bool                 // all variables and locals are known
	jobs      map[string]hcl.Range // where each is
	work      int                  // bytes handled by evaluating, see maxWork
	patterns  int                  // instructions of all regular expressions, see api.MaxPatternSize
	exhausted bool                 // a bound was met, and said: the rest is not looked at
}

func newParser(src []byte, fileName string, vars map[string]string) *parser {
	return &parser{
		problems:  problems{file: visible(cut(fileName, maxFileName)), src: src},
		functions: functions(), given: vars, variables: map[string]*variable{}, locals: map[string]*local{}, jobs: map[string]hcl.Range{},
	}
}

// parse returns the text's tree, nil if it is refused.
func (p *parser) parse() *hclsyntax.Body {
	if !p.guard() {
		return nil
	}
	f, diags := hclsyntax.ParseConfig(p.src, p.file, hcl.InitialPos)
	if diags.HasErrors() {
		p.addHCL(diags)
		return nil
	}
	return f.Body.(*hclsyntax.Body)
}

// place writes a place for a message.
func (p *parser) place(r hcl.Range) string {
	return fmt.Sprintf("%s:%d:%d", p.file, r.Start.Line, r.Start.Column)
}

// readFile reads the blocks of a file: first what names values, then the jobs that use them.
func (p *parser) readFile(root *hclsyntax.Body) []*api.Job {
	file := &body{p: p, block: &hclsyntax.Block{Body: root}, what: "a task file"}
	file.blocks = []string{"task", "job", "variable", "locals"}
	file.finish()
	for _, b := range root.Blocks {
		switch b.Type {
		case "variable":
			p.declareVariable(b)
		case "locals":
			if len(b.Labels) > 0 {
				p.addf(b.LabelRanges[0], "locals takes no name: write locals { ... }")
			}
			p.declareLocals(b)
		}
	}
	p.declared = true
	p.setVariables()
	if p.exhausted {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(p.locals)) {
		l := p.locals[name]
		p.local(l, l.attr.NameRange)
	}
	var jobs []*api.Job
	for _, b := range root.Blocks {
		if p.full() {
			break
		}
		var j *api.Job
		switch b.Type {
		case "task":
			j = p.readBareTask(b)
		case "job":
			j = p.readJob(b)
		default:
			continue
		}
		if j != nil {
			jobs = append(jobs, j)
		}
	}
	if len(jobs) == 0 && len(p.list) == 0 {
		p.addf(hcl.Range{Start: hcl.InitialPos}, `the file holds no task; write task "web" { image = "..." }`)
	}
	source := p.source()
	kept := len(source.HCL)
	for _, text := range source.Variables {
		kept += len(text)
	}
	if kept*len(jobs) > maxKept {
		p.addf(hcl.Range{Start: hcl.InitialPos}, "%d jobs in %d bytes are too much for one file, whose text is kept with each of them; divide it", len(jobs), kept)
	}
	for _, j := range jobs {
		j.Source = source
	}
	return jobs
}

// source is what is kept of the text: all of it, with the variables that are not sensitive.
func (p *parser) source() *api.Source {
	s := &api.Source{FileName: p.file, HCL: string(p.src)}
	for name, text := range p.given {
		if v := p.variables[name]; v != nil && !v.sensitive {
			if s.Variables == nil {
				s.Variables = map[string]string{}
			}
			s.Variables[name] = text
		}
	}
	return s
}

//go:embed sample.hcl
var sample string

// Sample returns a task file to begin from, with comments. It runs the image that Cube's own examples use.
func Sample() []byte { return []byte(sample) }
