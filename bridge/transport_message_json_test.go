package bridge

import (
	"bufio"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// serveJSON serves a route of messages in a framing, before a backend whose descriptors
// are those of chatFile.
func serveJSON(t *testing.T, framing, method string, handle func(grpc.ServerStream) error, change func(*Config, *MessageRoute)) string {
	t.Helper()
	_, address := serveChat(t, handle, func(c *Config) {
		c.Backend.Descriptors = describedChat(t)
		m := c.Routes[0].Message
		m.Framing, m.Method = framing, "test.Service/"+method
		if change != nil {
			change(c, m)
		}
	})
	return address
}

// hearsJSON reads a message and compares it, blanks aside.
func hearsJSON(t *testing.T, ws *coder.Conn, kind coder.MessageType, want string) {
	t.Helper()
	got, text, err := ws.Read(t.Context())
	if err != nil || got != kind || blankless(string(text)) != want {
		t.Fatalf("got %v %q, %v; want %v %q", got, text, err, kind, want)
	}
}

// TestJSONMessages: text and binary messages are JSON, and the replies text.
func TestJSONMessages(t *testing.T) {
	got := make(chan string, 9)
	address := serveJSON(t, FramingJSON, "Method", func(ss grpc.ServerStream) error {
		var m []byte
		for ss.RecvMsg(&m) == nil {
			got <- string(m)
			if err := ss.SendMsg(m); err != nil {
				return err
			}
		}
		return nil
	}, func(_ *Config, m *MessageRoute) { m.HalfClose, m.LastStatus = "done", true })
	ws := dialMessages(t, address, "/ws/chat", nil)
	for _, kind := range []coder.MessageType{coder.MessageText, coder.MessageBinary} {
		say(t, ws, kind, `{"text":"hello"}`)
		if m := await(t, "the message", got); m != lineHello {
			t.Errorf("the backend got %q", m)
		}
		hearsJSON(t, ws, coder.MessageText, `{"text":"hello"}`)
	}
	long := `{"text":"` + strings.Repeat("ä€😀", 30_000) + `"}` // in several pieces
	say(t, ws, coder.MessageText, long)
	hearsJSON(t, ws, coder.MessageText, long)
	say(t, ws, coder.MessageText, "done")
	hearsJSON(t, ws, coder.MessageText, `{"@status":{"code":0,"status":"OK"}}`)
	closes(t, ws, 1000, "")
}

// TestOptionsOfJSONMessages are those of the route.
func TestOptionsOfJSONMessages(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(*MessageRoute)
		kind     coder.MessageType
		in, want string
	}{
		"field names": {func(m *MessageRoute) { m.JSON.ProtoNames = true }, coder.MessageText, `{"lineNumber":7}`, `{"line_number":"7"}`},
		"enums":       {func(m *MessageRoute) { m.JSON.EnumNumbers = true }, coder.MessageText, `{"mood":"GLAD"}`, `{"mood":1}`},
		"defaults":    {func(m *MessageRoute) { m.JSON.Defaults = true }, coder.MessageText, `{}`, `{"text":"","lineNumber":"0","weight":0,"parts":[],"mood":"CALM","numbers":[]}`},
		"binary":      {func(m *MessageRoute) { m.BinaryOut = true }, coder.MessageBinary, `{"text":"x"}`, `{"text":"x"}`},
		"unknown":     {func(*MessageRoute) {}, coder.MessageText, `{"text":"x","new":1}`, `{"text":"x"}`},
	} {
		t.Run(name, func(t *testing.T) {
			address := serveJSON(t, FramingJSON, "Method", echo, func(_ *Config, m *MessageRoute) { c.change(m) })
			ws := dialMessages(t, address, "/ws/chat", nil)
			say(t, ws, coder.MessageText, c.in)
			hearsJSON(t, ws, c.kind, c.want)
		})
	}
	address := serveJSON(t, FramingJSON, "Method", echo, func(_ *Config, m *MessageRoute) { m.JSON.RejectUnknown = true })
	ws := dialMessages(t, address, "/ws/chat", nil)
	say(t, ws, coder.MessageText, `{"text":"x","new":1}`)
	closes(t, ws, 4003, `BAD_REQUEST: a request isn't the JSON of a test.Line: line 1, column 13: new: unknown field "new"`)
}

