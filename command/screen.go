package command

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// screen shows a monitor's progress. Implementations are used by one goroutine.
type screen interface {
	// say writes a line that stays. A heading begins a part.
	say(heading bool, text string)
	// show tells where the instances stand now.
	show(lines []instanceLine)
	// settle leaves what show drew last where it stands; what is said from now on comes below it.
	settle()
	// pulse is how often show should be called though nothing has changed; 0: never.
	pulse() time.Duration
}

// clockText is the time before a monitor's lines: short, or whole with -verbose.
func clockText(now time.Time, verbose bool) string {
	if verbose {
		return now.Format(time.RFC3339)
	}
	return now.Format(time.TimeOnly)
}

func stamped(heading bool, clock, text string) string {
	lead := "    "
	if heading {
		lead = "==> "
	}
	return lead + clock + " " + text
}

func (l *instanceLine) shortID(verbose bool) string { return moments{verbose: verbose}.id(l.id) }

// word is the phase, with how often it was started again.
func (l *instanceLine) word() string {
	if l.restarts > 0 {
		return fmt.Sprintf("%s (restart %d)", l.phase, l.restarts)
	}
	return l.phase
}

// noteSpacing keeps what an instance says while it stays in one phase, such as the progress of a pull, from filling a
// log: a terminal shows each, a pipe one in so long.
const noteSpacing = 5 * time.Second

// plainScreen writes a line whenever an instance has come further. It is for pipes and logs.
type plainScreen struct {
	out     io.Writer
	now     func() time.Time
	verbose bool
	last    map[string]shown // by instance name
}

type shown struct {
	line instanceLine
	at   time.Time
}

func (p *plainScreen) pulse() time.Duration { return 0 }

func (p *plainScreen) settle() {}

func (p *plainScreen) say(heading bool, text string) {
	fmt.Fprintln(p.out, stamped(heading, clockText(p.now(), p.verbose), text))
}

func (p *plainScreen) show(lines []instanceLine) {
	now := p.now()
	for _, l := range lines {
		old, known := p.last[l.name]
		if known && old.line == l {
			continue
		}
		same := known && old.line.id == l.id && old.line.phase == l.phase && old.line.restarts == l.restarts && old.line.settled == l.settled
		if same && now.Sub(old.at) < noteSpacing {
			continue
		}
		p.last[l.name] = shown{l, now}
		if !known && l.id == "" {
			continue // that it is not placed yet is no news
		}
		text := l.name
		if l.id != "" {
			text += fmt.Sprintf(" %s on %s", l.shortID(p.verbose), orNone(l.node))
		}
		text += ": " + l.word()
		if l.note != "" {
			text += ": " + l.note
		}
		p.say(false, printable(text))
	}
}

// terminalScreen redraws the instances in place under the lines that stay.
type terminalScreen struct {
	out     io.Writer
	now     func() time.Time
	size    func() (columns, rows int, ok bool)
	style   style
	verbose bool
	begun   time.Time
	drawn   int // lines of the last frame, which the cursor stands below
	lines   []instanceLine
}

// framePulse lets the seconds in a frame go by.
const framePulse = time.Second

func (t *terminalScreen) pulse() time.Duration { return framePulse }

func (t *terminalScreen) settle() { t.drawn, t.lines = 0, nil }

func (t *terminalScreen) say(heading bool, text string) {
	line := stamped(heading, clockText(t.now(), t.verbose), text)
	if heading {
		line = t.style.heading(line)
	}
	t.draw(line+"\n", t.lines)
}

func (t *terminalScreen) show(lines []instanceLine) {
	t.lines = lines
	t.draw("", lines)
}

// draw wipes the last frame, writes what stays, and draws the frame anew, in one write so that it does not flicker.
func (t *terminalScreen) draw(stays string, lines []instanceLine) {
	var b strings.Builder
	if t.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", t.drawn)
	}
	b.WriteString("\r\x1b[J" + stays)
	columns, rows, ok := t.size()
	if !ok {
		columns, rows = 80, 24
	}
	frame := t.frame(lines, columns, rows)
	for _, line := range frame {
		b.WriteString(clip(line, columns-1) + "\n") // the last column would make some terminals wrap
	}
	t.drawn = len(frame)
	_, _ = io.WriteString(t.out, b.String()) // a terminal that is gone is seen by the next write that matters
}

// frame is what stands below the lines that stay: the instances, as many as there is room for, and a line that counts
// them. Those that something is still expected of come before those that are settled when not all have room.
func (t *terminalScreen) frame(lines []instanceLine, columns, rows int) []string {
	if len(lines) == 0 {
		return nil
	}
	settled := 0
	for _, l := range lines {
		if l.settled {
			settled++
		}
	}
	chosen, room := lines, max(1, rows-4)
	if len(lines) > room {
		chosen = make([]instanceLine, 0, room)
		for _, want := range []bool{false, true} {
			for _, l := range lines {
				if l.settled == want && len(chosen) < room {
					chosen = append(chosen, l)
				}
			}
		}
	}
	frame := t.align(chosen)
	count := fmt.Sprintf("    %d of %s settled, %s", settled, countOf(len(lines), "instance"), duration(t.now().Sub(t.begun)))
	if more := len(lines) - len(chosen); more > 0 {
		count += fmt.Sprintf("; %d not shown", more)
	}
	return append(frame, t.style.paint(faint, count))
}

func (t *terminalScreen) align(lines []instanceLine) []string {
	cells := make([][]string, len(lines))
	widths := make([]int, 4)
	for i, l := range lines {
		cells[i] = []string{printable(l.name), l.shortID(t.verbose), printable(orNone(l.node)), l.word(), printable(l.note)}
		for c := range widths {
			widths[c] = max(widths[c], textWidth(cells[i][c]))
		}
	}
	out := make([]string, len(lines))
	for i, row := range cells {
		line := "    "
		for c, cell := range row {
			pad := ""
			if c < len(widths) {
				pad = strings.Repeat(" ", widths[c]-textWidth(cell)+2)
			}
			if c == 3 {
				cell = t.style.paint(phaseColour(lines[i].phase), cell)
			}
			line += cell + pad
		}
		out[i] = strings.TrimRight(line, " ")
	}
	return out
}

func phaseColour(phase string) string {
	switch phase {
	case "running", "complete":
		return green
	case "failed", "lost":
		return red
	}
	return yellow
}
