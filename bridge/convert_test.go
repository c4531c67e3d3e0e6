package bridge

import (
	"encoding/base64"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthserver "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/culvert-grpc/culvert/bridge/bridgetest/parts"
	"github.com/culvert-grpc/culvert/bridge/descriptor"
	"github.com/culvert-grpc/culvert/bridge/routing"
)

const chatFile = `
name: "chat.proto" package: "test" syntax: "proto3"
message_type: { name: "Line"
  field: {name: "text" json_name: "text" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL}
  field: {name: "line_number" json_name: "lineNumber" number: 2 type: TYPE_INT64 label: LABEL_OPTIONAL}
  field: {name: "weight" json_name: "weight" number: 3 type: TYPE_FLOAT label: LABEL_OPTIONAL}
  field: {name: "parts" json_name: "parts" number: 4 type: TYPE_MESSAGE type_name: ".test.Line" label: LABEL_REPEATED}
  field: {name: "mood" json_name: "mood" number: 5 type: TYPE_ENUM type_name: ".test.Mood" label: LABEL_OPTIONAL}
  field: {name: "numbers" json_name: "numbers" number: 6 type: TYPE_DOUBLE label: LABEL_REPEATED}
}
enum_type: { name: "Mood" value: {name: "CALM" number: 0} value: {name: "GLAD" number: 1} }
service: { name: "lowly" method: {name: "Method" input_type: ".test.Line" output_type: ".test.Line"} }
service: { name: "Service"
  method: {name: "Method" input_type: ".test.Line" output_type: ".test.Line" client_streaming: true server_streaming: true}
  method: {name: "Pure" input_type: ".test.Line" output_type: ".test.Line" options: {idempotency_level: NO_SIDE_EFFECTS}}
}
`

// lineHello is {"text":"hello"} as protobuf.
const lineHello = "\x0a\x05hello"

// described are the descriptors of chatFile.
type described struct{ set *descriptor.Set }

func (d described) Descriptors() *descriptor.Set { return d.set }

func describedChat(t testing.TB) described {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{}
	if err := prototext.Unmarshal([]byte(chatFile), file); err != nil {
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

// postJSON makes a unary call with JSON.
func postJSON(t testing.TB, address, body string, fields ...string) (*http.Response, string) {
	t.Helper()
	return postUnary(t, address, body, append([]string{"Content-Type", "application/json"}, fields...)...)
}

// TestJSONIsConverted: the backend gets protobuf, and the client JSON.
func TestJSONIsConverted(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	types, got := make(chan string, 9), make(chan string, 9)
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		types <- md.Get("content-type")[0]
		var m []byte
		for ss.RecvMsg(&m) == nil {
			got <- string(m)
			if err := ss.SendMsg(append(m, "\x10\x07\x28\x01"...)); err != nil {
				return err
			}
		}
		return nil
	})
	address := serve(t, newServer(t, Config{Backend: Backend{Target: backend, Descriptors: describedChat(t)}}))
	for _, body := range []string{`{"text":"hello"}`, ` { "text" : "hello", "new": [{}], "mood":"NEW" } `} {
		res, answer := postJSON(t, address, body)
		if res.StatusCode != 200 || blankless(answer) != `{"text":"hello","lineNumber":"7","mood":"GLAD"}` || res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: answered %d %q %v", body, res.StatusCode, answer, res.Header)
		}
		if kind, m := await(t, "the call", types), await(t, "the message", got); kind != "application/grpc+proto" || m != lineHello {
			t.Errorf("%s: the backend got %q by %q", body, m, kind)
		}
	}
	packed := string(parts.Gzipped([]byte(`{"text":"hello"}`)))
	if res, answer := postJSON(t, address, packed, "Content-Encoding", "gzip"); res.StatusCode != 200 || !strings.Contains(answer, `"hello"`) {
		t.Errorf("compressed: answered %d %q", res.StatusCode, answer)
	}
	stream := string(framed(0, []byte(`{"text":"hello"}`))) + string(framed(0, []byte(`{"text":"hello"}`)))
	_, answer := postUnary(t, address, stream, "Content-Type", "application/connect+json")
	if n := strings.Count(blankless(answer), `{"text":"hello","lineNumber":"7","mood":"GLAD"}`); n != 2 || !strings.HasSuffix(answer, "\x02\x00\x00\x00\x02{}") {
		t.Errorf("a stream was answered with %q", answer)
	}
}

func blankless(json string) string { return strings.ReplaceAll(json, " ", "") }