// TestBadJSONMessages close their WebSocket, with the place of the mistake, and no other.
func TestBadJSONMessages(t *testing.T) {
	address := serveJSON(t, FramingJSON, "Method", echo, func(c *Config, _ *MessageRoute) { c.Limits.MessageBytes = 20_000 })
	other := dialMessages(t, address, "/ws/chat", nil)
	for _, c := range []struct {
		name, in string
		code     int
		reason   string
	}{
		{"no JSON", "hello", 4003, "BAD_REQUEST: a request isn't the JSON of a test.Line: line 1, column 1"},
		{"nothing", "", 4003, "BAD_REQUEST: an empty request isn't JSON"},
		{"two values", `{"text":"a"} {"text":"b"}`, 4003, "BAD_REQUEST: a request isn't the JSON of a test.Line: line 1, column 14"},
		{"no UTF-8", "{\"text\":\"\xff\"}", 1007, "BAD_REQUEST: a text message isn't valid UTF-8"},
		{"a cut character", "{\"text\":\"\xe2\x82", 1007, "BAD_REQUEST: a text message isn't valid UTF-8"},
		{"depth", strings.Repeat(`{"parts":[`, 200) + strings.Repeat(`]}`, 200), 4003, "BAD_REQUEST: a request isn't the JSON of a test.Line: "},
		{"NaN", `{"weight":NaN}`, 4003, "BAD_REQUEST: a request isn't the JSON of a test.Line: line 1, column 11: weight"},
		{"Infinity", `{"weight":-Infinity}`, 4003, "BAD_REQUEST: a request isn't the JSON of a test.Line: line 1, column 11: weight"},
		{"a key twice", `{"text":"a","text":"b"}`, 4003, `BAD_REQUEST: a request isn't the JSON of a test.Line: line 1, column 13: text: duplicate field "text"`},
		{"a huge number", `{"lineNumber":1e400}`, 4003, "BAD_REQUEST: a request isn't the JSON of a test.Line: line 1, column 15: lineNumber"},
		{"oversize", `{"text":"` + strings.Repeat("x", 20_000) + `"}`, 1009, "REQUEST_TOO_LARGE: "},
	} {
		ws := dialMessages(t, address, "/ws/chat", nil)
		say(t, ws, coder.MessageText, c.in)
		if !closesWith(t, ws, c.code, c.reason) {
			t.Errorf("%s: see above", c.name)
		}
	}
	say(t, other, coder.MessageText, `{"text":"hello"}`)
	hearsJSON(t, other, coder.MessageText, `{"text":"hello"}`)
	if err := other.Close(coder.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
}

func closesWith(t *testing.T, ws *coder.Conn, code int, reason string) bool {
	t.Helper()
	failed := t.Failed()
	closes(t, ws, code, reason)
	return failed || !t.Failed()
}

// TestJSONMessagesOfAMethodThatTakesOne: descriptors say so, so the client needn't say
// that it has no other.
func TestJSONMessagesOfAMethodThatTakesOne(t *testing.T) {
	address := serveJSON(t, FramingJSON, "Pure", func(ss grpc.ServerStream) error {
		var m []byte
		for ss.RecvMsg(&m) == nil { // until the half-close
		}
		return ss.SendMsg([]byte(lineHello))
	}, func(_ *Config, m *MessageRoute) { m.HalfClose = "done" })
	for _, half := range []bool{false, true} {
		ws := dialMessages(t, address, "/ws/chat", nil)
		say(t, ws, coder.MessageText, `{}`)
		if half {
			say(t, ws, coder.MessageText, "done")
		}
		hearsJSON(t, ws, coder.MessageText, `{"text":"hello"}`)
		closes(t, ws, 1000, "")
	}
	waits := serveJSON(t, FramingJSON, "Pure", hold, nil)
	ws := dialMessages(t, waits, "/ws/chat", nil)
	say(t, ws, coder.MessageText, `{}`, `{}`)
	closes(t, ws, 4003, "BAD_REQUEST: the method takes one message, and a second one came")
}

// TestJSONMessagesWithoutDescriptors is the backend's or the operator's mistake, and says
// which.
func TestJSONMessagesWithoutDescriptors(t *testing.T) {
	address := serveJSON(t, FramingJSON, "None", echo, nil)
	closes(t, dialMessages(t, address, "/ws/chat", nil), 4012, "UNSUPPORTED_ENCODING: culvert can't convert JSON for this method: the backend's descriptors don't have it")
	address = serveJSON(t, FramingJSON, "Method", unimplementedReflection, func(c *Config, _ *MessageRoute) { c.Backend.Descriptors = nil })
	closes(t, dialMessages(t, address, "/ws/chat", nil), 4012, "UNSUPPORTED_ENCODING: culvert can't convert JSON for this method: the backend has no server reflection")
}

// request sends an HTTP request and returns the answer with its body.
func request(t *testing.T, method, url, body string, fields ...string) (*http.Response, string) {
	t.Helper()
	r := newRequest(t, method, url, body)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	return send(t, http.DefaultClient, r)
}

// TestPostOfJSON is a unary call.
func TestPostOfJSON(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	address := serveJSON(t, FramingJSON, "Pure", echo, func(_ *Config, m *MessageRoute) { m.JSON.ProtoNames = true })
	for _, c := range []struct {
		method, body string
		code         int
		says         string
	}{
		{"POST", `{"lineNumber":"7"}`, 200, `{"line_number":"7"}`},
		{"POST", `{"lineNumber":true}`, 400, "lineNumber"},
		{"GET", "", 426, "WebSockets"},
		{"PUT", "{}", 405, "POST"},
	} {
		res, body := request(t, c.method, "http://"+address+"/ws/chat", c.body)
		if res.StatusCode != c.code || !strings.Contains(blankless(body), c.says) && !strings.Contains(body, c.says) {
			t.Errorf("%s %s: answered %d %q, want %d %q", c.method, c.body, res.StatusCode, body, c.code, c.says)
		}
	}
	if res, body := request(t, "POST", "http://"+address+"/ws/chat", "x", "Content-Type", "text/plain"); res.StatusCode != 415 || res.Header.Get("Accept-Post") != "application/json" {
		t.Errorf("another type: answered %d %q", res.StatusCode, body)
	}
}

// counting sends three lines, and then ends with err.
func counting(err error) func(grpc.ServerStream) error {
	return func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		var m []byte
		if err := ss.RecvMsg(&m); err != nil {
			return err
		}
		for _, text := range []string{string(m), "\x0a\x03" + strings.Join(append(md.Get("last-event-id"), "non")[:1], ""), "\x0a\x02\x0a\x0d"} {
			if err := ss.SendMsg([]byte(text)); err != nil {
				return err
			}
		}
		return err
	}
}

