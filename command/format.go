package command

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"cube/api"
)

// none stands for what is blank, so that every row of a table has as many words as its header.
const none = "<none>"

// shortID is how many characters of an ID are shown without -verbose.
const shortID = 8

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// printable makes text from elsewhere safe to put into one line of a terminal: whatever could move the cursor, change
// colours, end the line or turn the direction of writing is shown as its escape sequence.
func printable(s string) string { return escape(s, false) }

// printableLines does the same for text that may have several lines.
func printableLines(s string) string { return escape(s, true) }

func escape(s string, lines bool) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return unsafeRune(r) }) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '\n' && lines:
			b.WriteRune(r)
		case r == '\t' && lines:
			b.WriteString("    ")
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unsafeRune(r):
			q := strconv.QuoteToASCII(string(r))
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// unsafeRune is true for control and format characters (the latter hold those that turn the direction of writing), line
// and paragraph separators, and broken UTF-8.
func unsafeRune(r rune) bool {
	return r == utf8.RuneError || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co)
}

// textWidth is how many columns s takes on a terminal. Escape sequences for colours take none, combining marks none, and
// the characters of East Asian scripts and pictures two.
func textWidth(s string) int {
	width := 0
	for i := 0; i < len(s); {
		if n := colourLength(s[i:]); n > 0 {
			i += n
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		width += runeWidth(r)
	}
	return width
}

func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff,
		r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1faff,
		r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}

// colourLength is the length of the colour sequence (SGR) that s begins with, 0 for none.
func colourLength(s string) int {
	if !strings.HasPrefix(s, "\x1b[") {
		return 0
	}
	for i := 2; i < len(s); i++ {
		switch c := s[i]; {
		case c == 'm':
			return i + 1
		case c != ';' && (c < '0' || c > '9'):
			return 0
		}
	}
	return 0
}

// clip shortens s to width columns, the last of them an ellipsis. Colours that are open are closed.
func clip(s string, width int) string {
	if textWidth(s) <= width {
		return s
	}
	if width < 1 {
		return ""
	}
	var b strings.Builder
	used, coloured := 0, false
	for i := 0; i < len(s); {
		if n := colourLength(s[i:]); n > 0 {
			b.WriteString(s[i : i+n])
			coloured = true
			i += n
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if used+runeWidth(r) > width-1 {
			break
		}
		b.WriteString(s[i : i+size])
		used += runeWidth(r)
		i += size
	}
	b.WriteString("…")
	if coloured {
		b.WriteString(reset)
	}
	return b.String()
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

func countOf(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// duration writes d in its two largest units: 3m12s, 2d4h, 10mo12d. A month has 30 days here.
func duration(d time.Duration) string {
	if d < time.Second {
		return "0s"
	}
	units := []struct {
		name string
		size time.Duration
	}{
		{"y", 365 * 24 * time.Hour}, {"mo", 30 * 24 * time.Hour}, {"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second},
	}
	for i, u := range units {
		if d < u.size {
			continue
		}
		out := fmt.Sprintf("%d%s", d/u.size, u.name)
		if i+1 < len(units) {
			if rest := (d % u.size) / units[i+1].size; rest > 0 {
				out += fmt.Sprintf("%d%s", rest, units[i+1].name)
			}
		}
		return out
	}
	return "0s"
}

// moments writes times and IDs short, or whole with -verbose; times then in the zone of now.
type moments struct {
	now     time.Time
	verbose bool
}

// ago writes when t was. A clock that is ahead of ours by a little gives 0s rather than a time to come.
func (f moments) ago(t time.Time) string {
	switch {
	case t.IsZero():
		return none
	case f.verbose:
		return t.In(f.now.Location()).Format(time.RFC3339)
	}
	return duration(f.now.Sub(t)) + " ago"
}

func (f moments) id(id string) string {
	if !f.verbose && len(id) > shortID {
		id = id[:shortID]
	}
	return orNone(id)
}

// cpuShare writes used of total CPU in cores: "0.5/4".
func cpuShare(used, total int64) string { return api.FormatCPU(used) + "/" + api.FormatCPU(total) }

// mibShare writes used of total memory or disk, both in the unit of the total: "0.5/7.7 GiB".
func mibShare(used, total int64) string {
	if total < 1024 {
		return fmt.Sprintf("%d/%d MiB", used, total)
	}
	gib := func(mib int64) string { return strconv.FormatFloat(float64((mib*10+512)/1024)/10, 'f', -1, 64) }
	return gib(used) + "/" + gib(total) + " GiB"
}

// printableColours makes a line of output safe for a terminal but leaves its colours, and closes them at the end.
func printableColours(line string) string {
	line = strings.ReplaceAll(strings.TrimSuffix(line, "\r"), "\t", "    ")
	if !strings.Contains(line, "\x1b[") {
		return printable(line)
	}
	var b strings.Builder
	for line != "" {
		if n := colourLength(line); n > 0 {
			b.WriteString(line[:n])
			line = line[n:]
			continue
		}
		next := strings.Index(line[1:], "\x1b[") + 1
		if next == 0 {
			next = len(line)
		}
		b.WriteString(printable(line[:next]))
		line = line[next:]
	}
	return b.String() + reset
}
