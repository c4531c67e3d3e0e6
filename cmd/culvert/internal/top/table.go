package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/culvert-grpc/culvert/internal/terminal"
)

// A column is one of a table. Its cells are as wide as the longest, if that fits.
type column struct {
	title string
	right bool // its cells end in one line
	least int  // to which its cells may be cut; 0: they aren't
	order int  // when the column is left out, if all don't fit: the greatest first; 0: never
}

// gap is what stands between two columns.
const gap = 2

// table returns lines of at most width cells: a title and one for each row. If width is 0, nothing
// is cut or left out.
func table(columns []column, rows [][]string, width int) []string {
	for _, row := range rows {
		for i := range row {
			row[i] = strings.ReplaceAll(terminal.Text(row[i]), "\t", " ")
		}
	}
	titles, widths, shown := make([]string, len(columns)), make([]int, len(columns)), make([]int, len(columns))
	for i, c := range columns {
		titles[i], widths[i], shown[i] = c.title, cells(c.title), i
		for _, row := range rows {
			widths[i] = max(widths[i], cells(row[i]))
		}
	}
	if width > 0 {
		shown = fit(columns, widths, shown, width)
	}
	var lines []string
	for _, row := range slices.Concat([][]string{titles}, rows) {
		text := line(columns, widths, shown, row)
		if width > 0 {
			text = cut(text, width)
		}
		lines = append(lines, text)
	}
	return lines
}

// firstRows is table with at most tableRows rows, if width isn't 0, and the number of the others.
func firstRows(columns []column, rows [][]string, width int) []string {
	shown := rows
	if width > 0 {
		shown = rows[:min(len(rows), tableRows)]
	}
	lines := table(columns, shown, width)
	if more := len(rows) - len(shown); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return lines
}

// fit leaves out columns that don't fit at their least widths, and then lowers the widths of the
// widest until the rest fits. shown has the indexes of columns.
func fit(columns []column, widths, shown []int, width int) []int {
	over := func(of func(i int) int) int {
		n := gap*(len(shown)-1) - width
		for _, i := range shown {
			n += of(i)
		}
		return n
	}
	least := func(i int) int {
		if columns[i].least == 0 {
			return widths[i]
		}
		return min(widths[i], columns[i].least)
	}
	for over(least) > 0 {
		last := slices.MaxFunc(shown, func(a, b int) int { return cmp.Compare(columns[a].order, columns[b].order) })
		if columns[last].order == 0 {
			break // the lines are cut
		}
		shown = slices.DeleteFunc(slices.Clone(shown), func(i int) bool { return i == last })
	}
	for over(func(i int) int { return widths[i] }) > 0 {
		widest := slices.MaxFunc(shown, func(a, b int) int { return cmp.Compare(widths[a]-least(a), widths[b]-least(b)) })
		if widths[widest] == least(widest) {
			break
		}
		widths[widest]--
	}
	return shown
}

func line(columns []column, widths, shown []int, row []string) string {
	var b strings.Builder
	for n, i := range shown {
		if n > 0 {
			b.WriteString(strings.Repeat(" ", gap))
		}
		text := cut(row[i], widths[i])
		pad := strings.Repeat(" ", widths[i]-cells(text))
		if columns[i].right {
			b.WriteString(pad + text)
		} else {
			b.WriteString(text + pad)
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// cut returns a text in at most width cells, with an ellipsis if it is longer.
func cut(text string, width int) string {
	if cells(text) <= width {
		return text
	}
	used := 0
	for i, r := range text {
		if used += cellsOf(r); used > width-1 {
			return text[:i] + "…"
		}
	}
	return text
}

// cells returns how many cells of a terminal a printable text takes.
func cells(text string) (n int) {
	for _, r := range text {
		n += cellsOf(r)
	}
	return n
}

func cellsOf(r rune) int {
	switch {
	case r < 0x300: // nearly all
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.Is(wide, r):
		return 2
	default:
		return 1
	}
}

// wide are the characters of two cells: East Asian ones, and pictures. UAX #11.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x1100, Hi: 0x115f, Stride: 1},
		{Lo: 0x231a, Hi: 0x231b, Stride: 1},
		{Lo: 0x2329, Hi: 0x232a, Stride: 1},
		{Lo: 0x23e9, Hi: 0x23ec, Stride: 1},
		{Lo: 0x23f0, Hi: 0x23f3, Stride: 3},
		{Lo: 0x25fd, Hi: 0x25fe, Stride: 1},
		{Lo: 0x2614, Hi: 0x2615, Stride: 1},
		{Lo: 0x2630, Hi: 0x2637, Stride: 1},
		{Lo: 0x2648, Hi: 0x2653, Stride: 1},
		{Lo: 0x267f, Hi: 0x268f, Stride: 1}, // a few of these take one
		{Lo: 0x2693, Hi: 0x26a1, Stride: 14},
		{Lo: 0x26aa, Hi: 0x26ab, Stride: 1},
		{Lo: 0x26bd, Hi: 0x26be, Stride: 1},
		{Lo: 0x26c4, Hi: 0x26c5, Stride: 1},
		{Lo: 0x26ce, Hi: 0x26d4, Stride: 6},
		{Lo: 0x26ea, Hi: 0x26f2, Stride: 8},
		{Lo: 0x26f3, Hi: 0x26f5, Stride: 2},
		{Lo: 0x26fa, Hi: 0x26fd, Stride: 3},
		{Lo: 0x2705, Hi: 0x270a, Stride: 5},
		{Lo: 0x270b, Hi: 0x2728, Stride: 29},
		{Lo: 0x274c, Hi: 0x274e, Stride: 2},
		{Lo: 0x2753, Hi: 0x2755, Stride: 1},
		{Lo: 0x2757, Hi: 0x2757, Stride: 1},
		{Lo: 0x2795, Hi: 0x2797, Stride: 1},
		{Lo: 0x27b0, Hi: 0x27bf, Stride: 15},
		{Lo: 0x2b1b, Hi: 0x2b1c, Stride: 1},
		{Lo: 0x2b50, Hi: 0x2b55, Stride: 5},
		{Lo: 0x2e80, Hi: 0xa4cf, Stride: 1},
		{Lo: 0xa960, Hi: 0xa97f, Stride: 1},
		{Lo: 0xac00, Hi: 0xd7a3, Stride: 1},
		{Lo: 0xf900, Hi: 0xfaff, Stride: 1},
		{Lo: 0xfe10, Hi: 0xfe19, Stride: 1},
		{Lo: 0xfe30, Hi: 0xfe6f, Stride: 1},
		{Lo: 0xff00, Hi: 0xff60, Stride: 1},
		{Lo: 0xffe0, Hi: 0xffe6, Stride: 1},
	},
	R32: []unicode.Range32{{Lo: 0x16fe0, Hi: 0x18cff, Stride: 1}, {Lo: 0x1b000, Hi: 0x1b2ff, Stride: 1}, {Lo: 0x1f000, Hi: 0x1faff, Stride: 1}, {Lo: 0x20000, Hi: 0x3fffd, Stride: 1}},
}