// TestLines: replies are lines, and a status that isn't OK is the last one.
func TestLines(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	const lines = `{"text":"hello"}` + "\n" + `{"text":"non"}` + "\n" + `{"text":"\n\r"}` + "\n"
	for name, c := range map[string]struct {
		err  error
		last bool
		want string
	}{
		"OK":     {nil, false, lines},
		"told":   {nil, true, lines + `{"@status":{"code":0,"status":"OK"}}` + "\n"},
		"failed": {status.Error(codes.DataLoss, "gone"), false, lines + `{"@status":{"code":15,"status":"DATA_LOSS","message":"gone"}}` + "\n"},
	} {
		address := serveJSON(t, FramingNDJSON, "Pure", counting(c.err), func(_ *Config, m *MessageRoute) { m.LastStatus = c.last })
		res, body := request(t, "POST", "http://"+address+"/ws/chat", `{"text":"hello"}`)
		if res.StatusCode != 200 || blankless(body) != c.want || res.Header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("%s: answered %d %q %v", name, res.StatusCode, body, res.Header)
		}
		if res, body := request(t, "GET", "http://"+address+"/ws/chat?message="+`%7B%22text%22:%22hello%22%7D`, ""); res.StatusCode != 200 || blankless(body) != c.want {
			t.Errorf("%s by GET: answered %d %q", name, res.StatusCode, body)
		}
		if res, body := request(t, "GET", "http://"+address+"/ws/chat?message="+`%7B%22text%22:%22hello%22%7D`, "", "Content-Encoding", "gzip"); res.StatusCode != 200 || blankless(body) != c.want {
			t.Errorf("%s by GET, whose body has a coding: answered %d %q", name, res.StatusCode, body)
		}
	}
}