// TestBadJSON: the answer says where the mistake is, and the next call passes.
func TestBadJSON(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	var calls atomic.Int32
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		calls.Add(1)
		return echo(ss)
	})
	address := serve(t, newServer(t, Config{Backend: Backend{Target: backend, Descriptors: describedChat(t)}, Limits: Limits{MessageBytes: 10_000}}))
	for _, c := range []struct{ name, body, says string }{
		{"nothing", "", "{}"},
		{"no JSON", "text", "column 1"},
		{"half a message", `{"text":`, "text: the text ends too early"},
		{"another kind of value", "{\n\"parts\": [{}, {\"lineNumber\": true}]}", "line 2, column 30: parts[1].lineNumber"},
		{"two values", `{"text":"a"}{"text":"b"}`, "column 13"},
		{"a field twice", `{"text":"a","text":"b"}`, "text"},
		{"by both of its names", `{"lineNumber":1,"line_number":2}`, "line_number"},
		{"NaN", `{"weight":NaN}`, "weight"},
		{"infinity", `{"weight":1e999}`, "weight"},
		{"a huge number", `{"lineNumber":9223372036854775808}`, "lineNumber"},
		{"a long number", `{"lineNumber":` + strings.Repeat("9", 5000) + `}`, "lineNumber"},
		{"a long text", `{"lineNumber":"` + strings.Repeat("ä", 4000) + `"}`, "…"},
		{"no UTF-8", "{\"text\":\"\xff\"}", "UTF-8"},
		{"half a surrogate", `{"text":"\ud800"}`, "text"},
		{"depth", strings.Repeat(`{"parts":[`, 200) + strings.Repeat(`]}`, 200), "depth"},
		{"depth of what is unknown", `{"new":` + strings.Repeat(`[`, 4000) + strings.Repeat(`]`, 4000) + `}`, "depth"},
	} {
		res, body := postJSON(t, address, c.body)
		if res.StatusCode != 400 || len(body) > 1000 || !strings.Contains(body, `"invalid_argument"`) || !strings.Contains(body, c.says) || !strings.Contains(body, "JSON") {
			t.Errorf("%s: answered %d %.300q, want %q", c.name, res.StatusCode, body, c.says)
		}
	}
	if n := calls.Load(); n > 0 {
		t.Errorf("the backend got %d calls of malformed requests", n)
	}
	for _, body := range []string{`{"weight":"NaN"}`, `{"weight":"-Infinity"}`, `{"lineNumber":"9223372036854775807"}`} {
		if res, answer := postJSON(t, address, body); res.StatusCode != 200 || blankless(answer) != body {
			t.Errorf("%s: answered %d %q", body, res.StatusCode, answer)
		}
	}
}

// TestSizesOfJSON: a message is bounded as JSON and as protobuf, and what a conversion
// takes by the memory for messages.
func TestSizesOfJSON(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	reply := "\x10\x07"
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		var m []byte
		if err := ss.RecvMsg(&m); err != nil {
			return err
		}
		return ss.SendMsg([]byte(reply))
	})
	address := serve(t, newServer(t, Config{Backend: Backend{Target: backend, Descriptors: describedChat(t)}, Limits: Limits{MessageBytes: 100_000, BufferedBytes: 4 << 20}}))
	for _, c := range []struct {
		name, body, reply string
		code              int
		says              string
	}{
		{"small", `{}`, "\x10\x07", 200, `"7"`},
		{"long", `{"text":"` + strings.Repeat("x", 90_000) + `"}`, "\x10\x07", 200, `"7"`},
		{"too long", `{"text":"` + strings.Repeat("x", 100_000) + `"}`, "\x10\x07", 429, "limits.message_bytes"},
		{"too many parts", `{"parts":[{}` + strings.Repeat(",{}", 30_000) + `]}`, "\x10\x07", 429, "limits.buffered_bytes"},
		{"a reply of many parts", `{}`, strings.Repeat("\x22\x00", 40_000), 429, "limits.buffered_bytes"},
		{"a reply that is long as JSON", `{}`, "\x0a\xa0\x9c\x01" + strings.Repeat("\x00", 20_000), 429, "limits.message_bytes"},
		{"and small again", `{}`, "\x10\x07", 200, `"7"`},
	} {
		reply = c.reply
		if res, body := postJSON(t, address, c.body); res.StatusCode != c.code || !strings.Contains(body, c.says) {
			t.Errorf("%s: answered %d %.300q, want %d %q", c.name, res.StatusCode, body, c.code, c.says)
		}
	}
}

// TestRepliesThatArentAsDescribed end the call; the answer doesn't tell the client what
// the backend sent.
func TestRepliesThatArentAsDescribed(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	for _, reply := range []string{"\x0a\x05hel", "\x0a\x01\xff", "\x22\x01\x0a"} {
		backend := startBackend(t, replying(nil, nil, nil, reply))
		address := serve(t, newServer(t, Config{Backend: Backend{Target: backend, Descriptors: describedChat(t)}}))
		if res, body := postJSON(t, address, `{}`); res.StatusCode != 500 || !strings.Contains(body, `"internal"`) || !strings.Contains(body, "descriptors") {
			t.Errorf("%q: answered %d %q", reply, res.StatusCode, body)
		}
	}
}

