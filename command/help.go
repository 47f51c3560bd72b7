package command

import (
	"flag"
	"fmt"
	"strings"

	"github.com/hashicorp/cli"
)

// helpWidth is the column help is wrapped at: a terminal's traditional width.
const helpWidth = 80

// Help implements cli.Command.
func (c *command) Help() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: cube %s [options]", c.name)
	if c.args != "" {
		b.WriteString(" " + c.args)
	}
	b.WriteString("\n\n")
	writeParagraphs(&b, c.prose)
	if c.example != "" {
		b.WriteString("\n  Example:\n\n")
		for line := range strings.Lines(strings.Trim(c.example, "\n") + "\n") {
			b.WriteString("      " + line)
		}
	}
	general := flag.NewFlagSet("", flag.ContinueOnError)
	new(generalFlags).declare(general, c.offline)
	b.WriteString("\nGeneral Options:\n")
	writeFlags(&b, general, func(*flag.Flag) bool { return true })
	own := c.flagSet(new(generalFlags))
	isOwn := func(f *flag.Flag) bool { return general.Lookup(f.Name) == nil }
	if anyFlag(own, isOwn) {
		words := strings.Fields(c.name)
		last := words[len(words)-1]
		fmt.Fprintf(&b, "\n%s Options:\n", strings.ToUpper(last[:1])+last[1:])
		writeFlags(&b, own, isOwn)
	}
	return strings.TrimRight(b.String(), "\n")
}

func anyFlag(set *flag.FlagSet, want func(*flag.Flag) bool) (found bool) {
	set.VisitAll(func(f *flag.Flag) { found = found || want(f) })
	return found
}

func writeFlags(b *strings.Builder, set *flag.FlagSet, want func(*flag.Flag) bool) {
	set.VisitAll(func(f *flag.Flag) {
		if !want(f) {
			return
		}
		value, usage := flag.UnquoteUsage(f)
		if isBool(f) {
			fmt.Fprintf(b, "\n  -%s\n", f.Name)
		} else {
			fmt.Fprintf(b, "\n  -%s=<%s>\n", f.Name, value)
		}
		for _, line := range wrap(usage, helpWidth-4) {
			b.WriteString("    " + line + "\n")
		}
	})
}

// writeParagraphs writes text in lines of a readable length. A paragraph that is indented is a table, whose lines stay as they are.
func writeParagraphs(b *strings.Builder, text string) {
	for i, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			b.WriteString("\n")
		}
		if strings.HasPrefix(p, "    ") {
			for line := range strings.Lines(p + "\n") {
				b.WriteString("  " + line)
			}
			continue
		}
		for _, line := range wrap(p, helpWidth-2) {
			b.WriteString("  " + line + "\n")
		}
	}
}

// wrap breaks text into lines of at most width columns, at spaces; a longer word stands alone.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && textWidth(line)+1+textWidth(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// noun is a word that commands hang under: `cube task`. Alone it prints its help.
type noun struct {
	meta     *Meta
	name     string
	synopsis string
	prose    string
	example  string
	verbs    []string // of the commands below it
}

// Synopsis implements cli.Command.
func (n *noun) Synopsis() string { return n.synopsis }

// Help implements cli.Command. The list of subcommands is added by package cli.
func (n *noun) Help() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: cube %s <subcommand> [options] [args]\n\n", n.name)
	writeParagraphs(&b, n.prose)
	b.WriteString("\n  Example:\n\n")
	for line := range strings.Lines(strings.Trim(n.example, "\n") + "\n") {
		b.WriteString("      " + line)
	}
	b.WriteString("\n  For the options of a subcommand: cube " + n.name + " <subcommand> -h")
	return b.String()
}

// Run implements cli.Command. Main turns `cube task` alone into `cube task -h`, so this is a word nobody knows.
func (n *noun) Run(args []string) int {
	if len(args) == 0 {
		return cli.RunResultHelp
	}
	unknownCommand(n.meta, nil, n.name+" ", args[0], n.verbs)
	return exitError
}

// unknownCommand says that there is no such word here, and which one may be meant.
func unknownCommand(m *Meta, commands map[string]cli.CommandFactory, parent, word string, known []string) {
	fmt.Fprintf(m.Stderr, "Error reading the arguments: unknown command 'cube %s%s'", parent, printable(word))
	if near := meant(commands, parent, word, known); near != "" {
		fmt.Fprintf(m.Stderr, "; did you mean 'cube %s'?", near)
	}
	fmt.Fprintf(m.Stderr, "\nFor additional help try 'cube %s-h'\n", parent)
}

// fromElsewhere are words that other orchestrators have taught people, and what does here what they want.
var fromElsewhere = [...][2]string{{"job", "task"}, {"ps", "task status"}, {"allocation", "alloc"}, {"evaluation", "eval"}, {"client", "node"}}

// meant finds the command a person may have meant by word: one that is spelt nearly so, one that other tools call so, or
// a verb whose noun was left out.
func meant(commands map[string]cli.CommandFactory, parent, word string, known []string) string {
	for _, w := range fromElsewhere {
		if w[0] == word && parent == "" {
			return w[1]
		}
	}
	for _, name := range sortedKeys(commands) {
		if parent == "" && strings.HasSuffix(name, " "+word) {
			return name
		}
	}
	if near := nearest(word, known); near != "" {
		return parent + near
	}
	return ""
}

// topHelp is what `cube` alone prints: the commands of every day, then the rest.
func topHelp(common []string) cli.HelpFunc {
	return func(commands map[string]cli.CommandFactory) string {
		var b strings.Builder
		b.WriteString("Usage: cube [-version] [-help] [-autocomplete-(un)install] <command> [args]\n")
		listed := map[string]bool{}
		for _, name := range common {
			listed[name] = true
		}
		var other []string
		for _, name := range sortedKeys(commands) {
			if !listed[name] {
				other = append(other, name)
			}
		}
		writeGroup(&b, "Common commands", common, commands)
		writeGroup(&b, "Other commands", other, commands)
		return strings.TrimRight(b.String(), "\n")
	}
}

func writeGroup(b *strings.Builder, title string, names []string, commands map[string]cli.CommandFactory) {
	fmt.Fprintf(b, "\n%s:\n", title)
	for _, name := range names {
		factory, ok := commands[name]
		if !ok {
			continue // the help of a noun lists only what is below it
		}
		if c, err := factory(); err == nil {
			fmt.Fprintf(b, "    %-12s %s\n", name, c.Synopsis())
		}
	}
}
