package command

import (
	"fmt"
	"strings"
)

// minColumn is how far a column may be shortened to fit a terminal: an ID is still whole.
const minColumn = shortID

// table is rows under a header. Its cells are made safe when they are added; colours are added when it is written.
type table struct {
	header []string
	rows   [][]string
	colour map[int]func(string) string // by column; gets the cell's text
}

func newTable(header ...string) *table { return &table{header: header} }

// colourColumn paints a column's cells.
func (t *table) colourColumn(column int, paint func(string) string) {
	if t.colour == nil {
		t.colour = map[int]func(string) string{}
	}
	t.colour[column] = paint
}

// add adds a row; blank cells become <none>. Leading spaces stay: a predecessor is set in under its slot.
func (t *table) add(cells ...string) {
	row := make([]string, len(t.header))
	for i := range row {
		if i < len(cells) {
			row[i] = printable(cells[i])
		}
		row[i] = orNone(row[i])
	}
	t.rows = append(t.rows, row)
}

// render writes the table, two spaces between columns and none at the end of a line. In a terminal of width columns
// (0: no terminal) the widest columns are shortened until a line fits, but none to less than an ID.
func (t *table) render(s style, width int) string {
	widths := t.widths(width)
	var b strings.Builder
	line := func(cells []string, paint func(column int, text string) string) {
		var l strings.Builder
		for i, cell := range cells {
			cell = clip(cell, widths[i])
			pad := widths[i] - textWidth(cell) + 2
			l.WriteString(paint(i, cell))
			if i < len(cells)-1 {
				l.WriteString(strings.Repeat(" ", pad))
			}
		}
		b.WriteString(l.String() + "\n")
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

func (t *table) widths(width int) []int {
	widths := make([]int, len(t.header))
	total := 2 * (len(widths) - 1)
	for i, h := range t.header {
		widths[i] = textWidth(h)
		for _, row := range t.rows {
			widths[i] = max(widths[i], textWidth(row[i]))
		}
		total += widths[i]
	}
	for width > 0 && total > width {
		widest := 0
		for i := range widths {
			if widths[i] > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= minColumn {
			break
		}
		widths[widest]--
		total--
	}
	return widths
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
