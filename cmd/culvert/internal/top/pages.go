package top

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

var callColumns = []column{
	{title: "AGE", right: true},
	{title: "WAITS FOR"},
	{title: "SINCE", right: true, order: 2},
	{title: "LAST", right: true, order: 3},
	{title: "IN", right: true, order: 5},
	{title: "OUT", right: true, order: 4},
	{title: "METHOD", least: 28},
	{title: "PEER", least: 15, order: 1},
	{title: "IDENTITY", least: 8, order: 8},
	{title: "TRANSPORT", order: 7},
	{title: "BACKEND", least: 8, order: 6},
	{title: "ID", least: 16, order: 9},
}

// callRows are the rows of callColumns. LAST is how long ago the last message passed.
func callRows(all []admin.Call, now time.Time) [][]string {
	rows := make([][]string, len(all))
	for i := range all {
		c := &all[i]
		last, since := "-", "-"
		if !c.LastMessage.IsZero() {
			last = short(now.Sub(c.LastMessage).Truncate(time.Second)) // it has no more
		}
		if c.WaitsFor != admin.WaitsNot {
			since = short(time.Duration(c.WaitingSeconds * float64(time.Second)))
		}
		who := cmp.Or(string(c.Identity), string(c.Client), "-")
		rows[i] = []string{
			short(time.Duration(c.AgeSeconds * float64(time.Second))), cmp.Or(c.WaitsFor, "-"), since, last, flow(c.MessagesIn, c.BytesIn), flow(c.MessagesOut, c.BytesOut),
			cmp.Or(string(c.Method), "-"), string(c.Peer), who, string(c.Transport), cmp.Or(string(c.Backend), "-"), string(c.ID),
		}
	}
	return rows
}

// Calls returns the lines of open calls, for a terminal of that width; 0: for a file.
func Calls(all *admin.Calls, width int) []string {
	lines := []string{fitted(summary(all), width)}
	if len(all.Calls) > 0 {
		lines = append(append(lines, ""), table(callColumns, callRows(all.Calls, all.At), width)...)
	}
	return lines
}

