package e2e

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/e2e/e2epb"
	"github.com/culvert-grpc/culvert/e2e/probe"
)

// TestBareMessages calls a backend with a WebSocket library that knows nothing of gRPC.
func TestBareMessages(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: `
routes:
  - name: probe
    backend: default
    message: {path: /ws/probe, method: culvert.e2e.v1.Probe/Bidi, framing: protobuf, half_close: done, last_message: status}
  - name: named
    backend: default
    match: {methods: [culvert.e2e.v1.Probe/ServerStream]}
    message: {path: "/ws/{service}/{method}", framing: protobuf, half_close: done}
  - name: calls
    backend: default
`})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, id := openMessages(ctx, t, c.address+"/ws/probe", probe.Script{Echo: true, Code: 5, Message: "no such room"})
	for i, text := range []string{"one", "two", "three"} {
		sendBare(ctx, t, ws, &e2epb.Request{Sequence: uint64(i), Text: text})
		if reply := receiveBare(ctx, t, ws); reply.GetSequence() != uint64(i) || reply.GetText() != text {
			t.Fatalf("turn %d: %v", i, reply)
		}
	}
	if err := ws.Write(ctx, websocket.MessageText, []byte("done")); err != nil {
		t.Fatal(err)
	}
	const want = `{"@status":{"code":5,"status":"NOT_FOUND","message":"no such room"}}`
	if kind, last, err := ws.Read(ctx); err != nil || kind != websocket.MessageText || string(last) != want {
		t.Errorf("the last message: %v %s, %v; want %s", kind, last, err, want)
	}
	wantClosed(ctx, t, ws, 4005, "NOT_FOUND: no such room")
	c.loggedLike(t, func(l map[string]any) bool {
		return l["transport"] == "message" && l["route"] == "probe" && l["code"] == "NOT_FOUND" && l["method"] == "/culvert.e2e.v1.Probe/Bidi" &&
			l["origin"] == "upstream" && l["messages_in"] == 3.0 && l["messages_out"] == 3.0 && l["call_id"] == id
	})

	ws, _ = openMessages(ctx, t, c.address+"/ws/culvert.e2e.v1.Probe/ServerStream", probe.Script{Replies: 2})
	sendBare(ctx, t, ws, &e2epb.Request{})
	if err := ws.Write(ctx, websocket.MessageText, []byte("done")); err != nil {
		t.Fatal(err)
	}
	receiveBare(ctx, t, ws)
	receiveBare(ctx, t, ws)
	wantClosed(ctx, t, ws, 1000, "")
}

func openMessages(ctx context.Context, t *testing.T, address string, script probe.Script) (ws *websocket.Conn, id string) {
	t.Helper()
	header := http.Header{probe.ScriptKey: {script.String()}}
	ws, answer, err := websocket.Dial(ctx, "ws://"+address, &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() }) // mostly it is closed by now
	return ws, answer.Header.Get("X-Request-Id")
}

func sendBare(ctx context.Context, t *testing.T, ws *websocket.Conn, m *e2epb.Request) {
	t.Helper()
	wire, err := proto.Marshal(m)
	if err == nil {
		err = ws.Write(ctx, websocket.MessageBinary, wire)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func receiveBare(ctx context.Context, t *testing.T, ws *websocket.Conn) *e2epb.Reply {
	t.Helper()
	reply := new(e2epb.Reply)
	kind, wire, err := ws.Read(ctx)
	if err == nil {
		err = proto.Unmarshal(wire, reply)
	}
	if err != nil || kind != websocket.MessageBinary {
		t.Fatalf("%v %q, %v; want a reply", kind, wire, err)
	}
	return reply
}

func wantClosed(ctx context.Context, t *testing.T, ws *websocket.Conn, code websocket.StatusCode, reason string) {
	t.Helper()
	_, m, err := ws.Read(ctx)
	var told websocket.CloseError
	if !errors.As(err, &told) || told.Code != code || told.Reason != reason {
		t.Errorf("%q, %v; want the WebSocket closed with %d %q", m, err, code, reason)
	}
}
