package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// earlyBound is when a page must have the answer to a call that has ended before
// its request. Without the reset that tells it, it would have it 5 s after the answer,
// when silent streams are reset.
const earlyBound = 4 * time.Second

// firstCalls aren't timed: they pay for the connection and the preflights.
const firstCalls = "first"

// An earlyCall is a call of a page whose request stays open: node/early.js makes it.
type earlyCall struct {
	ID      string            `json:"id"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Message []byte            `json:"message"`
	Every   int               `json:"every"` // ms

	name string
	want string // in the answer's end
	size int    // of the answer, at least
}

// An earlyOutcome is what the page got.
type earlyOutcome struct {
	ID         string
	Told, Read float64 // ms
	Status     int
	Request    string
	Bytes      int
	Text       string
}

// A page in Chromium that streams a request learns at once that its call has ended,
// whether it goes on sending or is quiet, and reads the whole answer.
func TestEarlyAnswersReachPages(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, "ca")
	b := startBackend(t, backendOptions{})
	page := servePage(t, nil)
	c := startTLS(t, ca, b.address, "methods: {deny: [\"a.B/Denied\"]}\n", "--allow-origin", page)
	var calls []earlyCall
	add := func(name, path, want string, size int, script probe.Script) {
		for _, every := range []int{0, 20} {
			id := newID(t)
			calls = append(calls, earlyCall{
				ID: id, URL: "https://" + c.address + path, Message: wire.Frame(wire.Request(0, 0)), Every: every,
				Headers: map[string]string{"content-type": "application/grpc-web+proto", probe.IDKey: id, probe.ScriptKey: script.String()},
				name:    fmt.Sprintf("%s, the page sends every %d ms", name, every), want: want, size: size,
			})
		}
	}
	early := probe.Script{Read: probe.ReadOne, Code: 9, Message: "enough"}
	add(firstCalls, wire.Bidi, "grpc-status: 9", 0, early)
	add("denied", "/a.B/Denied", "grpc-status: 12", 0, probe.Script{})
	add("the backend ends a client stream", wire.ClientStream, "grpc-status: 9", 0, early)
	early.Replies, early.ReplyBytes = 16, 64<<10
	add("the backend ends behind 1 MiB", wire.Bidi, "grpc-status: 9", 1<<20, early)
	outcomes := runEarly(t, page, calls)
	for _, call := range calls {
		o := outcomes[call.ID]
		if o.Status != http.StatusOK || !strings.Contains(o.Text, call.want) || o.Bytes < call.size || o.Request == "" {
			t.Errorf("%s: the page got %d, %d bytes that end with %q, of the request %q; want %q", call.name, o.Status, o.Bytes, o.Text, o.Request, call.want)
		}
		t.Logf("%s: told after %.0f ms, read after %.0f ms", call.name, o.Told, o.Read)
		if limit := float64(earlyBound.Milliseconds()); o.Read > limit && !strings.HasPrefix(call.name, firstCalls) {
			t.Errorf("%s: the page was told after %.0f ms and had the answer after %.0f ms, want less than %.0f", call.name, o.Told, o.Read, limit)
		}
	}
}

// runEarly makes the calls in one page, one after another.
func runEarly(t *testing.T, page string, calls []earlyCall) map[string]earlyOutcome {
	t.Helper()
	plan, err := json.Marshal(map[string]any{"page": page, "calls": calls})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "early.js")
	cmd.Dir = "node"
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(plan), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("node early.js: %v\n%s\n%s", err, &stderr, &stdout)
	}
	outcomes := map[string]earlyOutcome{}
	for lines := bufio.NewScanner(&stdout); lines.Scan(); {
		var o earlyOutcome
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			t.Fatalf("%v in %q", err, lines.Text())
		}
		outcomes[o.ID] = o
	}
	return outcomes
}
