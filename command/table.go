package command

import (
	"fmt"
	"slices"
	"strings"
)

// minColumn is how far a column may be shortened to fit a terminal: an ID is still whole.
const minColumn = shortID

// table is rows under a header. Its cells are made safe when they are added; colours are added when it is written.
type table struct {
	header []string
	rows   [][]string
	colour map[int]func(string) string // by column; gets the cell's text
	whole  []string                    // columns that are never shortened
	spare  []string                    // columns that a narrow terminal does without, the least of them first
	blank  string                      // what an empty cell shows; newTable sets <none>
}

func newTable(header ...string) *table { return &table{header: header, blank: none} }

// colourColumn paints a column's cells.
func (t *table) colourColumn(column int, paint func(string) string) {
	if t.colour == nil {
		t.colour = map[int]func(string) string{}
	}
	t.colour[column] = paint
}

// add adds a row; blank cells become t.blank. Leading spaces stay: a predecessor is set in under its slot.
func (t *table) add(cells ...string) {
	row := make([]string, len(t.header))
	for i := range row {
		if i < len(cells) {
			row[i] = printable(cells[i])
		}
		if row[i] == "" {
			row[i] = t.blank
		}
	}
	t.rows = append(t.rows, row)
}

// render writes the table, two spaces between columns and none at the end of a line. In a terminal of width columns
// (0: no terminal) it first does without the spare columns, then the widest are shortened until a line fits, but none to
// less than an ID.
func (t *table) render(s style, width int) string {
	columns, widths := t.fit(width)
	var b strings.Builder
	line := func(cells []string, paint func(column int, text string) string) {
		for i, column := range columns {
			cell := clip(cells[column], widths[column])
			b.WriteString(paint(column, cell))
			if i < len(columns)-1 {
				b.WriteString(strings.Repeat(" ", widths[column]-textWidth(cell)+2))
			}
		}
		b.WriteString("\n")
	}
	line(t.header, func(_ int, text string) string { return s.heading(text) })
	for _, row := range t.rows {
		line(row, func(i int, text string) string {
			if f := t.colour[i]; f != nil {
				return f(text)
			}
			return text
		})
	}
	return b.String()
}

// fit chooses the columns to show, and how wide each is.
func (t *table) fit(width int) (columns, widths []int) {
	widths = make([]int, len(t.header))
	total := -2
	for i, h := range t.header {
		widths[i] = textWidth(h)
		for _, row := range t.rows {
			widths[i] = max(widths[i], textWidth(row[i]))
		}
		columns = append(columns, i)
		total += widths[i] + 2
	}
	if width == 0 {
		return columns, widths
	}
	for _, name := range t.spare {
		if total <= width {
			break
		}
		i := slices.Index(t.header, name)
		columns = slices.DeleteFunc(columns, func(c int) bool { return c == i })
		total -= widths[i] + 2
	}
	for ; total > width; total-- {
		widest := -1
		for _, i := range columns {
			if widths[i] > minColumn && (widest < 0 || widths[i] > widths[widest]) && !slices.Contains(t.whole, t.header[i]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	return columns, widths
}

// block is a list of "Key = value" lines with the equals signs under each other.
type block struct{ keys, values []string }

func (b *block) add(key, format string, args ...any) {
	b.keys = append(b.keys, key)
	b.values = append(b.values, orNone(printable(fmt.Sprintf(format, args...))))
}

// addIf adds a line unless its value is blank.
func (b *block) addIf(key, value string) {
	if value != "" {
		b.add(key, "%s", value)
	}
}

func (b *block) render(s style) string {
	width := 0
	for _, k := range b.keys {
		width = max(width, textWidth(k))
	}
	var out strings.Builder
	for i, k := range b.keys {
		value := b.values[i]
		if k == "Status" {
			value = s.state(value)
		}
		fmt.Fprintf(&out, "%s%s = %s\n", s.heading(k), strings.Repeat(" ", width-textWidth(k)), value)
	}
	return out.String()
}
