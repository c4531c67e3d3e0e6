package e2e

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
)

var update = flag.Bool("update", false, "write docs/how-it-works/compatibility.md from what this run saw")

const pageFile = "../docs/how-it-works/compatibility.md"

// results is what came of each cell, by client and row: "" for ✓, else the reason.
type results map[string]map[string]string

const failed = "FAILED"

// add notes what came of a scenario. Several may share a row: the worst counts.
func (rs results) add(client string, s scenario, l *limitation, wrong bool) {
	if rs[client] == nil {
		rs[client] = map[string]string{}
	}
	cell := ""
	switch {
	case wrong:
		cell = failed
	case l != nil:
		cell = l.reason
	}
	if before, ok := rs[client][s.rowName()]; !ok || before != failed && cell != "" {
		rs[client][s.rowName()] = cell
	}
}

func (s scenario) rowName() string {
	if s.row != "" {
		return s.row
	}
	return s.name
}

// rows returns the rows of the table, in order.
func rows() []string {
	var out []string
	for _, s := range scenarios {
		if !slices.Contains(out, s.rowName()) {
			out = append(out, s.rowName())
		}
	}
	return out
}

// text prints the results, clients in rows and scenarios in columns.
func (rs results) text() string {
	var b strings.Builder
	for i, row := range rows() {
		fmt.Fprintf(&b, "%3d %s\n", i+1, row)
	}
	fmt.Fprintf(&b, "\n%-32s", "")
	for i := range rows() {
		fmt.Fprintf(&b, "%3d", i+1)
	}
	for _, c := range clients {
		fmt.Fprintf(&b, "\n%-32s", c.name)
		for _, row := range rows() {
			mark := "✓"
			switch rs[c.name][row] {
			case "":
			case failed:
				mark = "✗"
			default:
				mark = "·"
			}
			fmt.Fprintf(&b, "  %s", mark)
		}
	}
	return b.String()
}