// TestEvents: replies are events, and so is the status.
func TestEvents(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	address := serveJSON(t, FramingSSE, "Pure", counting(nil), nil)
	res, body := request(t, "GET", "http://"+address+"/ws/chat", "", "Last-Event-ID", "abc")
	want := "data: {}\n\n" + `data: {"text":"abc"}` + "\n\n" + `data: {"text":"\n\r"}` + "\n\nevent: status\n" + `data: {"@status":{"code":0,"status":"OK"}}` + "\n\n"
	if res.StatusCode != 200 || strings.ReplaceAll(body, `": "`, `":"`) != want || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("Cache-Control") != "no-store, no-transform" {
		t.Errorf("answered %d %q %v", res.StatusCode, body, res.Header)
	}
}

// TestIDsOfEvents are a field of the replies.
func TestIDsOfEvents(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	for field, want := range map[string]string{
		"text":        "id: hello\ndata: #id: non\ndata: #data: #",
		"line_number": "data: #data: #data: #",
	} {
		address := serveJSON(t, FramingSSE, "Pure", counting(nil), func(_ *Config, m *MessageRoute) { m.EventID = field })
		_, body := request(t, "POST", "http://"+address+"/ws/chat", `{"text":"hello"}`)
		events, _, _ := strings.Cut(body, "event: status")
		if got := regexp.MustCompile(`\{.*\}\n\n`).ReplaceAllString(events, "#"); got != want {
			t.Errorf("%s: %q, want %q", field, got, want)
		}
	}
	address := serveJSON(t, FramingSSE, "Pure", counting(nil), func(_ *Config, m *MessageRoute) { m.EventID = "weight" })
	if res, body := request(t, "GET", "http://"+address+"/ws/chat", ""); res.StatusCode != 501 || !strings.Contains(body, `message.event_id: the field \"weight\" of test.Line is neither text nor an integer`) {
		t.Errorf("answered %d %q", res.StatusCode, body)
	}
}

