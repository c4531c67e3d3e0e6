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

var update = flag.Bool("update", false, "write the pages on compatibility in docs/how-it-works from what this run saw")

const pageFile = "../docs/how-it-works/appendix/compatibility.md"

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
	}
	committed, err := os.ReadFile(pageFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(committed, page) {
		t.Errorf("%s is not what this run saw; write it with: go test -run TestPublishedClients -update", pageFile)
	}
}

// TestCompatibilityPage holds the words of the published page to this file, and all
// else in it to the published results, without a run of the clients.
func TestCompatibilityPage(t *testing.T) {
	comparePage(t, publishedResults(t))
}

// publishedResults reads the tables of the published results.
func publishedResults(t *testing.T) results {
	t.Helper()
	page, err := os.ReadFile(pageFile)
	if err != nil {
		t.Fatal(err)
	}
	rs, sections := results{}, strings.Split(string(page), "\n## ")
	for _, p := range platforms {
		at := slices.IndexFunc(sections, func(section string) bool { return strings.HasPrefix(section, p.title+"\n") })
		if at < 0 {
			t.Fatalf("%s has no section %q", pageFile, p.title)
		}
		failing := map[string][]string{} // clients' titles, by scenario
		for line := range strings.Lines(sections[at]) {
			if names, clients, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, "| "), " |\n"), " | "); ok {
				for name := range strings.SplitSeq(names, rowSeparator) {
					for group := range strings.SplitSeq(clients, rowSeparator) {
						_, titles, _ := strings.Cut(group, ": ")
						failing[name] = append(failing[name], readTitles(titles, clientsOn(p.name))...)
					}
				}
			}
		}
		for _, s := range scenarios {
			for _, c := range clientsOn(p.name) {
				l := limited(c.name, s)
				if !slices.Contains(failing[s.rowName()], c.title) {
					l = nil
				}
				rs.add(c.name, s, l, false)
			}
		}
	}
	return rs
}

// titleText names some clients of a platform, by those that aren't among them if they are fewer.
func titleText(such []string, of []publishedClient) string {
	switch others := otherTitles(such, of); {
	case len(others) == 0:
		return "all"
	case len(others) < len(such):
		return "all except " + strings.Join(others, "; ")
	default:
		return strings.Join(such, "; ")
	}
}

// readTitles returns the titles of the clients that titleText has named.
func readTitles(text string, of []publishedClient) []string {
	if others, all := strings.CutPrefix(text+" ", "all "); all {
		return otherTitles(strings.Split(strings.TrimPrefix(strings.TrimSpace(others), "except "), "; "), of)
	}
	return strings.Split(text, "; ")
}

func otherTitles(titles []string, of []publishedClient) (others []string) {
	for _, c := range of {
		if !slices.Contains(titles, c.title) {
			others = append(others, c.title)
		}
	}
	return others
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
	out := map[string]string{"google.golang.org/grpc": grpc.Version, ownPackage: "of the same release"}
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

// page writes the page on the clients, and on each in each scenario.
func (rs results) page(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(pageHead)
	version := versions(t)
	b.WriteString("| package | version | where | protocols |\n|---|---|---|---|\n")
	for _, line := range packages() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", line.pkg, version[line.pkg], strings.Join(line.where, ", "), strings.Join(line.carriers, "; "))
	}
	notes := rs.notes()
	for _, p := range platforms {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", p.title, p.text)
		rs.table(&b, p.name, notes)
	}
	b.WriteString(pageLimits)
	for i, reason := range notes {
		fmt.Fprintf(&b, "- **%c**: %s\n", 'a'+i, reason)
	}
	b.WriteString("\n## The scenarios\n\n" + strings.Join(rows(), rowSeparator) + ".\n\n" + pageEnd)
	return b.Bytes()
}

func clientsOn(platform string) (of []publishedClient) {
	for _, c := range clients {
		if c.platform() == platform {
			of = append(of, c)
		}
	}
	return of
}

const rowSeparator = " · "

// table writes the scenarios in which clients fail. A row has those with the same results.
func (rs results) table(b *bytes.Buffer, platform string, notes []string) {
	var order []string // of the clients that fail, by their first rows
	names := map[string][]string{}
	for _, row := range rows() {
		var groups []string
		for i, note := range notes {
			var titles []string
			for _, c := range clientsOn(platform) {
				if rs[c.name][row] == note {
					titles = append(titles, c.title)
				}
			}
			if titles != nil {
				groups = append(groups, fmt.Sprintf("**%c**: %s", 'a'+i, titleText(titles, clientsOn(platform))))
			}
		}
		cell := strings.Join(groups, rowSeparator)
		if cell == "" {
			continue
		}
		if names[cell] == nil {
			order = append(order, cell)
		}
		names[cell] = append(names[cell], row)
	}
	if order == nil {
		b.WriteString("\nAll scenarios pass.\n")
		return
	}
	b.WriteString("\n| scenarios | clients that can't |\n|---|---|\n")
	for _, cell := range order {
		fmt.Fprintf(b, "| %s | %s |\n", strings.Join(names[cell], rowSeparator), cell)
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
	{"go", "In Go", "The client is grpc-go."},
	{"node", "In Node", "Node has no XMLHttpRequest for `grpc-web` and one transport of improbable-eng. WebSockets are those of `ws` behind a forward proxy, or\nif Node has none."},
	{"chromium", "In a browser", "Headless Chromium, with a page of another origin than culvert's, which `--allow-origin` allows."},
}

const pageHead = `# Compatibility

For people who have a gRPC client and want to know whether it works through culvert.

The tests call a grpc-go server through culvert with these published, unmodified clients, and with ` + "`" + `@culvert/web` + "`" + `. A call passes if it
went right at both ends.

## The clients

Behind a client's name are the transport or the mode, and what is in front of culvert. *TLS*: an nginx with its default buffering, which
terminates TLS. *tinyproxy* and *Squid*: a forward proxy before that nginx, Squid with TLS interception.

All calls pass except those in the tables; a letter is the [reason](#what-some-clients-cant-do).

`

const pageLimits = `
## What some clients can't do

The calls in the tables fail with any server, because of the client, its runtime, or the nginx in front. The tests require
them to fail unless the reason says otherwise.

`

const pageEnd = `- *Replies before any request*: the server answers a bidirectional call at once. The client sends nothing before the answer.
- *An error while the client sends*: the server answers after the first of 100 requests of 64 KiB. The client gets that answer.
- *Metadata with nothing in it*: empty values, in text and in ` + "`-bin`" + `, in both directions.
- *Rich details, byte by byte*: ` + "`google.rpc.Status`" + ` with eight details of six types, one of them unknown, unchanged.
- *A deadline passes*, *the client cancels*, *the client goes away* (its page or process ends): the server's context ends at once.
  Over HTTP/1.1 from Chromium it ends up to 5 s later, because Chromium waits for the aborted request's response to end.
- *The backend is killed* (SIGKILL) after its first reply: the client gets UNAVAILABLE with the reason ` + "`UPSTREAM_RESET`" + `, never OK.
- *Culvert is told to stop* (SIGTERM), and the call takes longer than ` + "`drain_timeout`" + `: UNAVAILABLE and ` + "`DRAINING`" + `.
- *Over culvert's limit*: RESOURCE_EXHAUSTED with ` + "`REQUEST_TOO_LARGE` or `RESPONSE_TOO_LARGE`" + `.
- *A refused origin*: nothing reaches the server.
- *A slow reader stops the backend*: the client pauses in the middle of 24 MiB. The server's send blocks meanwhile.

Next: [which client to take](../../clients/README.md), [paused readers](paused-readers.md).
`