// comparePage holds the published page to what this run saw.
func comparePage(t *testing.T, rs results) {
	t.Helper()
	if t.Failed() {
		return // there is something else to correct first
	}
	page := rs.page(t)
	if *update {
		if err := os.WriteFile(pageFile, page, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	committed, err := os.ReadFile(pageFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(committed, page) {
		t.Errorf("%s is not what this run saw; write it with: go test -run TestPublishedClients -update", pageFile)
	}
}

// versions returns the version of each client's package.
func versions(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile("node/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	var lock struct {
		Packages map[string]struct {
			Version string `json:"version"`
		} `json:"packages"`
	}
	if err := json.Unmarshal(raw, &lock); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{"google.golang.org/grpc": grpc.Version}
	for _, c := range clients {
		if p, ok := lock.Packages["node_modules/"+c.pkg]; ok {
			out[c.pkg] = p.Version
		}
		if out[c.pkg] == "" {
			t.Fatalf("package-lock.json has no %s", c.pkg)
		}
	}
	return out
}

// page writes the published page.
func (rs results) page(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(pageHead)
	version := versions(t)
	b.WriteString("| package | version | where | what is on the wire |\n|---|---|---|---|\n")
	for _, line := range packages() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", line.pkg, version[line.pkg], strings.Join(line.where, ", "), strings.Join(line.carriers, "; "))
	}
	notes := rs.notes()
	for _, p := range platforms {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", p.title, p.text)
		rs.table(&b, p.name, notes)
	}
	b.WriteString("\n## Notes\n\nWhat a client, or the nginx before it, can't do, whoever answers. These cells are run as well and have to fail, but for those that say otherwise.\n\n")
	for i, reason := range notes {
		fmt.Fprintf(&b, "- **%c**: %s\n", 'a'+i, reason)
	}
	committed, err := os.ReadFile(pageFile)
	if err != nil {
		t.Fatal(err)
	}
	_, paused, _ := cutPauseTable(t, string(committed)) // another test's
	b.WriteString(pageTail + pausedHead + pauseTableBegin + paused + pauseTableEnd + pageEnd)
	return b.Bytes()
}

func (rs results) table(b *bytes.Buffer, platform string, notes []string) {
	var of []publishedClient
	b.WriteString("\n|")
	for _, c := range clients {
		if c.platform() == platform {
			of = append(of, c)
			fmt.Fprintf(b, " | %s", c.title)
		}
	}
	b.WriteString(" |\n|---" + strings.Repeat("|:-:", len(of)) + "|\n")
	for _, row := range rows() {
		fmt.Fprintf(b, "| %s", row)
		for _, c := range of {
			mark := "✓"
			if at := slices.Index(notes, rs[c.name][row]); at >= 0 {
				mark = fmt.Sprintf("[%c](#notes)", 'a'+at)
			}
			fmt.Fprintf(b, " | %s", mark)
		}
		b.WriteString(" |\n")
	}
}

// notes returns the reasons in the results, each once, in limitations' order.
func (rs results) notes() []string {
	var out []string
	for _, l := range limitations {
		for _, cells := range rs {
			for _, cell := range cells {
				if cell == l.reason && !slices.Contains(out, cell) {
					out = append(out, cell)
				}
			}
		}
	}
	return out
}

// A packageLine says where a package was tested, and how.
type packageLine struct {
	pkg             string
	where, carriers []string
}

func packages() []*packageLine {
	var out []*packageLine
	for _, c := range clients {
		at := slices.IndexFunc(out, func(l *packageLine) bool { return l.pkg == c.pkg })
		if at < 0 {
			at = len(out)
			out = append(out, &packageLine{pkg: c.pkg})
		}
		l := out[at]
		where := map[string]string{"go": "Go", "node": "Node", "chromium": "Chromium"}[c.platform()]
		if !slices.Contains(l.where, where) {
			l.where = append(l.where, where)
		}
		if !slices.Contains(l.carriers, c.carrier) {
			l.carriers = append(l.carriers, c.carrier)
		}
	}
	return out
}

var platforms = []struct{ name, title, text string }{
	{"go", "In Go", "The third is a client in a company's network: its WebSocket crosses a forward proxy, tinyproxy, by CONNECT, and an\nnginx that ends TLS."},
	{"node", "In Node", "Clients that are made for browsers run here as they are, but for those on XMLHttpRequest, which Node has not (`grpc-web`,\nand one transport of improbable-eng); those that need a WebSocket are given that of `ws` where Node has none."},
	{"chromium", "In a browser", "Headless Chromium, with a page of another origin than culvert's, which `--allow-origin` allows. The last three cross an nginx\nthat ends TLS; it buffers as it does by default."},
}

const pageHead = `# Compatibility

For whoever has a gRPC client and wants to know whether it works through culvert, and what that client can't do.

The tests wrote this page, and fail when a run sees anything else: ` + "`make test-long`" + ` runs the program between each of these
published, unmodified clients and a server in grpc-go. What the server saw (the deadline, every message, how the call
ended) comes from the server itself, over a side channel, not from what a client believes. **✓** is a call that went as it
should at both ends; a letter is a note below. To write the page anew:
` + "`cd e2e && go test -run TestPublishedClients -update`" + `.

## The clients

`

const pageTail = `
## What the rows mean

- *Replies before any request*: the server answers a bidirectional call at once; the client sends nothing before.
- *The header before any message*: the server sends its header and then nothing; the client sees it, and cancels.
- *In order*: every message is numbered and has a checksum, at both ends.
- *An error while the client sends*: the server answers after the first of 100 requests of 64 KiB; the client is told that
  answer, and not that its connection broke.
- *Metadata with nothing in it*: values of no bytes, in text and in ` + "`-bin`" + `, both ways.
- *Compressed*: with gzip, as the client sends them; the server sees gzip, too.
- *Rich details, byte by byte*: ` + "`google.rpc.Status`" + ` with eight details of six types, one of which nobody knows.
- *A hostile status message*: ` + "`%`" + `, quotes, control characters, CR LF, what looks like a trailer, emoji.
- *A deadline passes*, *the client cancels*, *the client goes away* (its page or process ends): the server's context ends at once.
  On HTTP/1.1 Chromium may take up to 5 s more: it waits whether the response of an aborted request ends by itself.
- *The backend is killed* (SIGKILL) after its first reply: the client is told UNAVAILABLE and ` + "`UPSTREAM_RESET`" + `, never OK.
- *Culvert is told to stop* (SIGTERM), and the call outlasts ` + "`drain_timeout`" + `: UNAVAILABLE and ` + "`DRAINING`" + `.
- *Over culvert's limit*: RESOURCE_EXHAUSTED with ` + "`REQUEST_TOO_LARGE` or `RESPONSE_TOO_LARGE`" + `.
- *A refused origin*: nothing reaches the server. Clients outside of a browser send the origin as a header.
- *A slow reader stops the backend*: the client pauses in the midst of 24 MiB; the server's send blocks meanwhile.
- *Every status code*: 1 to 16, with their message.
`

const pageEnd = `
Next: [what is on the wire](../reference/protocols.md), [which metadata crosses](../reference/metadata.md), [errors](../reference/errors.md).
`
