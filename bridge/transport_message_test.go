package bridge

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coder "github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// chat is a route of messages for a method.
func chat(change func(*Route)) []Route {
	r := Route{Name: "chat", Backend: DefaultBackend, Message: &MessageRoute{Path: "/ws/chat", Method: "chat.v1.Chat/Talk", Framing: FramingProtobuf}}
	if change != nil {
		change(&r)
	}
	return []Route{r}
}

// serveChat serves a route of messages before a backend, and returns the address.
func serveChat(t *testing.T, handle func(grpc.ServerStream) error, change func(*Config)) (*Server, string) {
	t.Helper()
	cfg := Config{Backend: Backend{Target: parts.StartBackend(t, handle)}, Routes: chat(nil)}
	if change != nil {
		change(&cfg)
	}
	s := newServer(t, cfg)
	return s, serve(t, s)
}

// dialMessages opens a WebSocket at a path.
func dialMessages(t *testing.T, address, path string, header http.Header, subprotocols ...string) *coder.Conn {
	t.Helper()
	ws, _, err := coder.Dial(t.Context(), "ws://"+address+path, &coder.DialOptions{HTTPHeader: header, Subprotocols: subprotocols})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(-1)
	return ws
}

func say(t *testing.T, ws *coder.Conn, kind coder.MessageType, messages ...string) {
	t.Helper()
	for _, m := range messages {
		if err := ws.Write(t.Context(), kind, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
}

func hears(t *testing.T, ws *coder.Conn, kind coder.MessageType, want ...string) {
	t.Helper()
	for _, w := range want {
		got, m, err := ws.Read(t.Context())
		if err != nil || got != kind || string(m) != w {
			t.Fatalf("%v %q, %v; want %v %q", got, m, err, kind, w)
		}
	}
}

// closes checks how the server closes the WebSocket.
func closes(t *testing.T, ws *coder.Conn, code int, reason string) {
	t.Helper()
	_, m, err := ws.Read(t.Context())
	var told coder.CloseError
	if !errors.As(err, &told) {
		t.Fatalf("%q, %v; want code %d %q", m, err, code, reason)
	}
	if int(told.Code) != code || !strings.HasPrefix(told.Reason, reason) || reason == "" && told.Reason != "" {
		t.Errorf("closed with %d %q, want %d %q", told.Code, told.Reason, code, reason)
	}
}

func TestBareMessages(t *testing.T) {
	_, address := serveChat(t, parts.Echo, func(c *Config) {
		c.Routes = chat(func(r *Route) { r.Message.HalfClose = "bye" })
	})
	ws := dialMessages(t, address, "/ws/chat", nil)
	say(t, ws, coder.MessageBinary, "one", "", strings.Repeat("x", 100<<10))
	hears(t, ws, coder.MessageBinary, "one", "", strings.Repeat("x", 100<<10))
	w, err := ws.Writer(t.Context(), coder.MessageBinary)
	for _, part := range []string{"in ", "several ", "frames"} {
		if err == nil {
			_, err = io.WriteString(w, part)
		}
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	hears(t, ws, coder.MessageBinary, "in several frames")
	say(t, ws, coder.MessageText, "bye")
	closes(t, ws, 1000, "")
}

// TestBareMetadata: headers, listed parameters of the URL and the first message become
// metadata, and the backend may speak first.
func TestBareMetadata(t *testing.T) {
	_, address := serveChat(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		said := []byte(strings.Join(append(append(md["x-room"], md["authorization"]...), md["x-secret"]...), " "))
		if err := ss.SendMsg(said); err != nil {
			return err
		}
		return status.Error(codes.Aborted, "enough")
	}, func(c *Config) {
		c.Routes = chat(func(r *Route) {
			r.Message.Query, r.Message.FirstMessage, r.Message.LastStatus = []string{"x-room", "x-other"}, "authorization", true
		})
	})
	ws := dialMessages(t, address, "/ws/chat?x-room=blue&x-secret=1", http.Header{"Authorization": {"replaced"}})
	say(t, ws, coder.MessageText, "Bearer tok")
	hears(t, ws, coder.MessageBinary, "blue Bearer tok")
	hears(t, ws, coder.MessageText, `{"@status":{"code":10,"status":"ABORTED","message":"enough"}}`)
	closes(t, ws, 4010, "ABORTED: enough")

	ws = dialMessages(t, address, "/ws/chat?x-room=blue", http.Header{"X-Room": {"red"}})
	say(t, ws, coder.MessageText, "t")
	hears(t, ws, coder.MessageBinary, "red t")
}

// TestBareMistakes: what a client does wrong closes its WebSocket with a code that says so.
func TestBareMistakes(t *testing.T) {
	_, address := serveChat(t, parts.Echo, func(c *Config) {
		c.Limits.MessageBytes = 1000
		c.Routes = append(chat(nil), chat(func(r *Route) {
			r.Name, r.Message.Path, r.Message.FirstMessage = "first", "/first", "authorization"
		})...)
		c.Routes = append(c.Routes, chat(func(r *Route) {
			r.Name, r.Message.Path, r.Message.HalfClose = "half", "/half", "bye"
		})...)
	})
	for _, c := range []struct {
		name, path string
		kind       coder.MessageType
		messages   []string
		code       int
		reason     string
	}{
		{"text", "/ws/chat", coder.MessageText, []string{"hello"}, 1003, "BAD_REQUEST: "},
		{"large", "/ws/chat", coder.MessageBinary, []string{strings.Repeat("x", 1001)}, 1009, "REQUEST_TOO_LARGE: "},
		{"binary first", "/first", coder.MessageBinary, []string{"token"}, 1003, "BAD_REQUEST: "},
		{"bad value first", "/first", coder.MessageText, []string{"a\nb"}, 4003, "BAD_REQUEST: "},
		{"large first", "/first", coder.MessageText, []string{strings.Repeat("x", 70<<10)}, 4008, "METADATA_TOO_LARGE: "},
		{"other text", "/half", coder.MessageText, []string{"by"}, 1003, "BAD_REQUEST: "},
		{"not UTF-8", "/half", coder.MessageText, []string{"\xff"}, 1007, "BAD_REQUEST: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			ws := dialMessages(t, address, c.path, nil)
			say(t, ws, c.kind, c.messages...)
			closes(t, ws, c.code, c.reason)
		})
	}
}

// TestBareGoodbye: a client that closes properly has said all that it wants to say. The
// backend gets its end, and may finish.
func TestBareGoodbye(t *testing.T) {
	for _, code := range []coder.StatusCode{coder.StatusNormalClosure, coder.StatusGoingAway} {
		obs := newObserver()
		_, address := serveChat(t, func(ss grpc.ServerStream) error {
			var m []byte
			for {
				if err := ss.RecvMsg(&m); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					return err
				}
			}
			last := []byte("nobody gets it")
			return errors.Join(ss.SendMsg(last), ss.Context().Err())
		}, func(c *Config) { c.Observer = obs })
		ws := dialMessages(t, address, "/ws/chat", nil)
		say(t, ws, coder.MessageBinary, "one", "two")
		if err := ws.Close(code, "that's all"); err != nil {
			t.Fatal(err)
		}
		if end := await(t, "the call's end", obs.ended); end.Code != codes.OK || end.MessagesIn != 2 {
			t.Errorf("%v: the call ended %v after %d messages, want OK after 2", code, end.Code, end.MessagesIn)
		}
	}
}