// summary counts the calls in words.
func summary(all *admin.Calls) string {
	text := count(all.Open, "open call")
	if all.Matching != all.Open {
		text += fmt.Sprintf(", %d selected", all.Matching)
	}
	w := all.Waiting
	var waits []string
	for _, x := range []struct {
		n   int
		who string
	}{{w.Client, "the client"}, {w.Backend, "the backend"}, {w.Memory, "memory"}, {w.Place, "a place"}, {w.Answer, "an answer"}} {
		if x.n > 0 {
			waits = append(waits, fmt.Sprintf("%d for %s", x.n, x.who))
		}
	}
	if len(waits) > 0 {
		text += "; waiting: " + strings.Join(waits, ", ")
	}
	return text
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// A State is what a page of top shows.
type State struct {
	Status      admin.Status
	Calls       admin.Calls
	Connections admin.Connections
	Backends    admin.Backends
	Routes      admin.Routes
}

// tableRows bounds the rows of backends and routes on a page.
const tableRows = 8

// Page returns the lines of a page, for a terminal of that size; 0: for a file. calls is what
// the calls are in the order of.
func Page(s *State, width, height int, order string) []string {
	lines := head(s)
	lines = append(lines, "")
	lines = append(lines, backends(&s.Backends, width)...)
	if len(s.Routes.Routes) > 0 {
		lines = append(append(lines, ""), routes(&s.Routes, width)...)
	}
	lines = append(lines, "", "CALLS by "+order+": "+summary(&s.Calls))
	if len(s.Calls.Calls) > 0 {
		lines = append(lines, table(callColumns, callRows(s.Calls.Calls, s.Calls.At), width)...)
	}
	for i := range lines {
		lines[i] = fitted(lines[i], width)
	}
	if height > 0 && len(lines) > height {
		lines = lines[:height]
	}
	return lines
}

// head returns the lines about the program.
func head(s *State) []string {
	st := &s.Status
	first := fmt.Sprintf("culvert %s, up %s, %s, log level %s", st.Version, short(st.At.Sub(st.Started)), st.Drain.State, st.LogLevel)
	if st.Configuration.File != "" {
		first += fmt.Sprintf(", %s (%s) since %s", st.Configuration.File, st.Configuration.Version, st.Configuration.Since.Format(time.RFC3339))
	}
	lines := []string{first}
	if len(st.Configuration.Rejected) > 0 {
		lines = append(lines, "! a newer file was rejected: "+string(st.Configuration.Rejected[0]))
	}
	for i, problem := range st.Problems {
		if i == 3 {
			lines = append(lines, fmt.Sprintf("! and %d more problems: GET /status has them", len(st.Problems)-i))
			break
		}
		lines = append(lines, "! "+string(problem))
	}
	open, tunnels := 0, 0
	kinds := make(map[string]int)
	var names []string
	for _, c := range s.Connections.Connections {
		open, tunnels = open+c.Open, tunnels+c.Tunnels
		name := cmp.Or(string(c.Transport), "unheard")
		if kinds[name] == 0 {
			names = append(names, name)
		}
		kinds[name] += c.Open
	}
	text := count(open, "connection")
	for i, name := range names {
		text += map[bool]string{true: ": ", false: ", "}[i == 0] + fmt.Sprintf("%d %s", kinds[name], name)
	}
	if tunnels > 0 {
		text += ", of these " + count(tunnels, "tunnel")
	}
	return append(lines, text)
}

func backends(all *admin.Backends, width int) []string {
	columns := []column{
		{title: "BACKEND", least: 8},
		{title: "STATE"},
		{title: "CALLS", right: true},
		{title: "WAITING", right: true},
		{title: "ADDRESS", least: 15},
		{title: "CONNS", right: true, order: 4},
		{title: "PLACES", right: true, order: 3},
		{title: "PICKS", right: true, order: 2},
		{title: "HEALTH", least: 8, order: 1},
	}
	var rows [][]string
	for _, b := range all.Backends {
		state := b.State
		if b.Draining {
			state = "draining"
		}
		row := []string{string(b.Name), state, strconv.Itoa(b.Calls), strconv.Itoa(b.Waiting)}
		if len(b.Addresses) == 0 {
			rows = append(rows, append(row, "-", "-", "-", "-", "-"))
		}
		for i, a := range b.Addresses {
			if i > 0 {
				row = []string{"", "", "", ""}
			}
			places, health := strconv.Itoa(a.Places), "ok"
			if a.Places < 0 {
				places = "no limit"
			}
			switch {
			case a.Unhealthy:
				health = "unhealthy: " + string(a.Failure)
			case a.Failure != "":
				health = string(a.Failure)
			case !a.Accepts:
				health = "idle"
			}
			rows = append(rows, append(row, string(a.Address), strconv.Itoa(a.Connections), places, strconv.FormatInt(a.Picks, 10), health))
		}
	}
	return firstRows(columns, rows, width)
}

func routes(all *admin.Routes, width int) []string {
	columns := []column{{title: "ROUTE", least: 8}, {title: "BACKEND", least: 8}, {title: "CALLS/S", right: true}, {title: "ERRORS/S", right: true}, {title: "MEAN", right: true}, {title: "CALLS", right: true, order: 2}, {title: "ERRORS", right: true, order: 1}}
	rows := make([][]string, len(all.Routes))
	for i, r := range all.Routes {
		rows[i] = []string{
			cmp.Or(string(r.Route), "-"), cmp.Or(string(r.Backend), "-"), fmt.Sprintf("%.1f", r.CallsPerSecond), fmt.Sprintf("%.1f", r.ErrorsPerSecond),
			short(time.Duration(r.MeanSeconds * float64(time.Second))), strconv.FormatInt(r.Calls, 10), strconv.FormatInt(r.Errors, 10),
		}
	}
	return firstRows(columns, rows, width)
}

// fitted returns a line in at most width cells, safe for a terminal; 0: of any length.
func fitted(text string, width int) string {
	text = strings.ReplaceAll(terminal.Text(text), "\t", " ")
	if width > 0 {
		return cut(text, width)
	}
	return text
}

// short returns a time with its two greatest units.
func short(d time.Duration) string {
	switch d = max(d, 0); {
	case d == 0:
		return "0s"
	case d < time.Second:
		return fmt.Sprintf("%dms", max(d.Milliseconds(), 1))
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
}

func flow(messages, bytes int64) string {
	return fmt.Sprintf("%d/%s", messages, size(bytes))
}

// size returns a number of bytes in the greatest unit.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	v, unit := float64(n), 0
	for v >= 1024 && unit < len(units)-1 {
		v, unit = v/1024, unit+1
	}
	if unit == 0 || v >= 100 {
		return fmt.Sprintf("%.0f%s", v, units[unit])
	}
	return fmt.Sprintf("%.1f%s", v, units[unit])
}
