package bridge

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/descriptor"
)

// describedShop are the descriptors of a service with methods of all four kinds.
func describedShop(t testing.TB) described {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{}
	if err := prototext.Unmarshal([]byte(`
		name: "shop.proto" package: "shop" syntax: "proto3" message_type: {name: "Order"}
		service: {name: "Orders"
			method: {name: "Get" input_type: ".shop.Order" output_type: ".shop.Order"}
			method: {name: "Watch" input_type: ".shop.Order" output_type: ".shop.Order" server_streaming: true options: {idempotency_level: NO_SIDE_EFFECTS}}
			method: {name: "Upload" input_type: ".shop.Order" output_type: ".shop.Order" client_streaming: true}
			method: {name: "Chat" input_type: ".shop.Order" output_type: ".shop.Order" client_streaming: true server_streaming: true}
			method: {name: "Secret" input_type: ".shop.Order" output_type: ".shop.Order"}
		}`), file); err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{file}})
	if err != nil {
		t.Fatal(err)
	}
	set, err := descriptor.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return described{set}
}

// TestStreamsOfRepliesAreRefusedBeforeTheyRun: an answer with one reply can't have them,
// and the backend isn't asked for nothing.
func TestStreamsOfRepliesAreRefusedBeforeTheyRun(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	var calls atomic.Int32
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		calls.Add(1)
		return echo(ss)
	})
	address := serve(t, newServer(t, Config{
		Backend: Backend{Target: backend, Descriptors: describedShop(t)},
		Routes: []Route{
			{Name: "json", Backend: DefaultBackend, Message: &MessageRoute{Path: "/json/{service}/{method}", Framing: FramingJSON}},
			{Name: "lines", Backend: DefaultBackend, Message: &MessageRoute{Path: "/lines/{service}/{method}", Framing: FramingNDJSON}},
			{Name: "calls", Backend: DefaultBackend},
		},
	}))
	refused := func(how string, res *http.Response, body string) {
		t.Helper()
		if res.StatusCode != 501 || !strings.Contains(body, "ndjson") || !strings.Contains(body, "sse") || !strings.Contains(body, "streams its replies") || calls.Load() != 0 {
			t.Errorf("%s: answered %d %q behind %d calls", how, res.StatusCode, body, calls.Load())
		}
	}
	post := func(path, contentType, body string) (*http.Response, string) {
		r := newRequest(t, http.MethodPost, "http://"+address+path, body)
		r.Header.Set("Content-Type", contentType)
		return send(t, http.DefaultClient, r)
	}
	res, body := post("/shop.Orders/Watch", "application/json", "{}")
	refused("Connect", res, body)
	res, body = post("/json/shop.Orders/Watch", "application/json", "{}")
	refused("a route", res, body)
	for _, query := range []string{"encoding=json&message={}", "encoding=proto&message="} {
		res, body = send(t, http.DefaultClient, newRequest(t, http.MethodGet, "http://"+address+"/shop.Orders/Watch?connect=v1&"+query, ""))
		refused("GET of "+query, res, body)
	}
	for path, contentType := range map[string]string{
		"/shop.Orders/Get": "application/json", "/shop.Orders/Upload": "application/json", "/shop.Orders/Chat": "application/json", "/json/shop.Orders/Chat": "application/json",
		"/lines/shop.Orders/Watch": "application/json",
	} {
		if res, body := post(path, contentType, "{}"); res.StatusCode != 200 {
			t.Errorf("%s: answered %d %q", path, res.StatusCode, body)
		}
	}
	stream := string(framed(0, []byte("{}")))
	for _, contentType := range []string{"application/connect+json", "application/grpc-web+json"} {
		if _, body := post("/shop.Orders/Watch", contentType, stream); !strings.HasPrefix(body, stream) {
			t.Errorf("%s: answered %q", contentType, body)
		}
	}
}