// TestBareCut: a client that is gone without a goodbye ends the call at once.
func TestBareCut(t *testing.T) {
	obs := newObserver()
	ended := make(chan struct{})
	_, address := serveChat(t, func(ss grpc.ServerStream) error {
		defer close(ended)
		<-ss.Context().Done()
		return nil
	}, func(c *Config) { c.Observer = obs })
	ws := dialMessages(t, address, "/ws/chat", nil)
	say(t, ws, coder.MessageBinary, "one")
	_ = ws.CloseNow()
	if end := await(t, "the call's end", obs.ended); end.Reason != report.ReasonClientGone {
		t.Errorf("the call ended with %q, want %s", end.Reason, report.ReasonClientGone)
	}
	await(t, "the backend's end", ended)
}

// TestBareGoodbyeAfterHalfClose: a backend that doesn't end loses a client that is gone
// for good.
func TestBareGoodbyeAfterHalfClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		obs := newObserver()
		ws := dialBubble(t, bareBubble(t, func(ss grpc.ServerStream) error {
			defer close(ended)
			<-ss.Context().Done()
			return nil
		}, func(c *Config) {
			c.Observer = obs
			c.Routes = chat(func(r *Route) { r.Message.HalfClose = "bye" })
		}), new(coder.DialOptions))
		say(t, ws, coder.MessageText, "bye")
		closed := time.Now()
		if err := ws.Close(coder.StatusNormalClosure, ""); err != nil {
			t.Fatal(err)
		}
		if end, after := <-obs.ended, time.Since(closed); end.Reason != report.ReasonClientGone || after != lingerTime {
			t.Errorf("the call ended with %q after %v, want %s after %v", end.Reason, after, report.ReasonClientGone, lingerTime)
		}
		<-ended
	})
}

