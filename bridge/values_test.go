package bridge

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestIDsOfEventsComeBack: what an EventSource sends back of an id reaches the service, and
// an id that it couldn't send back isn't sent.
func TestIDsOfEventsComeBack(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	got := make(chan []string, 1)
	address := serveJSON(t, FramingSSE, "Pure", func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		got <- md.Get("last-event-id")
		return echo(ss)
	}, func(_ *Config, m *MessageRoute) { m.EventID = "text" })
	target := "http://" + address + "/ws/chat"
	for text, want := range map[string]string{
		"7": "7", "a b": "a b", "50%": "50%", "caf\u00e9-7": "caf%C3%A9-7", "50% \u00e9": "50%25 %C3%A9", "\u65e5\u672c": "%E6%97%A5%E6%9C%AC",
		` x`: "", `x `: "", `a\tb`: "", `\u0001`: "", `\u007f`: "", `a\nb`: "",
	} {
		res, body := request(t, "POST", target, `{"text":"`+text+`"}`)
		await(t, "the first call", got)
		id, has := "", strings.HasPrefix(body, "id: ")
		if has {
			id, _, _ = strings.Cut(strings.TrimPrefix(body, "id: "), "\n")
		}
		if res.StatusCode != 200 || has != (want != "") || has && id != text {
			t.Errorf("%q: answered %d %q", text, res.StatusCode, body)
			continue
		}
		if !has {
			continue
		}
		if res, body := request(t, "GET", target, "", "Last-Event-ID", id); res.StatusCode != 200 {
			t.Errorf("%q came back: answered %d %q", id, res.StatusCode, body)
		}
		if came := await(t, "the second call", got); len(came) != 1 || came[0] != want {
			t.Errorf("%q came back: the service got %q, want %q", id, came, want)
		}
	}
}

// TestAskedValuesReachTheService by every way in: a parameter of the URL, a header, the
// first message of grpc-websockets. Others are dropped, counted and logged.
func TestAskedValuesReachTheService(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	const value, want = "Zo\u00eb %", "Zo%C3%AB %25" // Z and o are in no id
	got := make(chan metadata.MD, 1)
	handle := func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		got <- md
		return echo(ss)
	}
	log := new(safeLog)
	s := newServer(t, Config{
		Backend: Backend{Target: startBackend(t, handle), Descriptors: describedChat(t)},
		Logger:  slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Routes: []Route{
			{Name: "lines", Backend: DefaultBackend, Message: &MessageRoute{Path: "/lines", Method: "test.Service/Pure", Framing: FramingNDJSON, Query: []string{"X-User"}}},
			{Name: "post", Backend: DefaultBackend, Message: &MessageRoute{Path: "/post", Method: "test.Service/Pure", Framing: FramingJSON, Query: []string{"X-User"}}},
			{Name: "socket", Backend: DefaultBackend, Message: &MessageRoute{Path: "/ws", Method: "test.Service/Method", Framing: FramingProtobuf, Query: []string{"x-user"}, FirstMessage: "x-token"}},
			{Name: "tenants", Backend: DefaultBackend, Match: report.Match{Metadata: []report.Condition{{Name: "x-tenant"}}}},
			{Name: "all", Backend: DefaultBackend},
		},
	})
	address := serve(t, s)
	check := func(how, name string) {
		t.Helper()
		md := await(t, "the call by "+how, got)
		if came := md.Get(name); len(came) != 1 || came[0] != want || md.Get("x-other") != nil {
			t.Errorf("%s: the service got %s: %q of %v, want %q", how, name, came, md, want)
		}
	}
	query := "?x-user=x&X-User=" + url.QueryEscape(value)
	for _, target := range []string{"/lines", "/post"} {
		request(t, "POST", "http://"+address+target+query, "{}", "X-Other", value)
		check("a parameter of "+target, "x-user")
		request(t, "POST", "http://"+address+target, "{}", "X-User", value, "X-Other", value)
		check("a header of "+target, "x-user")
	}
	for query, code := range map[string]int{
		"?X-User=a;b": 400, "?X-User=50%": 400, "?a=1;X-User=b": 400, "?%58-User=50%&b=1": 400,
		"?a=1;b&X-User=c": 200, "?a=50%": 200, "": 200,
	} {
		for _, target := range []string{"/lines", "/post"} {
			res, body := request(t, "POST", "http://"+address+target+query, "{}")
			if res.StatusCode != code || code == 400 && !strings.Contains(body, "%3B") {
				t.Errorf("%s: %s %q, want %d", target+query, res.Status, body, code)
			}
			if code == 200 {
				await(t, "the call of "+target+query, got)
			}
		}
	}
	request(t, "POST", "http://"+address+"/test.Service/Pure", "{}", "X-Tenant", value, "X-Other", value)
	check("a header that a route matches", "x-tenant")
	if n := s.Snapshot().DroppedValues; n != 5 {
		t.Errorf("%d values were counted as dropped, want 5", n)
	}
	if text := log.String(); strings.Count(text, "detail=x-other") != 5 || !strings.Contains(text, "level=DEBUG") || strings.Contains(text, "Zo") {
		t.Errorf("the log says:\n%s", text)
	}

	ctx := within(t, patience)
	ws := way{}.socket(ctx, t, address, "grpc-websockets", http.Header{"X-Other": {value}})
	for _, m := range []string{"content-type: application/grpc-web+proto\r\nx-tenant: " + value + "\r\nx-other: " + value + "\r\n", "\x01"} {
		if err := ws.Write(ctx, websocket.MessageBinary, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	check("the first message of grpc-websockets", "x-tenant")
	if n := s.Snapshot().DroppedValues; n != 7 {
		t.Errorf("%d values were counted as dropped, want 7", n)
	}

	for first, refused := range map[string]bool{value: true, "token ": true, "token": false} {
		ws, res, err := websocket.Dial(ctx, "ws://"+address+"/ws"+strings.Replace(query, "X-User", "x-user", 1), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.Body != nil {
			_ = res.Body.Close() // it has none
		}
		if err := ws.Write(ctx, websocket.MessageText, []byte(first)); err != nil {
			t.Fatal(err)
		}
		if refused {
			if _, _, err := ws.Read(ctx); !strings.Contains(err.Error(), "x-token") {
				t.Errorf("a first message that isn't ASCII: %v", err)
			}
			continue
		}
		if md := await(t, "the call of a WebSocket", got); md.Get("x-token")[0] != "token" {
			t.Errorf("the service got %v", md)
		}
		_ = ws.CloseNow() // the backend's end is the test's
	}
}
