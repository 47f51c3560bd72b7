package command

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"text/template"

	"cube/api"
)

// readFlags are those of every command that reads.
type readFlags struct {
	json     bool
	template string
	verbose  bool
	stale    bool

	parsed *template.Template
}

func (r *readFlags) declare(f *flag.FlagSet) {
	r.declareData(f)
	f.BoolVar(&r.verbose, "verbose", false, "Whole IDs and exact times.")
	f.BoolVar(&r.stale, "stale", false, "Let any server answer from what it knows, leader or not.")
}

// declareData declares the flags that ask for data instead of text.
func (r *readFlags) declareData(f *flag.FlagSet) {
	f.BoolVar(&r.json, "json", false, "Print JSON, the answer of the API as it is, and nothing else.")
	f.StringVar(&r.template, "t", "", "Print the same through a Go `template`, such as '{{range .}}{{.Name}} {{end}}', and nothing else.")
}

// check refuses what does not go together, before anybody is asked.
func (r *readFlags) check() error {
	if r.json && r.template != "" {
		return failed(errors.New("-json and -t exclude each other"), "reading the arguments")
	}
	if r.template == "" {
		return nil
	}
	t, err := template.New("-t").Funcs(template.FuncMap{"json": toJSON, "join": strings.Join}).Parse(r.template)
	if err != nil {
		return failed(err, "reading the template of -t")
	}
	r.parsed = t
	return nil
}

func toJSON(v any) (string, error) { return writeJSON(v, "") }

// writeJSON is JSON for terminals and files, where < and > need no escape.
func writeJSON(v any, indent string) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	err := e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// emit prints v as -json or -t ask. done is false when they do not: then the command prints for people.
func (r *readFlags) emit(s *session, v any) (done bool, err error) {
	switch {
	case r.json:
		b, err := writeJSON(v, "    ")
		if err != nil {
			return true, failed(err, "writing JSON")
		}
		fmt.Fprintf(s.Stdout, "%s\n", b)
		return true, nil
	case r.parsed != nil:
		var b strings.Builder
		if err := r.parsed.Execute(&b, v); err != nil {
			return true, failed(err, "filling in the template of -t")
		}
		fmt.Fprintln(s.Stdout, strings.TrimSuffix(b.String(), "\n"))
		return true, nil
	}
	return false, nil
}

// reading is the run of a command that reads one thing and shows it, as data if the flags ask for that. what says what is done, with
// %q for the command's first argument.
func reading[T any](r *readFlags, what string, read func(ctx context.Context, s *session, c api.Cluster, args []string) (T, error), show func(*session, moments, T)) func(context.Context, *session, []string) error {
	return func(ctx context.Context, s *session, args []string) error {
		if err := r.check(); err != nil {
			return err
		}
		cluster, err := s.cluster()
		if err != nil {
			return err
		}
		v, err := read(ctx, s, cluster, args)
		if err != nil {
			doing := what
			if len(args) > 0 {
				doing = strings.ReplaceAll(what, "%q", strconv.Quote(args[0]))
			}
			return failed(err, "%s", doing)
		}
		if done, err := r.emit(s, v); done {
			return err
		}
		show(s, r.moments(s), v)
		return nil
	}
}

func (r *readFlags) moments(s *session) moments { return moments{now: s.Now(), verbose: r.verbose} }

// ask does a read. When there is no leader, it reads what a server knows by itself and says so.
func ask[T any](ctx context.Context, s *session, r *readFlags, f func(context.Context, api.Query) (T, api.ReadMeta, error)) (T, error) {
	v, meta, err := f(ctx, api.Query{Stale: r.stale})
	if api.CodeOf(err) == api.CodeNoLeader && !r.stale {
		if old, _, again := f(ctx, api.Query{Stale: true}); again == nil {
			fmt.Fprintln(s.Stderr, "The servers have no leader: this is what one of them last knew")
			return old, nil
		}
	}
	if err == nil && meta.Stale && !r.stale {
		fmt.Fprintln(s.Stderr, "Not verified with a leader: this is what one server knows")
	}
	return v, err
}

// width is how wide a table may be, 0 for as wide as it is.
func (s *session) width() int {
	columns, _, ok := s.Size()
	if !ok {
		return 0
	}
	return columns
}

func (s *session) print(text string) { fmt.Fprint(s.Stdout, text) }

// printTable prints a table as wide as the terminal or, since whole IDs are no use when cut, as it is with -verbose.
func (s *session) printTable(f moments, t *table) {
	width := s.width()
	if f.verbose {
		width = 0
	}
	s.print(t.render(s.style, width))
}

// section prints a heading with an empty line above it.
func (s *session) section(title string) { s.print("\n" + s.style.heading(title) + "\n") }