// TestBareGoodbyeBeforeTheAnswer: what a client has said before it left reaches the
// backend, also if the Authenticator takes longer.
func TestBareGoodbyeBeforeTheAnswer(t *testing.T) {
	left, obs := make(chan struct{}), newObserver()
	_, address := serveChat(t, parts.Echo, func(c *Config) {
		c.Observer = obs
		c.Authenticator = authenticator(func(context.Context, string, Peer, metadata.MD) (*Identity, error) {
			<-left
			return nil, nil
		})
	})
	ws := dialMessages(t, address, "/ws/chat", nil)
	say(t, ws, coder.MessageBinary, "one")
	if err := ws.Close(coder.StatusNormalClosure, ""); err != nil {
		t.Fatal(err)
	}
	close(left)
	if end := await(t, "the call's end", obs.ended); end.Code != codes.OK || end.MessagesIn != 1 {
		t.Errorf("the call ended %v after %d messages, want OK after 1", end.Code, end.MessagesIn)
	}
}

// TestBareRefusals: origins, listeners and a web server beside routes of messages.
func TestBareRefusals(t *testing.T) {
	s, address := serveChat(t, parts.Echo, func(c *Config) {
		c.Routes = chat(func(r *Route) { r.Message.Method = "Chat/Talk" }) // no package
		c.Fallback = http.NotFoundHandler()
	})
	for origin, want := range map[string]int{"https://evil.example.com": 403, "http://" + address: 101} {
		ws, answer, err := coder.Dial(t.Context(), "ws://"+address+"/ws/chat", &coder.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}})
		if answer == nil || answer.StatusCode != want {
			t.Errorf("%s: %v, %v; want %d", origin, answer, err, want)
		}
		if err == nil {
			_ = ws.CloseNow()
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.ServeListener(ln, Listener{Name: "calls", Transports: []string{"grpc"}}) }()
	t.Cleanup(func() {
		_ = s.Close()
		_ = await(t, "the listener's end", served)
	})
	closes(t, dialMessages(t, ln.Addr().String(), "/ws/chat", nil), 4012, "NO_ROUTE: this address accepts no calls by message")
}

func TestBareDrain(t *testing.T) {
	s, address := serveChat(t, parts.Hold, nil)
	ws := dialMessages(t, address, "/ws/chat", nil)
	say(t, ws, coder.MessageBinary, "one")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- s.Shutdown(ctx) }()
	closes(t, ws, 1001, "DRAINING: ")
	_ = await(t, "the drain", drained) // the deadline, if the call outlasts it
}

