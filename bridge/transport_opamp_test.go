package bridge

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/bridge/internal/opamp"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/parts"
)

const (
	agentsPath   = "/v1/opamp"
	agentsMethod = "/fleet.v1.Agents/Connect"
	pollsMethod  = "/fleet.v1.Agents/Poll"
)

// serveAgents serves a route of agents before a backend, and returns the address.
func serveAgents(t *testing.T, handle func(grpc.ServerStream) error, change func(*Config)) (*Server, string) {
	t.Helper()
	return serveChat(t, handle, func(c *Config) {
		c.Routes = chat(func(r *Route) {
			r.Message = &MessageRoute{Path: agentsPath, Method: agentsMethod[1:], Framing: FramingOpAMP}
		})
		if change != nil {
			change(c)
		}
	})
}

// byUnaryPolls gives polls a method of their own.
func byUnaryPolls(c *Config) { c.Routes[0].Message.PollMethod = pollsMethod[1:] }

// agentID is the id of an agent.
func agentID(n byte) codec.OpAMPUID { return codec.OpAMPUID(bytes.Repeat([]byte{n}, 16)) }

// fromAgent is a message of an agent, with some text in a field that culvert doesn't know.
func fromAgent(n byte, text string) []byte {
	m := codec.AppendServerToAgent(nil, agentID(n)) // instance_uid is field 1 of both
	return append(append(m, 13<<3|2, byte(len(text))), text...)
}

// An answer is that of an upgrade or of a poll.
type answer struct {
	code   int
	header http.Header
	body   string
}

// refusedAs checks an answer's status, and the reason in its body.
func (a answer) refusedAs(t *testing.T, code int, reason report.Reason) {
	t.Helper()
	var told struct {
		Status struct {
			Details []struct{ Type, Value string }
		} `json:"@status"`
	}
	if err := json.Unmarshal([]byte(a.body), &told); err != nil || len(told.Status.Details) == 0 {
		t.Fatalf("%d %q, %v; want %d %s", a.code, a.body, err, code, reason)
	}
	var info errdetails.ErrorInfo
	first := told.Status.Details[0]
	value, err := base64.RawStdEncoding.DecodeString(first.Value)
	if err == nil {
		err = proto.Unmarshal(value, &info)
	}
	if err != nil || a.code != code || first.Type != "google.rpc.ErrorInfo" || info.GetReason() != string(reason) || info.GetDomain() != "culvert" {
		t.Errorf("%d %s, %v; want %d %s", a.code, a.body, err, code, reason)
	}
	retry := ""
	if code == http.StatusServiceUnavailable || code == http.StatusTooManyRequests {
		retry = "30"
	}
	if got := a.header.Get("Retry-After"); got != retry {
		t.Errorf("Retry-After: %q, want %q", got, retry)
	}
}

// upgrade asks for a WebSocket that isn't opened.
func upgrade(t *testing.T, address string, header http.Header) answer {
	t.Helper()
	ws, got, err := coder.Dial(t.Context(), "ws://"+address+agentsPath, &coder.DialOptions{HTTPHeader: header})
	if err == nil {
		_ = ws.CloseNow()
		t.Fatal("the WebSocket opened")
	}
	if got == nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(got.Body) // the client has kept a part
	return answer{got.StatusCode, got.Header, string(body)}
}

func TestAgentOnWebSocket(t *testing.T) {
	began := make(chan metadata.MD, 1)
	_, address := serveAgents(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		began <- md
		if err := ss.SendMsg([]byte("hello")); err != nil {
			return err
		}
		return parts.Echo(ss)
	}, nil)
	ws := dialMessages(t, address, agentsPath, http.Header{"Opamp-Instance-Uid": {agentID(1).String()}})
	if got := await(t, "the call", began)["opamp-instance-uid"]; len(got) != 1 || got[0] != agentID(1).String() {
		t.Errorf("the metadata opamp-instance-uid is %q", got)
	}
	hears(t, ws, coder.MessageBinary, "\x00hello") // the server may speak first
	long := string(fromAgent(1, strings.Repeat("x", 100))) + strings.Repeat("\x6a\x01y", 50_000)
	for _, m := range []string{"\x0a\x01x", "", "\x0a\x00", long} {
		say(t, ws, coder.MessageBinary, "\x00"+m)
		hears(t, ws, coder.MessageBinary, "\x00"+m)
	}
	say(t, ws, coder.MessageBinary, "\x0a\x01x", "") // of an agent from before there were headers
	hears(t, ws, coder.MessageBinary, "\x00\x0a\x01x", "\x00")
	w, err := ws.Writer(t.Context(), coder.MessageBinary)
	for i := 0; i < len(long) && err == nil; i += 5000 {
		_, err = io.WriteString(w, ("\x00" + long)[i:min(i+5000, len(long)+1)])
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	hears(t, ws, coder.MessageBinary, "\x00"+long)
}

