package main

import (
	"cmp"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A page gathers what is measured, prints it as it comes, and writes it as
// Markdown.
type page struct {
	o          options
	promised   struct{ cpu, rate []string }
	secured    []string // over TLS
	swept      []string // other numbers of streams, other sizes
	weighed    []string
	operated   []string
	costs      []string // of Connect
	converts   []string // costs of JSON
	bare       []string // costs of bare messages
	dialled    []string // costs of culvert dial
	identified []string // costs of a caller's identity
	scripted   []string // clients in JavaScript
	tallied    []string
	failed     []error // rows that couldn't be measured
}

// cell tells a result.
func (p *page) cell(r *result) {
	if r.overTLS() {
		p.tls(r)
		return
	}
	other := float64(r.medians(r.against()).perMessage)
	judged := float64(r.medians(culvertOne).perMessage) / other
	byDefault := float64(r.medians("culvert").perMessage) / other
	fmt.Printf("%-62s %.2f× of %s with GOMAXPROCS=1%s, %.2f× by default\n", r.name, judged, r.against(), r.verdict(judged), byDefault)
	var times, rates []string
	for _, name := range r.peers {
		m := r.medians(name)
		allocations := ""
		if name == "culvert" {
			allocations = fmt.Sprintf("  %.1f allocations", r.mallocs)
		}
		fmt.Printf("    %-22s %8.2f µs CPU  %9.0f/s (at least %.0f)  p50 %8s  p99 %8s%s\n",
			name, micros(m.perMessage), m.rate, r.slowest(name), latency(m.p50), latency(m.p99), allocations)
		if name != "direct" {
			times = append(times, fmt.Sprintf("%.2f", micros(m.perMessage)))
		}
		rates = append(rates, fmt.Sprintf("%.0f", m.rate), latencies(m))
	}
	if r.bound == 0 {
		row := fmt.Sprintf("| %s | %.2f× | %.2f×", r.name, judged, byDefault)
		for _, name := range []string{"culvert", r.against()} {
			m := r.medians(name)
			row += fmt.Sprintf(" | %.2f | %s", micros(m.perMessage), latencies(m))
		}
		p.swept = append(p.swept, row+" | "+latencies(r.medians("direct"))+" |")
		return
	}
	aim := "–"
	if r.aim > 0 {
		aim = fmt.Sprintf("%.2f×", r.aim)
	}
	p.promised.cpu = append(p.promised.cpu, fmt.Sprintf("| %s | %s | **%.2f×** | %.2f× | %s | %.2f× | %s | %.1f |",
		r.name, r.against(), judged, r.bound, aim, byDefault, strings.Join(times, " | "), r.mallocs))
	p.promised.rate = append(p.promised.rate, fmt.Sprintf("| %s | %s | %s |", r.name, r.against(), strings.Join(rates, " | ")))
}

// tls tells a result of TLS: against plaintext, and against another that ends it.
func (p *page) tls(r *result) {
	mine := r.medians(culvertTLS)
	fmt.Println(r.name)
	row := "| " + r.name
	for _, name := range r.peers {
		m := r.medians(name)
		ratio := float64(mine.perMessage) / float64(m.perMessage)
		fmt.Printf("    %-26s %8.2f µs CPU  %9.0f/s  p50 %8s  p99 %8s  %.2f×\n", name, micros(m.perMessage), m.rate, latency(m.p50), latency(m.p99), ratio)
		switch name {
		case culvertTLS:
		case "culvert":
			row += fmt.Sprintf(" | **%.2f×**", ratio)
		default:
			row += fmt.Sprintf(" | %s | **%.2f×**", name, ratio)
		}
		row += fmt.Sprintf(" | %.2f | %.0f | %s", micros(m.perMessage), m.rate, latencies(m))
	}
	p.secured = append(p.secured, row+" |")
}

func (r *result) verdict(ratio float64) string {
	switch {
	case r.bound == 0:
		return ""
	case ratio <= r.bound:
		return fmt.Sprintf(" (at most %.2f×)", r.bound)
	default:
		return fmt.Sprintf(" (at most %.2f×: MISSED)", r.bound)
	}
}

// weight tells a figure of each peer, and returns the row.
func (p *page) weight(w weight, figures map[string]float64) string {
	mine := w.peers[0]
	bound, aim, missed := fmt.Sprintf("at most %g", w.bound), fmt.Sprintf("%g", w.aim), figures[mine] > w.bound
	switch {
	case w.bound == unbounded:
		bound, aim = "–", "–"
	case w.least:
		bound, missed = fmt.Sprintf("at least %g", w.bound), figures[mine] < w.bound
	}
	line := fmt.Sprintf("%-70s", w.name)
	columns := map[string]string{}
	for _, name := range w.peers {
		columns[name] = strings.TrimSpace(fmt.Sprintf("%.1f %s", figures[name], w.unit))
		line += "  " + name + " " + columns[name]
	}
	if missed {
		line += "  MISSED"
	}
	fmt.Printf("%s  (%s)\n", line, bound)
	var others []string
	for _, name := range w.peers[1:] {
		others = append(others, columns[name]+" ("+name+")")
	}
	return fmt.Sprintf("| %s | **%s** | %s | %s | %s |", w.name, columns[mine], bound, aim, cmp.Or(strings.Join(others, "; "), "–"))
}

// script tells what each client in JavaScript had.
func (p *page) script(l scriptLoad, figures map[string]float64) {
	against, ratio := l.against(figures)
	bound, missed := l.limit(figures)
	line := fmt.Sprintf("%-62s", l.name)
	times := "–"
	if ratio > 0 {
		times = fmt.Sprintf("%.2f×", ratio)
		line += fmt.Sprintf(" %s of %s", times, against)
	}
	line += " (bound " + bound
	if missed {
		line += ": MISSED"
	}
	line += ")"
	row := fmt.Sprintf("| %s | %s | **%s** | %s", l.name, against, times, bound)
	for _, name := range scriptClients {
		text := "–"
		if figure, ok := figures[name]; ok {
			text = fmt.Sprintf("%g", figure)
			if l.unit != "" {
				text = fmt.Sprintf("%.2f %s", figure, l.unit)
			}
			line += "  " + name + " " + text
		}
		row += " | " + text
	}
	fmt.Println(line)
	p.scripted = append(p.scripted, row+" |")
}

// tally tells the counts of each program.
func (p *page) tally(t tally, counts map[string]count) {
	older := counts[tallyOlder]
	fmt.Println(t.name)
	row := "| " + strings.TrimPrefix(t.name, "instructions: ")
	for _, name := range tallyPeers {
		c := counts[name]
		fmt.Printf("    %-22s %9.0f instructions ±%.1f %% (%.3f×)  %6.1f allocations (%.3f×)%s\n", name, c.instructions, 50*c.spread, c.instructions/older.instructions, c.mallocs, c.mallocs/older.mallocs, missed(name, c, older))
		if name != tallyOlder {
			row += fmt.Sprintf(" | **%.3f×**", c.instructions/older.instructions)
		}
		row += fmt.Sprintf(" | %.0f ±%.1f %% | %.1f", c.instructions, 50*c.spread, c.mallocs)
	}
	p.tallied = append(p.tallied, row+" |")
}

// missed tells whether a program without metrics costs more than is allowed.
func missed(name string, c, older count) string {
	switch {
	case name != tallyOff:
		return ""
	case c.instructions > tallyBound*older.instructions || c.mallocs > tallyBound*older.mallocs:
		return fmt.Sprintf("  MISSED (at most %g×)", tallyBound)
	default:
		return fmt.Sprintf("  (at most %g×)", tallyBound)
	}
}

// medians of a peer's rounds.
func (r *result) medians(name string) figure {
	var cpu, rate, p50, p99 []float64
	for _, f := range r.figures[name] {
		cpu = append(cpu, float64(f.perMessage))
		rate = append(rate, f.rate)
		p50 = append(p50, float64(f.p50))
		p99 = append(p99, float64(f.p99))
	}
	return figure{perMessage: time.Duration(median(cpu)), rate: median(rate), p50: time.Duration(median(p50)), p99: time.Duration(median(p99))}
}

// slowest returns the lowest rate of a peer's rounds: the median doesn't show that one
// round stood still.
func (r *result) slowest(name string) float64 {
	return slices.MinFunc(r.figures[name], func(a, b figure) int { return cmp.Compare(a.rate, b.rate) }).rate
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

func latency(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1e3)
}

// latencies returns the cell of p50 and p99, in milliseconds.
func latencies(f figure) string {
	if f.p50 == 0 {
		return "–"
	}
	return strings.ReplaceAll(latency(f.p50)+" / "+latency(f.p99), " ms", "")
}

const pageHead = `# Benchmarks

For people who choose or size a proxy: the cost of culvert and of other proxies for the same load.

With many streams, culvert needs less CPU time than the other proxies. nginx needs less for a single stream of native gRPC, for new TLS
connections, and by default for 1,000 native streams of 256 KiB. On other machines the ratios vary less than the other figures.
` + "`make bench`" + ` measures again, and writes this page.

## Method

- The proxies run one after the other in front of the same grpc-go process, which shares the machine with client and proxy.
- Figures are medians of the rounds, each after a warm-up. Loads without a bound have a third as many rounds.
- *CPU time* is the proxy's user and system time for a message; for an echo, for a message and its answer.
- culvert runs by default, and with ` + "`GOMAXPROCS=1`" + ` ([CPU](../guides/memory-and-cpu.md#cpu)), to which the bounds of CPU time apply.
- *grpcwebproxy* buffers WebSocket messages that aren't read. If it breaks off a stream, the run is repeated.
- *vanguard* is Go's reverse proxy with [vanguard-go](https://github.com/connectrpc/vanguard-go).
- *nginx* forwards native gRPC. Before a WebSocket it terminates TLS in front of culvert; the figures are the sum of both.
- *direct* is the same load in native gRPC, without a proxy.

## How to read the tables

- *ratio*: below 1, culvert needs less CPU time than the proxy in the column *against*, whose figures are *its*. In *Streams and
  sizes* that is grpcwebproxy for WebSockets, and nginx for native gRPC. *ratio to plaintext* is the cost of TLS (1.3, an
  ECDSA P-256 certificate, no resumption).
- *bound* is the worst value allowed, and *aim* is the target.
- *full duplex*: 64 messages of each stream are in flight; of large messages as many as fit 256 KiB, but at least 4.
- *allocations* are culvert's own for each message. *p50 / p99* is the client's latency in milliseconds.
- *more CPU time* compares two runs of culvert with ` + "`GOMAXPROCS=1`" + `, by turns. The routes are a third each by host, prefix and service,
  and the last one takes the calls.
- *culvert dial* has a ` + "`culvert serve`" + ` behind it, whose CPU time doesn't count, and no TLS.
- *ping rate kept* is the rate of calls beside stuck streams, in percent of the rate without them.
- *wake-ups* are the voluntary context switches of all threads, in 40 s.
- *time of a conversion* is for a request and a reply, by turns with protojson and proto in one process.
- *In a page* has clients in JavaScript, all through culvert. The figures are CPU time of the main thread for a message. In Chromium
  that is ` + "`TaskDuration`" + ` of DevTools' ` + "`Performance.getMetrics`" + ` in thread ticks, with the browser's own work; in Node the thread's time in
  ` + "`/proc`" + `. *ratio* is to the best of the others over WebSockets.
- *instructions* are culvert's outside the kernel, as callgrind counts them with ` + "`GOMAXPROCS=1`" + `. ± is half the distance of the farthest
  rounds. Without metrics at most 1.03× is allowed, also of allocations.

`

const pageEnd = `
Next: [decisions](../decisions/README.md), [memory and CPU](../guides/memory-and-cpu.md).
`

// A section is a table of the page.
type section struct {
	title, head string
	rows        []string
}

func (p *page) sections() []section {
	const (
		times = "| load | against | ratio, `GOMAXPROCS=1` | bound | aim | ratio, by default | culvert µs, `GOMAXPROCS=1` | culvert µs, by default | its µs | allocations |\n" +
			"|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"
		rates = "| load | against | culvert /s, `GOMAXPROCS=1` | p50 / p99 | culvert /s, by default | p50 / p99 | its /s | p50 / p99 | direct /s | p50 / p99 |\n" +
			"|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"
		swept = "| load | ratio, `GOMAXPROCS=1` | ratio, by default | culvert µs, by default | p50 / p99 | its µs | p50 / p99 | direct p50 / p99 |\n" +
			"|---|--:|--:|--:|--:|--:|--:|--:|"
		weighed = "| what | culvert | bound | aim | the other |\n|---|--:|--:|--:|--:|"
		tallied = "| load | commit %s: instructions | allocations | ratio | without metrics: instructions | allocations | ratio | with metrics: instructions | allocations |\n" +
			"|---|--:|--:|--:|--:|--:|--:|--:|--:|"
	)
	return []section{
		{"CPU time a message", times, p.promised.cpu},
		{"Rate and latency", rates, p.promised.rate},
		{"TLS", "| load | culvert µs | culvert /s | p50 / p99 | ratio to plaintext | its µs | its /s | p50 / p99 | against | ratio | its µs | its /s | p50 / p99 |\n|---|--:|--:|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|", p.secured},
		{"Memory, start and neighbours", weighed, p.weighed},
		{"Routes, metrics, reloads, drains and rest", weighed, p.operated},
		{"Connect beside gRPC-Web", weighed, p.costs},
		{"JSON beside protojson", weighed, p.converts},
		{"Bare messages beside grpc-websockets", weighed, p.bare},
		{"culvert dial beside culvert serve", weighed, p.dialled},
		{"Who calls", weighed, p.identified},
		{"In a page", "| load | against | ratio | bound | " + strings.Join(scriptClients, " | ") + " |\n|---|---|--:|--:" + strings.Repeat("|--:", len(scriptClients)) + "|", p.scripted},
		{"Instructions and allocations a message", fmt.Sprintf(tallied, p.o.older), p.tallied},
		{"Streams and sizes", swept, p.swept},
	}
}

// write writes the page. A table that wasn't measured stays as it was, if the page has it.
func (p *page) write(a *arena) error {
	if p.o.out == "" {
		return nil
	}
	before, err := os.ReadFile(p.o.out)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text := p.text(string(before), a.measured()+fmt.Sprintf("; %d rounds of %v", p.o.rounds, p.o.measure))
	return os.WriteFile(p.o.out, []byte(text), 0o644) //nolint:gosec // a page of the documents
}

// text returns the page, with the tables of the page before that weren't measured. What
// was measured stands above a table if it differs from that of the table before.
func (p *page) text(before, measured string) string {
	kept := make(map[string][2]string) // by title: what was measured, and the table
	above := ""
	for _, part := range strings.Split(strings.TrimSuffix(before, pageEnd), "\n## ")[1:] {
		title, text, _ := strings.Cut(part, "\n")
		head, table, _ := strings.Cut(text, "|")
		if strings.HasPrefix(strings.TrimSpace(head), "Measured") {
			above = strings.TrimSpace(head)
		}
		kept[title] = [2]string{above, strings.TrimSpace("|" + table)}
	}
	var b strings.Builder
	b.WriteString(pageHead)
	above = ""
	for _, s := range p.sections() {
		now := kept[s.title]
		if len(s.rows) > 0 {
			now = [2]string{measured + ".", s.head + "\n" + strings.Join(s.rows, "\n")}
		}
		if now[1] == "" {
			continue
		}
		fmt.Fprintf(&b, "## %s\n\n", s.title)
		if now[0] != above {
			above = now[0]
			fmt.Fprintf(&b, "%s\n\n", above)
		}
		fmt.Fprintf(&b, "%s\n\n", now[1])
	}
	return strings.TrimSuffix(b.String(), "\n") + pageEnd
}

var modelName = regexp.MustCompile(`(?m)^model name\s*:\s*(.*)$`)

// measured says what is measured, on what and when.
func (a *arena) measured() string {
	model := "an unknown processor"
	info, _ := os.ReadFile("/proc/cpuinfo") // not every system has it
	if found := modelName.FindSubmatch(info); found != nil {
		model = string(found[1])
	}
	culvert, _, _ := strings.Cut(say(a.bins.culvert, "version"), " (") // which commit and Go it names
	nginx := strings.TrimPrefix(say(a.bins.nginx, "-v"), "nginx version: ")
	return fmt.Sprintf("Measured on %s: %s, grpcwebproxy v0.15.0, vanguard %s, %s, %d CPUs (%s), Linux %s, %s",
		time.Now().Format("2 January 2006"), culvert, versionOf(a.bins.vanguard, "connectrpc.com/vanguard"), nginx, runtime.NumCPU(), model, say("uname", "-r"), runtime.Version())
}

// versionOf returns the version of a module in a Go program.
func versionOf(bin, module string) string {
	if info, err := buildinfo.ReadFile(bin); err == nil {
		for _, dep := range info.Deps {
			if dep.Path == module {
				return dep.Version
			}
		}
	}
	return "unknown version"
}

// say returns what a program prints.
func say(name string, args ...string) string {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return "unknown version"
	}
	return strings.TrimSpace(string(out))
}
