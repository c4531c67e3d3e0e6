package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/e2e/probe"
)

// A messagesPage is what the page of node/messages.js got.
type messagesPage struct {
	Socket struct {
		Got    []struct{ Sequence, Text string }
		Code   int
		Reason string
	}
	Unary, Mistake, Lines struct {
		Status int
		Text   string
	}
	Events struct {
		Got  [][2]json.RawMessage // the id, and the data
		Last json.RawMessage
	}
}

// TestJSONMessagesFromPages calls a backend that knows only gRPC from a page of another
// origin, with nothing but what browsers have: WebSocket, fetch and EventSource. The
// EventSource connects again, and goes on behind the last event.
func TestJSONMessagesFromPages(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, "ca")
	b := startBackend(t, backendOptions{})
	page := servePage(t, nil)
	c := startTLS(t, ca, b.address, `
routes:
  - {name: ws, backend: default, message: {path: /ws, method: culvert.e2e.v1.Probe/Bidi, framing: json, half_close: done, query: [probe-script]}}
  - {name: unary, backend: default, message: {path: /unary, method: culvert.e2e.v1.Probe/Unary, framing: json, query: [probe-script]}}
  - {name: lines, backend: default, message: {path: /lines, method: culvert.e2e.v1.Probe/ServerStream, framing: ndjson, query: [probe-script]}}
  - {name: events, backend: default, message: {path: /events, method: culvert.e2e.v1.Probe/ServerStream, framing: sse, query: [probe-script], event_id: sequence}}
  - {name: calls, backend: default}
`, "--allow-origin", page)
	plan, err := json.Marshal(map[string]any{
		"page": page, "base": "https://" + c.address,
		"script": probe.Script{Replies: 2, Code: 9, Message: "enough"}, "resume": probe.Script{Replies: 2, EchoMetadata: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "messages.js")
	cmd.Dir = "node"
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(plan), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("node messages.js: %v\n%s\n%s", err, &stderr, &stdout)
	}
	var got messagesPage
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		t.Fatalf("%v in %q", err, &stdout)
	}
	if s := got.Socket; len(s.Got) < 3 || s.Got[0].Text != "one" || s.Got[2].Text != "next" || s.Code != 4009 || s.Reason != "FAILED_PRECONDITION: enough" {
		t.Errorf("the WebSocket got %+v", s)
	}
	if u := got.Unary; u.Status != 200 || !strings.Contains(u.Text, `"hello"`) {
		t.Errorf("the unary call got %+v", u)
	}
	if m := got.Mistake; m.Status != 400 || !strings.Contains(m.Text, "line 1, column 9: text") {
		t.Errorf("the mistake got %+v", m)
	}
	if l := got.Lines; l.Status != 200 || strings.Count(l.Text, "\n") != 3 || !strings.HasSuffix(l.Text, `{"@status":{"code":9,"status":"FAILED_PRECONDITION","message":"enough"}}`+"\n") {
		t.Errorf("the lines are %+v", l)
	}
	e := got.Events
	if len(e.Got) != 4 || string(e.Got[1][0]) != `"1"` || !strings.Contains(string(e.Last), `"OK"`) {
		t.Fatalf("the events are %s, %s", e.Got, e.Last)
	}
	const resumed = `{"name":"last-event-id","values":["MQ=="]}`
	if before, after := string(e.Got[0][1]), string(e.Got[2][1]); strings.Contains(before, "last-event-id") || !strings.Contains(after, resumed) {
		t.Errorf("the backend got %s, and then %s; want %s in the second", before, after, resumed)
	}
}