// TestAgentsMistakes: each closes the WebSocket with a code that says so, and the agent
// gets the error as a message before.
func TestAgentsMistakes(t *testing.T) {
	_, address := serveAgents(t, parts.Echo, func(c *Config) { c.Limits.MessageBytes = 1000 })
	others := dialMessages(t, address, agentsPath, nil)
	for _, c := range []struct {
		name    string
		kind    coder.MessageType
		message string
		code    int
		reason  string
	}{
		{"text", coder.MessageText, "\x00", 1003, "BAD_REQUEST: "},
		{"another header", coder.MessageBinary, "\x01\x0a\x00", 4003, "BAD_REQUEST: "},
		{"a header that is cut off", coder.MessageBinary, "\xff", 4003, "BAD_REQUEST: "},
		{"large", coder.MessageBinary, "\x00" + strings.Repeat("x", 1001), 1009, "REQUEST_TOO_LARGE: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			ws := dialMessages(t, address, agentsPath, nil)
			say(t, ws, c.kind, c.message)
			_, m, err := ws.Read(t.Context())
			if err != nil || !bytes.HasPrefix(m, []byte("\x00\x12")) || !strings.Contains(string(m), c.reason) {
				t.Errorf("%q, %v; want an error_response with %q", m, err, c.reason)
			}
			closes(t, ws, c.code, c.reason)
		})
	}
	full := "\x00" + strings.Repeat("\x6a\x00", 500)
	say(t, others, coder.MessageBinary, full)
	hears(t, others, coder.MessageBinary, full)
}

// TestAgentIsRefusedBeforeTheUpgrade: there it heeds a status and Retry-After.
func TestAgentIsRefusedBeforeTheUpgrade(t *testing.T) {
	down := listen(t, "127.0.0.1:0")
	_ = down.Close()
	for _, c := range []struct {
		name   string
		change func(*Config)
		begin  func(s *Server)
		code   int
		reason report.Reason
	}{
		{"draining", nil, func(s *Server) { s.refusing.Store(true) }, 503, report.ReasonDraining},
		{"nobody", func(c *Config) {
			c.Authenticator = authenticator(func(context.Context, string, Peer, metadata.MD) (*Identity, error) {
				return nil, status.Error(codes.Unauthenticated, "who are you?")
			})
		}, nil, 401, report.ReasonUnauthenticated},
		{"everybody's limit", func(c *Config) { c.Limits.Calls = 1 }, nil, 503, report.ReasonLimitExceeded},
		{"the client's limit", func(c *Config) { c.Limits.Address.Calls = 1 }, nil, 429, report.ReasonLimitExceeded},
		{"no backend", func(c *Config) { c.Backend.Target = down.Addr().String() }, nil, 503, report.ReasonUpstreamUnreachable},
		{"another method", func(c *Config) { c.AllowMethods = []string{"a.B/*"} }, nil, 404, report.ReasonNoRoute},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, address := serveAgents(t, parts.Echo, c.change)
			if c.begin != nil {
				c.begin(s)
			}
			if c.reason == report.ReasonLimitExceeded {
				dialMessages(t, address, agentsPath, nil)
			}
			upgrade(t, address, nil).refusedAs(t, c.code, c.reason)
		})
	}
}

