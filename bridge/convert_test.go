package bridge

import (
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthserver "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/descriptor"
	"github.com/culvert-grpc/culvert/internal/parts"
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

func (d described) Descriptors() report.Descriptors { return d.set }

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
	wantBackend := func(how string) {
		t.Helper()
		if kind, m := await(t, "the call", types), await(t, "the message", got); kind != "application/grpc+proto" || m != lineHello {
			t.Errorf("%s: the backend got %q by %q", how, m, kind)
		}
	}
	wantBackend("compressed")
	const reply = `{"text":"hello","lineNumber":"7","mood":"GLAD"}`
	one := string(framed(0, []byte(`{"text":"hello"}`)))
	for contentType, kind := range map[string]string{
		"application/grpc-web+json": "application/grpc-web+json", "application/grpc-web+JSON; charset=utf-8": "application/grpc-web+json",
		"application/grpc-web-text+json": "application/grpc-web-text+json",
	} {
		text, answer := strings.HasPrefix(kind, "application/grpc-web-text"), ""
		body := one
		if text {
			body = base64.StdEncoding.EncodeToString([]byte(body))
		}
		res, answer := postUnary(t, address, body, "Content-Type", contentType)
		if text {
			answer = plainText(t, answer)
		}
		if !strings.Contains(blankless(answer), reply) || !strings.Contains(answer, "grpc-status: 0") || res.Header.Get("Content-Type") != kind {
			t.Errorf("%s: answered %q %v", contentType, answer, res.Header)
		}
		wantBackend(contentType)
	}
	res, answer := postUnary(t, address, string(framed(0, []byte(`{"text":1}`))), "Content-Type", "application/grpc-web+json")
	if res.StatusCode != 200 || !strings.Contains(answer, "grpc-status: 3") || !strings.Contains(answer, "column 9") {
		t.Errorf("malformed JSON is answered %d %q", res.StatusCode, answer)
	}
	stream := string(framed(0, []byte(`{"text":"hello"}`))) + string(framed(0, []byte(`{"text":"hello"}`)))
	_, answer = postUnary(t, address, stream, "Content-Type", "application/connect+json")
	if n := strings.Count(blankless(answer), `{"text":"hello","lineNumber":"7","mood":"GLAD"}`); n != 2 || !strings.HasSuffix(answer, "\x02\x00\x00\x00\x02{}") {
		t.Errorf("a stream was answered with %q", answer)
	}
}

// plainText decodes an answer of gRPC-Web-text.
func plainText(t *testing.T, answer string) string {
	t.Helper()
	b, err := io.ReadAll(codec.NewTextReader(strings.NewReader(answer)))
	if err != nil {
		t.Errorf("the answer %q isn't text: %v", answer, err)
	}
	return string(b)
}