// TestPathsOfMessages: a path may name the method, and what isn't for the path gets an
// answer that says why.
func TestPathsOfMessages(t *testing.T) {
	_, address := serveChat(t, func(ss grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(ss)
		return status.Error(codes.DataLoss, method)
	}, func(c *Config) {
		c.PathPrefix = "/api"
		c.Routes = append(chat(func(r *Route) { r.Message.Subprotocol = "chat.v1" }), Route{
			Name: "any", Backend: DefaultBackend, Match: report.Match{Methods: []string{"shop.v1.Orders/*", "shop.v1.Carts/Get"}},
			Message: &MessageRoute{Path: "/ws/{service}/{method}", Framing: FramingProtobuf},
		}, Route{Name: "calls", Backend: DefaultBackend, Match: report.Match{Hosts: []string{"127.0.0.1"}}})
	})
	closes(t, dialMessages(t, address, "/api/ws/shop.v1.Orders/Watch", nil), 4015, "DATA_LOSS: /shop.v1.Orders/Watch")
	closes(t, dialMessages(t, address, "/api/ws/shop.v1.Carts/Get", nil), 4015, "DATA_LOSS: /shop.v1.Carts/Get")
	closes(t, dialMessages(t, address, "/api/ws/chat", nil, "other", "chat.v1"), 4015, "DATA_LOSS: /chat.v1.Chat/Talk")
	if err := unary(t.Context(), dial(t, address), "/api/shop.v1.Orders/Watch"); status.Code(err) != codes.DataLoss {
		t.Errorf("a call beside routes of messages: %v", err)
	}
	for _, c := range []struct {
		method, path string
		upgrade      bool
		want         int
		text         string
	}{
		{"GET", "/api/ws/shop.v1.Carts/Put", true, 404, "message.path"},
		{"GET", "/api/ws/shop.v1.Orders/%57atch", true, 404, "message.path"}, // another spelling
		{"GET", "/api/ws/shop.v1.Orders/Watch;x", true, 404, "message.path"},
		{"GET", "/api/ws/shop.v1.Orders/..", true, 404, "message.path"},
		{"GET", "/api/ws/chat", true, 400, "chat.v1"},
		{"GET", "/api/ws/chat", false, 426, "Upgrade"},
		{"POST", "/api/ws/chat", false, 405, "WebSockets"},
		{"GET", "/ws/chat", true, 404, "message.path"},
		{"GET", "/api/~m/~m/ws/chat", true, 404, "message.path"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+address+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.upgrade {
			for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
				r.Header.Set(name, value)
			}
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != c.want || !strings.Contains(string(body), c.text) {
			t.Errorf("%s %s: %d %s, want %d with %q", c.method, c.path, answer.StatusCode, body, c.want, c.text)
		}
	}
}

func TestExplainedRouteOfMessages(t *testing.T) {
	cfg := Config{Backend: nowhere, Routes: append(chat(nil), Route{Name: "calls", Backend: DefaultBackend}, Route{
		Name: "any", Backend: DefaultBackend, Message: &MessageRoute{Path: "/any/{service}/{method}", Framing: FramingProtobuf},
	})}
	for path, want := range map[string]int{"/ws/chat": 0, "/ws/other": -1, "/chat.v1.Chat/Talk": -1, "/any/a.B/C": 2, "/any/a.B/C;x": -1} {
		got, err := ExplainRoute(&cfg, RouteRequest{URL: &url.URL{Scheme: "wss", Host: "a.example.com", Path: path}, Transport: messageName})
		if err != nil || got.Route != want || want == 0 && (got.Method != "/chat.v1.Chat/Talk" || got.Path != path) {
			t.Errorf("%s: %+v, %v; want route %d", path, got, err, want)
		}
	}
}

func TestMistakesInRoutesOfMessages(t *testing.T) {
	for _, c := range []struct {
		change func(*Route)
		want   string
	}{
		{func(r *Route) { r.Message.Path = "ws" }, "message.path can match no path"},
		{func(r *Route) { r.Message.Path = "/ws/" }, "message.path can match no path"},
		{func(r *Route) { r.Message.Path = "/" }, "message.path can match no path"},
		{func(r *Route) { r.Message.Path = "/ws/*" }, "message.path can match no path"},
		{func(r *Route) { r.Message.Path = "/ws/{method}" }, "message.path can match no path: braces"},
		{func(r *Route) { r.Message.Path = "/{x}/{service}/{method}" }, "message.path can match no path: braces"},
		{func(r *Route) { r.Message.Path = "/ws/{service}/{method}" }, "message.method has no effect"},
		{func(r *Route) { r.Message.Method = "" }, "message.method is no method"},
		{func(r *Route) { r.Message.Method = "a.B/*" }, "message.method is no method"},
		{func(r *Route) { r.Message.Method = "a.B/C?d" }, "message.method is no method"},
		{func(r *Route) { r.Message.Framing = "xml" }, `message.framing is "xml"`},
		{func(r *Route) { r.Message.Query = []string{"ok", "grpc-timeout"} }, `message.query[1] "grpc-timeout" can't become metadata`},
		{func(r *Route) { r.Message.FirstMessage = "cookie" }, "message.first_message"},
		{func(r *Route) { r.Message.Subprotocol = "h2ts" }, "message.subprotocol must be"},
		{func(r *Route) { r.Match.PathPrefix = "/ws" }, "match.path_prefix can't be set beside message"},
		{func(r *Route) { r.Match.Metadata = []report.Condition{{Name: "x"}} }, "match.metadata can't be set beside message"},
		{func(r *Route) { r.Match.Methods = []string{"a.B/C"} }, "match.methods can't be set beside message"},
		{func(r *Route) { r.Rewrite = "/" }, "rewrite.path_prefix can't be set beside message"},
	} {
		_, err := New(Config{Backend: nowhere, Routes: chat(c.change)})
		if err == nil || !strings.Contains(err.Error(), "routes[0]."+c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}