// TestMistypedMethod: JSON for a method that the service doesn't have names the method that
// may be meant, if the client may call it.
func TestMistypedMethod(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	backend := Backend{Target: startBackend(t, echo), Descriptors: describedShop(t)}
	for name, c := range map[string]struct {
		config Config
		path   string
		want   string // empty: no suggestion
	}{
		"one letter":      {Config{}, "/shop.Orders/Gett", "no method Gett: did you mean Get?"},
		"case":            {Config{}, "/shop.Orders/get", "no method get: did you mean Get?"},
		"nothing near":    {Config{}, "/shop.Orders/Remove", ""},
		"denied":          {Config{DenyMethods: []string{"shop.Orders/Secret"}}, "/shop.Orders/Secrett", ""},
		"not allowed":     {Config{AllowMethods: []string{"shop.Orders/Secret?*", "shop.Orders/Secrett"}}, "/shop.Orders/Secrett", ""},
		"another route":   {Config{Routes: []Route{{Name: "g", Backend: DefaultBackend, Match: report.Match{Methods: []string{"shop.Orders/Secrett"}}}}}, "/shop.Orders/Secrett", ""},
		"a route":         {Config{Routes: []Route{{Name: "g", Backend: DefaultBackend}}}, "/shop.Orders/Gett", "no method Gett: did you mean Get?"},
		"a route of JSON": {Config{Routes: []Route{{Name: "g", Backend: DefaultBackend, Message: &MessageRoute{Path: "/json/{service}/{method}", Framing: FramingJSON}}}}, "/json/shop.Orders/Gett", "no method Gett: did you mean Get?"},
	} {
		c.config.Backend = backend
		address := serve(t, newServer(t, c.config))
		r := newRequest(t, http.MethodPost, "http://"+address+c.path, "{}")
		r.Header.Set("Content-Type", "application/json")
		res, body := send(t, http.DefaultClient, r)
		if res.StatusCode != 415 || !strings.Contains(body, "don't have it: no method") || !strings.Contains(body, c.want) || c.want == "" && strings.Contains(body, "did you mean") {
			t.Errorf("%s: answered %d %q, want %q", name, res.StatusCode, body, c.want)
		}
	}
	address := serve(t, newServer(t, Config{Backend: backend}))
	if res, body := request(t, "GET", "http://"+address+"/shop.Orders/Gett?connect=v1&encoding=json&message={}", ""); res.StatusCode != 415 || !strings.Contains(body, "did you mean Get?") {
		t.Errorf("a GET: answered %d %q", res.StatusCode, body)
	}
	if _, body := request(t, "POST", "http://"+address+"/shop.Order/Get", "{}"); !strings.Contains(body, "correct the service's name") || strings.Contains(body, "turn on") {
		t.Errorf("another service: %q", body)
	}
}

// TestMethodInTheAddressBar: a browser that opens a method's path reads what the path is,
// and nothing of a proxy. A client whose upgrade was removed does.
func TestMethodInTheAddressBar(t *testing.T) {
	var log bytes.Buffer
	s := newServer(t, Config{
		Backend: nowhere, FallbackURL: "http://127.0.0.1:1", Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Routes: []Route{
			{Name: "ws", Backend: DefaultBackend, Message: &MessageRoute{Path: "/ws", Method: "a.B/C", Framing: FramingProtobuf}},
			{Name: "json", Backend: DefaultBackend, Message: &MessageRoute{Path: "/json", Method: "a.B/C", Framing: FramingJSON}},
			{Name: "calls", Backend: DefaultBackend},
		},
	})
	for path, want := range map[string]string{"/shop.v1.Orders/Get": "gRPC method shop.v1.Orders/Get", "/ws": "only WebSockets", "/json": "WebSockets and POST"} {
		for fields, opened := range map[string]bool{
			"Sec-Fetch-Mode: navigate":                    true,
			"Accept: text/html,application/xhtml+xml,*/*": true,
			"Accept: */*":                                 false,
			"Sec-Fetch-Mode: websocket":                   false,
			"Sec-Websocket-Key: dGhlIHNhbXBsZSBub25jZQ==": false,
			"Sec-Fetch-Mode: cors":                        false,
		} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
			name, value, _ := strings.Cut(fields, ": ")
			r.Header.Set(name, value)
			w := answerTo(s, r)
			b, _ := io.ReadAll(w.Result().Body)
			text := string(b)
			stripped := name == "Sec-Websocket-Key" && strings.HasPrefix(path, "/shop")
			if w.Code != 426 || strings.Contains(text, "proxy") == opened || !stripped && !strings.Contains(text, want) {
				t.Errorf("%s, %s: answered %d %q", path, fields, w.Code, text)
			}
		}
	}
}

// TestFallbackGetsAMistypedCall: the log says so, in bounds.
func TestFallbackGetsAMistypedCall(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	teapot := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	to := webServer(t, teapot)
	for name, config := range map[string]Config{"a web server": {FallbackURL: to}, "a handler": {Fallback: teapot}} {
		log := new(safeLog)
		config.Backend = Backend{Target: startBackend(t, echo), Descriptors: describedShop(t)}
		config.Logger = slog.New(slog.NewTextHandler(log, nil))
		address := serve(t, newServer(t, config))
		post := func(path, contentType string) {
			t.Helper()
			r := newRequest(t, http.MethodPost, "http://"+address+path+"?secret=1", "{}")
			r.Header.Set("Content-Type", contentType)
			if res, body := send(t, http.DefaultClient, r); res.StatusCode != http.StatusTeapot {
				t.Errorf("%s: %s is answered %d %q", name, path, res.StatusCode, body)
			}
		}
		post("/shop.Basket/Get", "application/json") // no service of the backend's
		post("/api/login", "application/json")
		if got := log.String(); strings.Contains(got, "looks like a call") {
			t.Errorf("%s: the log says of what is the web server's:\n%s", name, got)
		}
		for range 50 {
			post("/shop.Orders/Gett", "application/json")
		}
		got := log.String()
		if n := strings.Count(got, "looks like a call"); n == 0 || n > 10 || !strings.Contains(got, "no method Gett: did the client mean Get?") || !strings.Contains(got, "level=WARN") || strings.Contains(got, "secret") {
			t.Errorf("%s: the log says %d times:\n%.1000s", name, n, got)
		}
	}
}

// safeLog is a log that may be read while it is written.
type safeLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *safeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *safeLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