// TestJSONWithoutDescriptors is 415, and protobuf passes.
func TestJSONWithoutDescriptors(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	for name, c := range map[string]struct {
		backend Backend
		says    string
	}{
		"no reflection":     {Backend{Target: startBackend(t, func(ss grpc.ServerStream) error { return unimplementedReflection(ss) })}, "no server reflection"},
		"an unknown method": {Backend{Target: startBackend(t, echo), Descriptors: described{&descriptor.Set{}}}, "don't have it"},
	} {
		address := serve(t, newServer(t, Config{Backend: c.backend}))
		for contentType, body := range map[string]string{"application/json": "{}", "application/connect+json": string(framed(0, []byte("{}")))} {
			res, body := postUnary(t, address, body, "Content-Type", contentType, "Origin", "http://"+address)
			if res.StatusCode != 415 || !strings.Contains(body, c.says) || !strings.Contains(body, "backend.descriptors") ||
				!strings.Contains(res.Header.Get("Accept-Post"), "application/proto") || strings.Contains(res.Header.Get("Accept-Post"), "json") {
				t.Errorf("%s, %s: answered %d %q %v", name, contentType, res.StatusCode, body, res.Header)
			}
		}
		if res, body := postUnary(t, address, lineHello); res.StatusCode != 200 || body != lineHello {
			t.Errorf("%s: protobuf is answered %d %q", name, res.StatusCode, body)
		}
	}
}

// unimplementedReflection is the echo, but has no reflection.
func unimplementedReflection(ss grpc.ServerStream) error {
	if method, _ := grpc.MethodFromServerStream(ss); strings.HasPrefix(method, "/grpc.reflection.") {
		return status.Error(codes.Unimplemented, "no such service")
	}
	return echo(ss)
}

// reflectingBackend serves health and reflection, and returns the address.
func reflectingBackend(t *testing.T) string {
	t.Helper()
	gs := grpc.NewServer()
	healthpb.RegisterHealthServer(gs, healthserver.NewServer())
	reflection.Register(gs)
	ln := listen(t, "127.0.0.1:0")
	served := make(chan error, 1)
	go func() { served <- gs.Serve(ln) }()
	t.Cleanup(func() {
		gs.Stop()
		_ = await(t, "the server's end", served)
	})
	return ln.Addr().String()
}

// TestJSONByReflection: a backend that has it needs nothing else.
func TestJSONByReflection(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	address := serve(t, newServer(t, Config{Backend: Backend{Target: reflectingBackend(t)}}))
	post := func(method, body string) (*http.Response, string) {
		r := newRequest(t, http.MethodPost, "http://"+address+method, body)
		r.Header.Set("Content-Type", "application/json")
		return send(t, http.DefaultClient, r)
	}
	if res, body := post("/grpc.health.v1.Health/Check", `{"service":""}`); res.StatusCode != 200 || blankless(body) != `{"status":"SERVING"}` {
		t.Errorf("answered %d %q", res.StatusCode, body)
	}
	if res, body := post("/grpc.health.v1.Health/Check", `{"service":"none"}`); res.StatusCode != 404 || !strings.Contains(body, `"not_found"`) {
		t.Errorf("answered %d %q, want the backend's error", res.StatusCode, body)
	}
	if res, body := post("/grpc.health.v1.Health/Other", `{}`); res.StatusCode != 415 || !strings.Contains(body, "don't have it") {
		t.Errorf("answered %d %q", res.StatusCode, body)
	}
}

// TestGetWithoutSideEffects: descriptors may say that a method has none.
func TestGetWithoutSideEffects(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	address := serve(t, newServer(t, Config{Backend: Backend{Target: startBackend(t, echo), Descriptors: describedChat(t)}}))
	for _, c := range []struct {
		method, query string
		code          int
		says          string
	}{
		{"Pure", "encoding=json&message=%7B%22text%22%3A%22hello%22%7D", 200, `"hello"`},
		{"Pure", "encoding=proto&base64=1&message=" + base64.RawURLEncoding.EncodeToString([]byte(lineHello)), 200, lineHello},
		{"Pure", "encoding=json&message=", 400, "{}"},
		{"Method", "encoding=json&message={}", 405, "connect.get"},
		{"None", "encoding=proto&message=", 405, "connect.get"},
	} {
		res, body := send(t, http.DefaultClient, newRequest(t, http.MethodGet, "http://"+address+"/test.Service/"+c.method+"?connect=v1&"+c.query, ""))
		if res.StatusCode != c.code || !strings.Contains(body, c.says) || (c.code == 405) != (res.Header.Get("Allow") == "POST") {
			t.Errorf("%s?%s: answered %d %.200q %v, want %d %q", c.method, c.query, res.StatusCode, body, res.Header, c.code, c.says)
		}
	}
}

// TestJSONOfASplitMovesOn: a backend that can't be asked has no calls of JSON either.
func TestJSONOfASplitMovesOn(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	targets := []routing.Target{{Backend: "away", Weight: 1_000_000}, {Backend: "live", Weight: 1}}
	address := serve(t, newServer(t, Config{
		Backends: []NamedBackend{{Name: "away", Backend: refusing}, {Name: "live", Backend: Backend{Target: reflectingBackend(t)}}},
		Routes:   []Route{{Name: "all", Split: targets}},
	}))
	for range 3 {
		r := newRequest(t, http.MethodPost, "http://"+address+"/grpc.health.v1.Health/Check", "{}")
		r.Header.Set("Content-Type", "application/json")
		if res, body := send(t, http.DefaultClient, r); res.StatusCode != 200 {
			t.Errorf("answered %d %s", res.StatusCode, body)
		}
	}
}
