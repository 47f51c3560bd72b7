package command

// style puts colours into what people read. Nothing is said by colour alone.
type style struct{ colours bool }

const (
	bold   = "\x1b[1m"
	faint  = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	reset  = "\x1b[0m"
)

// styleFor decides whether there are colours: on a terminal that knows them, unless somebody does not want them
// (https://no-color.org).
func (m *Meta) styleFor(noColor bool) style {
	return style{colours: m.isTerminal() && !noColor && m.Getenv("NO_COLOR") == "" && m.Getenv("TERM") != "dumb"}
}

func (s style) paint(colour, text string) string {
	if !s.colours || text == "" {
		return text
	}
	return colour + text + reset
}

func (s style) heading(text string) string { return s.paint(bold, text) }

// state colours a word for how something is.
func (s style) state(word string) string {
	switch word {
	case "running", "ready", "complete", "alive", "eligible", "healthy":
		return s.paint(green, word)
	case "failed", "lost", "down", "degraded", "unhealthy":
		return s.paint(red, word)
	case "pending", "preparing", "initializing", "blocked", "ineligible", "draining", "drained", "left":
		return s.paint(yellow, word)
	}
	return word
}

// instance colours the prefix of an instance's log lines: neighbours differ, and an instance keeps its colour.
func (s style) instance(n int, text string) string {
	palette := [...]string{"\x1b[36m", "\x1b[33m", "\x1b[32m", "\x1b[35m", "\x1b[34m", "\x1b[31m"}
	return s.paint(palette[n%len(palette)], text)
}