// TestJSONOnWebSocket: the first message of grpc-websockets names JSON, and culvert
// converts each message.
func TestJSONOnWebSocket(t *testing.T) {
	types := make(chan string, 1)
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		types <- md.Get("content-type")[0]
		return echo(ss)
	})
	for pass, want := range map[bool]string{false: "application/grpc+proto", true: "application/grpc+json"} {
		address := serve(t, newServer(t, Config{Backend: Backend{Target: backend, Descriptors: describedChat(t)}, PassConnectJSON: pass}))
		ctx := within(t, patience)
		ws := way{}.socket(ctx, t, address, "grpc-websockets", nil)
		request := "\x00" + string(framed(0, []byte(`{ "text" : "hello", "new": 1 }`)))
		for _, m := range []string{"content-type: application/grpc-web+json\r\n", request, request, "\x01"} {
			if err := ws.Write(ctx, websocket.MessageBinary, []byte(m)); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for {
			_, b, err := ws.Read(ctx)
			if err != nil {
				break // the close
			}
			got = append(got, blankless(string(b[5:])))
		}
		reply := `{"text":"hello"}`
		if pass {
			reply = `{"text":"hello","new":1}`
		}
		if len(got) != 4 || !strings.Contains(got[0], "content-type:application/grpc-web+json\r\n") || got[1] != reply || got[2] != reply || !strings.HasPrefix(got[3], "grpc-status:0") {
			t.Errorf("passing %v: the client got %q", pass, got)
		}
		if kind := await(t, "the call", types); kind != want {
			t.Errorf("passing %v: the backend got %q, want %q", pass, kind, want)
		}
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
		{"depth", strings.Repeat(`{"parts":[`, 200) + strings.Repeat(`]}`, 200), "100 levels"},
		{"depth of what is unknown", `{"new":` + strings.Repeat(`[`, 4000) + strings.Repeat(`]`, 4000) + `}`, "100 levels"},
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

// TestRepliesBeforeAMistakeArrive: what a client gets for its messages before a malformed
// one doesn't depend on when the mistake is noticed, however slow the backend is. A backend
// that owes a reply can't hold the mistake for long.
func TestRepliesBeforeAMistakeArrive(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	ended := make(chan error, 1)
	var silent atomic.Bool
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		var m []byte
		for {
			if err := ss.RecvMsg(&m); err != nil {
				ended <- err
				return err
			}
			if silent.Load() {
				continue
			}
			if problem := parts.PollFor(patience, func() string {
				if !strings.Contains(string(stacks()), "awaitReplies(") {
					return "culvert hasn't read the mistake"
				}
				return ""
			}); problem != "" {
				t.Error(problem)
			}
			if err := ss.SendMsg(m); err != nil {
				ended <- err
				return err
			}
		}
	})
	address := serve(t, newServer(t, Config{Backend: Backend{Target: backend, Descriptors: describedChat(t)}, Limits: Limits{MessageBytes: 1000}}))
	good := string(framed(0, []byte(`{"text":"hello"}`)))
	for name, bad := range map[string]string{
		"malformed": string(framed(0, []byte(`{"text":`))), "empty": string(framed(0, nil)), "another kind of value": string(framed(0, []byte(`{"text":1}`))),
		"a wrong flag": "\x04\x00\x00\x00\x00", "too large": string(framed(0, []byte(`{"text":"`+strings.Repeat("a", 2000)+`"}`))), "cut": good[:9],
	} {
		for _, contentType := range []string{"application/connect+json", "application/grpc-web+json"} {
			_, answer := postUnary(t, address, good+good+bad, "Content-Type", contentType)
			if n := strings.Count(blankless(answer), `{"text":"hello"}`); n != 2 || !strings.Contains(answer, `"invalid_argument"`) && !strings.Contains(answer, `"resource_exhausted"`) && !strings.Contains(answer, "grpc-status: 3") && !strings.Contains(answer, "grpc-status: 8") {
				t.Errorf("%s, %s: answered %q, want two replies and the mistake", name, contentType, answer)
			}
			if err := await(t, "the backend's end", ended); status.Code(err) != codes.Canceled {
				t.Errorf("%s, %s: the backend's call ended with %v, want CANCELED", name, contentType, err)
			}
		}
	}
	silent.Store(true)
	if _, answer := postUnary(t, address, good+string(framed(0, nil)), "Content-Type", "application/connect+json"); !strings.Contains(answer, `"invalid_argument"`) {
		t.Errorf("behind a backend that doesn't reply: answered %q", answer)
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
	for _, reply := range []string{"\x0a\x05hel", "\x22\x01\x0a"} {
		backend := startBackend(t, replying(nil, nil, nil, reply))
		address := serve(t, newServer(t, Config{Backend: Backend{Target: backend, Descriptors: describedChat(t)}}))
		if res, body := postJSON(t, address, `{}`); res.StatusCode != 500 || !strings.Contains(body, `"internal"`) || !strings.Contains(body, "descriptors") {
			t.Errorf("%q: answered %d %q", reply, res.StatusCode, body)
		}
	}
}

// TestRepliesThatJSONCantHave end the call, and the answer says which field is wrong. It
// doesn't advise to look at the descriptors.
func TestRepliesThatJSONCantHave(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	for reply, says := range map[string]string{
		"\x0a\x01\xff":         "the string test.Line.text isn't valid UTF-8",
		"\x22\x03\x0a\x01\xff": "the string test.Line.text isn't valid UTF-8",
		string(deepLine(101)):  "is nested more than 100 levels deep",
	} {
		backend := startBackend(t, replying(nil, nil, nil, reply))
		address := serve(t, newServer(t, Config{Backend: Backend{Target: backend, Descriptors: describedChat(t)}}))
		if res, body := postJSON(t, address, `{}`); res.StatusCode != 500 || !strings.Contains(body, `"internal"`) || !strings.Contains(body, says) ||
			!strings.Contains(body, report.ReasonResponseNotJSON.Row().Remedy) || strings.Contains(body, "descriptors") {
			t.Errorf("%.20q: answered %d %q, want %q", reply, res.StatusCode, body, says)
		}
	}
}

// deepLine is a Line of so many levels.
func deepLine(levels int) (wire []byte) {
	for range levels - 1 {
		wire = append([]byte{0x22}, protowire.AppendBytes(nil, wire)...)
	}
	return wire
}

// TestDepthOfJSON: a request that is taken comes back.
func TestDepthOfJSON(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	address := serve(t, newServer(t, Config{Backend: Backend{Target: startBackend(t, echo), Descriptors: describedChat(t)}}))
	for depth, code := range map[int]int{50: 200, 99: 200, 100: 400, 500: 400} {
		text := strings.Repeat(`{"parts":[`, depth) + "{}" + strings.Repeat("]}", depth)
		if res, body := postJSON(t, address, text); res.StatusCode != code || code == 200 && blankless(body) != text || code == 400 && !strings.Contains(body, "more than 100 levels") {
			t.Errorf("%d deep: answered %d %.300q, want %d", depth, res.StatusCode, body, code)
		}
	}
}

// TestUnknownFieldsOfJSONCostNothing: culvert takes a request with as many as its size lets in,
// however little memory conversions have.
func TestUnknownFieldsOfJSONCostNothing(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	address := serve(t, newServer(t, Config{Backend: Backend{Target: startBackend(t, echo), Descriptors: describedChat(t)}, Limits: Limits{BufferedBytes: 8 << 20}}))
	for _, unknown := range []string{"{}", `""`, "[[]]", `{"a":{}}`} {
		body := `{"text":"hello","parts":[{"new":[` + unknown + strings.Repeat(","+unknown, 450_000/(len(unknown)+1)) + `]}]}`
		if res, answer := postJSON(t, address, string(parts.Gzipped([]byte(body))), "Content-Encoding", "gzip"); res.StatusCode != 200 || blankless(answer) != `{"text":"hello","parts":[{}]}` {
			t.Errorf("%d bytes of %s: answered %d %.300q", len(body), unknown, res.StatusCode, answer)
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
		for _, contentType := range []string{"application/grpc-web+json", "application/grpc-web-text+json"} {
			body := framed(0, []byte("{}"))
			if strings.Contains(contentType, "-text") {
				body = []byte(base64.StdEncoding.EncodeToString(body))
			}
			res, answer := postUnary(t, address, string(body), "Content-Type", contentType)
			if strings.Contains(contentType, "-text") {
				answer = plainText(t, answer)
			}
			if res.StatusCode != 200 || !strings.Contains(answer, "grpc-status: 12") || !strings.Contains(answer, c.says) || !strings.Contains(answer, "backend.descriptors") {
				t.Errorf("%s, %s: answered %d %q", name, contentType, res.StatusCode, answer)
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
	targets := []report.Target{{Backend: "away", Weight: 1_000_000}, {Backend: "live", Weight: 1}}
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