// TestAgentLeavesBeforeTheUpgrade: its call ends.
func TestAgentLeavesBeforeTheUpgrade(t *testing.T) {
	asked, obs := make(chan struct{}), newObserver()
	_, address := serveAgents(t, parts.Echo, func(c *Config) {
		c.Observer = obs
		c.Authenticator = authenticator(func(ctx context.Context, _ string, _ Peer, _ metadata.MD) (*Identity, error) {
			close(asked)
			<-ctx.Done()
			return nil, ctx.Err()
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	dialed := make(chan error, 1)
	go func() {
		_, _, err := coder.Dial(ctx, "ws://"+address+agentsPath, nil)
		dialed <- err
	}()
	await(t, "the Authenticator", asked)
	cancel()
	if err := await(t, "the client's end", dialed); err == nil {
		t.Error("the WebSocket opened")
	}
	if end := await(t, "the call's end", obs.ended); end.Reason != report.ReasonClientGone {
		t.Errorf("the call ended with %q, want %s", end.Reason, report.ReasonClientGone)
	}
}

// TestBadHandshakeOfAnAgent: the backend's call ends with it.
func TestBadHandshakeOfAnAgent(t *testing.T) {
	obs := newObserver()
	_, address := serveAgents(t, parts.Echo, func(c *Config) { c.Observer = obs })
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+agentsPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}}
	if got := do(t, r); got.code != 400 {
		t.Errorf("%+v, want 400", got)
	}
	if end := await(t, "the call's end", obs.ended); end.Reason != report.ReasonBadRequest {
		t.Errorf("the call ended with %q, want %s", end.Reason, report.ReasonBadRequest)
	}
}

// TestBackendEndsAnAgentsCall: its status is in the close frame, and in a message.
func TestBackendEndsAnAgentsCall(t *testing.T) {
	_, address := serveAgents(t, func(ss grpc.ServerStream) error {
		var m []byte
		if err := ss.RecvMsg(&m); err != nil || len(m) == 0 {
			return err
		}
		return status.Error(codes.Unavailable, "later")
	}, nil)
	ws := dialMessages(t, address, agentsPath, nil)
	say(t, ws, coder.MessageBinary, "\x00\x0a\x00")
	failure := codec.OpAMPError{Type: codec.OpAMPUnavailable, Message: "UNAVAILABLE: later", Retry: opamp.Retry}
	hears(t, ws, coder.MessageBinary, "\x00"+string(failure.AppendTo(nil, "")))
	closes(t, ws, 4014, "UNAVAILABLE: later")
	ws = dialMessages(t, address, agentsPath, nil)
	say(t, ws, coder.MessageBinary, "\x00")
	closes(t, ws, 1000, "")
}

func TestAgentsDrain(t *testing.T) {
	s, address := serveAgents(t, parts.Hold, nil)
	ws := dialMessages(t, address, agentsPath, nil)
	say(t, ws, coder.MessageBinary, "\x00")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- s.Shutdown(ctx) }()
	if _, m, err := ws.Read(t.Context()); err != nil || !strings.Contains(string(m), "DRAINING: ") {
		t.Errorf("%q, %v; want an error_response with DRAINING", m, err)
	}
	closes(t, ws, 1001, "DRAINING: ")
	if err := await(t, "the drain", drained); err != nil {
		t.Error(err)
	}
}

func TestMistakesOfAgentRoutes(t *testing.T) {
	for key, change := range map[string]func(*MessageRoute){
		"message.poll_method is no method":             func(m *MessageRoute) { m.PollMethod = "Poll" },
		"message.poll_method is no method: ":           func(m *MessageRoute) { m.PollMethod = "a.B/*" },
		"message.poll_method is for the framing opamp": func(m *MessageRoute) { m.Framing, m.PollMethod = FramingProtobuf, "a.B/C" },
		"message.path can't name the method":           func(m *MessageRoute) { m.Path, m.Method = "/ws/{service}/{method}", "" },
		"message.first_message is a text message":      func(m *MessageRoute) { m.FirstMessage = "authorization" },
		"message.half_close is a text message":         func(m *MessageRoute) { m.HalfClose = "bye" },
		"message.last_message is a text message":       func(m *MessageRoute) { m.LastStatus = true },
	} {
		cfg := Config{Backend: Backend{Target: "localhost:1"}, Routes: chat(func(r *Route) {
			r.Message.Framing = FramingOpAMP
			change(r.Message)
		})}
		if _, err := newRoutes(&cfg); err == nil || !strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want only %s", err, key)
		}
	}
}

// do makes a request.
func do(t *testing.T, r *http.Request) answer {
	t.Helper()
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Error(err)
		return answer{}
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		t.Error(err)
	}
	return answer{got.StatusCode, got.Header, string(body)}
}

// newPoll returns a poll with a body. The fields are names and values in turn.
func newPoll(t *testing.T, address string, body []byte, fields ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+agentsPath, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", opamp.ContentType)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	return r
}

// polled sends a poll, and checks the reply.
func polled(t *testing.T, r *http.Request, want []byte) {
	t.Helper()
	got := do(t, r)
	if got.code != 200 || got.body != string(want) || got.header.Get("Content-Type") != opamp.ContentType {
		t.Errorf("%d %q as %q, want 200 %q", got.code, got.body, got.header.Get("Content-Type"), want)
	}
}