// TestEventsArriveAtOnce: each when it is sent, and the client's end ends the call.
func TestEventsArriveAtOnce(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	ended, next := make(chan struct{}), make(chan string)
	address := serveJSON(t, FramingSSE, "Pure", func(ss grpc.ServerStream) error {
		defer close(ended)
		if err := ss.SendHeader(metadata.Pairs("x-h", "1")); err != nil {
			return err
		}
		for {
			select {
			case m := <-next:
				if err := ss.SendMsg([]byte(m)); err != nil {
					return err
				}
			case <-ss.Context().Done():
				return ss.Context().Err()
			}
		}
	}, nil)
	res, err := http.DefaultClient.Do(newRequest(t, http.MethodGet, "http://"+address+"/ws/chat", ""))
	if err != nil || res.Header.Get("X-H") != "1" {
		t.Fatalf("%v, %v", res, err)
	}
	lines := bufio.NewReader(res.Body)
	for range 3 {
		next <- lineHello
		line, err := lines.ReadString('\n')
		if _, skip := lines.ReadString('\n'); err != nil || skip != nil || blankless(line) != `data:{"text":"hello"}`+"\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	_ = res.Body.Close() // the client leaves
	_ = await(t, "the call's end", ended)
}

// TestLinesThatFailAtOnce have an HTTP status.
func TestLinesThatFailAtOnce(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	refuses := func(ss grpc.ServerStream) error {
		var m []byte
		if err := ss.RecvMsg(&m); err != nil {
			return err
		}
		return status.Error(codes.NotFound, "no such room")
	}
	for _, framing := range []string{FramingSSE, FramingNDJSON} {
		address := serveJSON(t, framing, "Pure", refuses, nil)
		for _, c := range []struct {
			method, query, body string
			code                int
			says                string
		}{
			{"POST", "", `{}`, 404, "no such room"},
			{"GET", "", "", 404, "no such room"},
			{"POST", "", `{"text":7}`, 400, "line 1, column 9: text"},
			{"GET", "?message=7", "", 400, "JSON of a test.Line"},
			{"GET", "?message=", "", 400, "{}"},
			{"GET", `?message=%7B%22text%22:%22a;b%22%7D`, "", 400, "%3B"},
			{"GET", "?message=%zz", "", 400, "%25"},
			{"GET", "?message=%7B%7D&message=%7B%7D", "", 400, "more than one"},
			{"GET", "", "{}", 415, "no body"},
			{"PUT", "", "{}", 405, "GET and POST"},
		} {
			res, body := request(t, c.method, "http://"+address+"/ws/chat"+c.query, c.body)
			if res.StatusCode != c.code || !strings.Contains(body, c.says) {
				t.Errorf("%s: %s%s %s: answered %d %q, want %d %q", framing, c.method, c.query, c.body, res.StatusCode, body, c.code, c.says)
			}
		}
		if res, body := request(t, "GET", "http://"+address+"/ws/chat", "", "Sec-Fetch-Site", "cross-site"); res.StatusCode != 403 {
			t.Errorf("%s: an image of another site: answered %d %q", framing, res.StatusCode, body)
		}
		without := serveJSON(t, framing, "None", echo, nil)
		if res, body := request(t, "GET", "http://"+without+"/ws/chat", ""); res.StatusCode != 415 || !strings.Contains(body, "don't have it") {
			t.Errorf("%s: without descriptors: answered %d %q", framing, res.StatusCode, body)
		}
		if _, res, err := coder.Dial(t.Context(), "ws://"+address+"/ws/chat", nil); err == nil || res.StatusCode != 400 {
			t.Errorf("%s: a WebSocket: %v", framing, err)
		}
	}
}

// TestMistakesInRoutesOfJSON: what a framing can't do is refused.
func TestMistakesInRoutesOfJSON(t *testing.T) {
	for want, change := range map[string]func(*MessageRoute){
		"message.unknown_fields is for messages in JSON":       func(m *MessageRoute) { m.JSON.RejectUnknown = true },
		"message.field_names is for messages in JSON":          func(m *MessageRoute) { m.JSON.ProtoNames = true },
		"message.enums is for messages in JSON":                func(m *MessageRoute) { m.JSON.EnumNumbers = true },
		"message.defaults is for messages in JSON":             func(m *MessageRoute) { m.JSON.Defaults = true },
		"message.json_out is for the framing json":             func(m *MessageRoute) { m.Framing, m.BinaryOut = FramingSSE, true },
		"message.refresh is for the framing json":              func(m *MessageRoute) { m.Framing, m.Refresh = FramingProtobuf, "@authorization" },
		"message.subprotocol can't begin with culvert.bearer.": func(m *MessageRoute) { m.Subprotocol = "Culvert.Bearer.x" },
		"message.event_id is for the framing sse":              func(m *MessageRoute) { m.Framing, m.EventID = FramingJSON, "text" },
		"message.heartbeat is for the framings sse and ndjson": func(m *MessageRoute) { m.Heartbeat = time.Second },
		"message.half_close is for WebSockets":                 func(m *MessageRoute) { m.Framing, m.HalfClose = FramingSSE, "done" },
		"message.first_message is for WebSockets":              func(m *MessageRoute) { m.Framing, m.FirstMessage = FramingNDJSON, "authorization" },
		"message.subprotocol is for WebSockets":                func(m *MessageRoute) { m.Framing, m.Subprotocol = FramingNDJSON, "chat" },
	} {
		_, err := New(Config{Backend: nowhere, Routes: chat(func(r *Route) { change(r.Message) })})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestJSONMessagesThatAreLargeAsProtobuf close as other large messages do. The first
// message's name may be in capitals.
func TestJSONMessagesThatAreLargeAsProtobuf(t *testing.T) {
	address := serveJSON(t, FramingJSON, "Method", echo, func(c *Config, m *MessageRoute) {
		c.Limits.MessageBytes, m.FirstMessage = 3000, "Authorization"
	})
	ws := dialMessages(t, address, "/ws/chat", nil)
	say(t, ws, coder.MessageText, "Bearer x", `{"numbers":[1`+strings.Repeat(",1", 1000)+`]}`)
	closes(t, ws, 1009, "REQUEST_TOO_LARGE: ")
}