// TestPollsByUnaryMethod: a poll is one call, and nothing is kept.
func TestPollsByUnaryMethod(t *testing.T) {
	s, address := serveAgents(t, func(ss grpc.ServerStream) error {
		var m []byte
		if err := ss.RecvMsg(&m); err != nil {
			return err
		}
		if name, _ := grpc.MethodFromServerStream(ss); name != pollsMethod {
			return status.Error(codes.Internal, "called "+name)
		}
		switch {
		case bytes.Contains(m, []byte("fail")):
			return status.Error(codes.Unavailable, "later")
		case bytes.Contains(m, []byte("nothing")):
			return nil
		case bytes.Contains(m, []byte("packed")):
			if err := grpc.SetSendCompressor(ss.Context(), "gzip"); err != nil {
				return err
			}
			noise := make([]byte, 8<<10) // it stays large enough for a buffer of the pool
			_, _ = rand.Read(noise)      // never fails
			m = append(m, noise...)
		}
		return ss.SendMsg(m)
	}, byUnaryPolls)
	pool := &parts.CountingPool{BufferPool: s.account.Pool}
	s.account.Pool = pool
	m := fromAgent(1, "hello")
	polled(t, newPoll(t, address, m), m)
	polled(t, newPoll(t, address, parts.Gzipped(m), "Content-Encoding", "gzip", "OpAMP-Instance-UID", agentID(1).String()), m)
	if got := do(t, newPoll(t, address, fromAgent(1, "packed"), "Accept-Encoding", "gzip")); got.code != 200 || got.header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%+v, want 200 in gzip", got)
	}
	got := do(t, newPoll(t, address, fromAgent(1, "fail")))
	if want := `{"@status":{"code":14,"status":"UNAVAILABLE","message":"later"}}` + "\n"; got.code != 503 || got.body != want || got.header.Get("Retry-After") != "30" {
		t.Errorf("%+v, want 503 and %s", got, want)
	}
	do(t, newPoll(t, address, fromAgent(1, "nothing"))).refusedAs(t, 501, report.ReasonBadCardinality)
	poll(t, func() string { // a call ends a moment after its answer
		if n := s.RunningCalls() + s.polls.Sessions(); n != 0 {
			return fmt.Sprintf("%d calls or sessions are left", n)
		}
		if n := pool.Out.Load(); n != 0 {
			return fmt.Sprintf("%d buffers of messages are out", n)
		}
		return ""
	})
}

// TestBadPolls: a precise status for each, and the backend gets none of them.
func TestBadPolls(t *testing.T) {
	for name, change := range map[string]func(*Config){"unary": byUnaryPolls, "session": func(*Config) {}} {
		t.Run(name, func(t *testing.T) {
			_, address := serveAgents(t, func(grpc.ServerStream) error {
				t.Error("the backend was called")
				return nil
			}, func(c *Config) {
				c.Limits.MessageBytes = 1000
				change(c)
			})
			m := fromAgent(1, "hello")
			large := append(m, strings.Repeat("\x6a\x00", 500)...)
			for _, c := range []struct {
				name   string
				body   []byte
				fields []string
				code   int
				reason report.Reason
			}{
				{"no message", []byte("hello"), nil, 400, report.ReasonBadRequest},
				{"empty", nil, nil, 400, report.ReasonBadRequest},
				{"nobody", []byte("\x10\x01"), nil, 400, report.ReasonBadRequest},
				{"large", large, nil, 413, report.ReasonRequestTooLarge},
				{"large once unpacked", parts.Gzipped(large), []string{"Content-Encoding", "gzip"}, 413, report.ReasonRequestTooLarge},
				{"not gzip", m, []string{"Content-Encoding", "gzip"}, 400, report.ReasonBadRequest},
				{"another coding", m, []string{"Content-Encoding", "br"}, 415, report.ReasonUnsupportedEncoding},
			} {
				t.Run(c.name, func(t *testing.T) {
					do(t, newPoll(t, address, c.body, c.fields...)).refusedAs(t, c.code, c.reason)
				})
			}
			if got := do(t, newPoll(t, address, m, "Content-Type", "application/json")); got.code != 415 || got.header.Get("Accept-Post") != opamp.ContentType {
				t.Errorf("%+v, want 415 with Accept-Post", got)
			}
			r := newPoll(t, address, m)
			r.Method = http.MethodPut
			if got := do(t, r); got.code != 405 || got.header.Get("Allow") != "GET, POST" {
				t.Errorf("%+v, want 405 with Allow", got)
			}
			r = newPoll(t, address, nil)
			r.Method, r.Body = http.MethodGet, nil
			if got := do(t, r); got.code != 426 {
				t.Errorf("%+v, want 426", got)
			}
		})
	}
}
