package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coder "github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// greets says to each client who it is, and then echoes.
func greets(ss grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(ss.Context())
	if err := ss.SendMsg([]byte("hello " + strings.Join(md["x-session"], ","))); err != nil {
		return err
	}
	return parts.Echo(ss)
}

// TestManyBareSessions: hundreds of WebSockets at one path, all open at once, of which each
// hears its own messages in their order and nothing else.
func TestManyBareSessions(t *testing.T) {
	const sessions, turns = 300, 20
	obs := newObserver()
	_, address := serveChat(t, greets, func(c *Config) {
		c.Observer = obs
		c.Routes = chat(func(r *Route) { r.Message.HalfClose = "bye" })
	})
	session := func(i int, open *sync.WaitGroup) error {
		own := fmt.Sprintf("session-%d", i)
		ws, _, err := coder.Dial(t.Context(), "ws://"+address+"/ws/chat", &coder.DialOptions{HTTPHeader: http.Header{"X-Session": {own}}})
		open.Done()
		if err != nil {
			return err
		}
		defer ws.CloseNow() //nolint:errcheck // closed, if all went well
		open.Wait()
		for turn := range turns {
			if err := ws.Write(t.Context(), coder.MessageBinary, fmt.Appendf(nil, "%s/%d", own, turn)); err != nil {
				return err
			}
		}
		if err := ws.Write(t.Context(), coder.MessageText, []byte("bye")); err != nil {
			return err
		}
		for turn := -1; turn < turns; turn++ {
			want := fmt.Sprintf("%s/%d", own, turn)
			if turn < 0 {
				want = "hello " + own
			}
			if _, m, err := ws.Read(t.Context()); err != nil || string(m) != want {
				return fmt.Errorf("%s: %q, %w; want %q", own, m, err, want)
			}
		}
		if _, m, err := ws.Read(t.Context()); coder.CloseStatus(err) != coder.StatusNormalClosure {
			return fmt.Errorf("%s: %q, %w at its end", own, m, err)
		}
		return nil
	}
	var open sync.WaitGroup
	open.Add(sessions)
	ended := make(chan error, sessions)
	for i := range sessions {
		go func() { ended <- session(i, &open) }()
	}
	for range sessions {
		if err := await(t, "a session's end", ended); err != nil {
			t.Error(err)
		}
	}
	for range sessions {
		if end := await(t, "a call's end", obs.ended); end.Code != codes.OK || end.Route != "chat" || end.Method != "/chat.v1.Chat/Talk" || end.Transport != messageName || end.MessagesIn != turns || end.MessagesOut != turns+1 {
			t.Errorf("a call ended as %+v", end)
		}
	}
}

// TestBareMonologues: requests that get no response, and many responses to one request.
func TestBareMonologues(t *testing.T) {
	_, address := serveChat(t, func(ss grpc.ServerStream) error {
		var m []byte
		heard := 0
		for ; ; heard++ {
			if err := ss.RecvMsg(&m); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return err
			}
		}
		for i := range heard {
			if err := ss.SendMsg(fmt.Append(nil, i)); err != nil {
				return err
			}
		}
		return nil
	}, func(c *Config) {
		c.Routes = chat(func(r *Route) { r.Message.HalfClose = "bye" })
	})
	ws := dialMessages(t, address, "/ws/chat", nil)
	for range 1000 {
		say(t, ws, coder.MessageBinary, "no answer to this one")
	}
	say(t, ws, coder.MessageText, "bye")
	for i := range 1000 {
		hears(t, ws, coder.MessageBinary, fmt.Sprint(i))
	}
	closes(t, ws, 1000, "")
}

// bareBubble serves a route of messages in a bubble, and returns how to connect.
func bareBubble(t *testing.T, handle func(grpc.ServerStream) error, change func(*Config)) (connect func(context.Context) (net.Conn, error)) {
	t.Helper()
	backend, front := parts.ListenPipe(t), parts.ListenPipe(t)
	stop := parts.ServeBackend(t, backend, handle)
	cfg := Config{Routes: chat(nil), Backend: Backend{
		Target: "passthrough:///chat", Dial: func(ctx context.Context, _ string) (net.Conn, error) { return backend.DialContext(ctx) },
	}}
	if change != nil {
		change(&cfg)
	}
	s := newServer(t, cfg)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(front) }) // it always returns the error of a closed server
	t.Cleanup(func() {
		_ = s.Close()
		_ = front.Close()
		serving.Wait()
		stop()
	})
	return front.DialContext
}

// dialBubble opens a WebSocket in a bubble.
func dialBubble(t *testing.T, connect func(context.Context) (net.Conn, error), o *coder.DialOptions) *coder.Conn {
	t.Helper()
	o.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return connect(ctx) }}}
	ws, _, err := coder.Dial(t.Context(), "ws://culvert/ws/chat", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}

// TestBareHeartBeats: a client that says nothing sees culvert's pings and the backend's own
// heart-beats, and culvert answers its pings.
func TestBareHeartBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every = 15 * time.Second
		connect := bareBubble(t, func(ss grpc.ServerStream) error {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-tick.C:
				case <-ss.Context().Done():
					return ss.Context().Err()
				}
				if err := ss.SendMsg(fmt.Append(nil, n)); err != nil {
					return err
				}
			}
		}, nil)
		pings := 0
		ws := dialBubble(t, connect, &coder.DialOptions{OnPingReceived: func(context.Context, []byte) bool { pings++; return true }})
		begun := time.Now()
		for n := range 240 {
			hears(t, ws, coder.MessageBinary, fmt.Sprint(n))
		}
		if took := time.Since(begun); took != time.Hour {
			t.Errorf("240 heart-beats took %v, want an hour", took)
		}
		if pings < 170 || pings > 180 {
			t.Errorf("%d pings in an hour, want one every %v", pings, pingInterval)
		}
		reading := ws.CloseRead(t.Context())
		if err := ws.Ping(t.Context()); err != nil {
			t.Errorf("a ping of the client: %v", err)
		}
		if err := ws.Close(coder.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
		<-reading.Done()
	})
}

// TestBareSilence: a client that answers no ping is gone. It is told so, in case it isn't.
func TestBareSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connect := bareBubble(t, parts.Hold, nil)
		conn, err := connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c := wstest.Open(t, conn, "/ws/chat", "")
		begun := time.Now()
		for {
			op, _, payload, err := c.Next()
			if err != nil {
				t.Fatal(err)
			}
			if op == wstest.Close {
				if code, text := int(payload[0])<<8|int(payload[1]), string(payload[2:]); code != 1001 || !strings.HasPrefix(text, "CLIENT_SILENT: ") {
					t.Errorf("closed with %d %q", code, text)
				}
				break
			}
		}
		if took := time.Since(begun); took != pingInterval+pingTimeout {
			t.Errorf("closed after %v, want %v", took, pingInterval+pingTimeout)
		}
	})
}

// TestBareDeadlines: the client's, the route's, and the route's limits on time.
func TestBareDeadlines(t *testing.T) {
	for name, c := range map[string]struct {
		header http.Header
		change func(*Route)
		code   int
		reason string
	}{
		"the client's":    {http.Header{"Grpc-Timeout": {"3S"}}, func(r *Route) { r.Timeout = time.Minute }, 4004, "DEADLINE_EXCEEDED: "},
		"the route's":     {http.Header{"Grpc-Timeout": {"3M"}}, func(r *Route) { r.Timeout = time.Minute }, 4004, "DEADLINE_EXCEEDED: "},
		"without another": {nil, func(r *Route) { r.Timeout = time.Minute }, 4004, "DEADLINE_EXCEEDED: "},
		"idle":            {nil, func(r *Route) { r.IdleTimeout = time.Minute }, 4014, "IDLE_TIMEOUT: "},
		"old":             {nil, func(r *Route) { r.MaxAge = time.Minute }, 4014, "MAX_AGE: "},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				connect := bareBubble(t, parts.Hold, func(cfg *Config) { cfg.Routes = chat(c.change) })
				ws := dialBubble(t, connect, &coder.DialOptions{HTTPHeader: c.header})
				begun, want := time.Now(), time.Minute
				if name == "the client's" {
					want = 3 * time.Second
				}
				closes(t, ws, c.code, c.reason)
				if took := time.Since(begun); took < want*9/10 || took > want*11/10+2*time.Second {
					t.Errorf("closed after %v, want %v", took, want)
				}
			})
		})
	}
}

// TestBareLimits: a session too many is closed with a code and a text that name the limit,
// and there is a place for another one when the first has ended.
func TestBareLimits(t *testing.T) {
	for key, change := range map[string]func(*Config){
		"limits.calls":                         func(c *Config) { c.Limits.Calls = 1 },
		"limits.calls_per_second":              func(c *Config) { c.Limits.CallsPerSecond = 1 },
		"limits.handshakes_per_second":         func(c *Config) { c.Limits.HandshakesPerSecond = 1 },
		"limits.address.calls":                 func(c *Config) { c.Limits.Address.Calls = 1 },
		"limits.address.handshakes_per_second": func(c *Config) { c.Limits.Address.HandshakesPerSecond = 1 },
		"limits.methods[].calls":               func(c *Config) { c.MethodLimits = []MethodQuota{{Pattern: "chat.v1.*/*", Calls: 1}} },
		"routes[].limits.calls":                func(c *Config) { c.Routes[0].Limits.Calls = 1 },
	} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			obs := newObserver()
			_, address := serveChat(t, greets, func(c *Config) { c.Observer = obs; change(c) })
			first := dialMessages(t, address, "/ws/chat", nil)
			hears(t, first, coder.MessageBinary, "hello ")
			told := refusal(t, dialMessages(t, address, "/ws/chat", nil))
			if told.Code != 4008 || !strings.HasPrefix(told.Reason, "LIMIT_EXCEEDED: ") || !strings.Contains(told.Reason, "("+key+")") {
				t.Errorf("closed with %d %q, want 4008 with %s", told.Code, told.Reason, key)
			}
			if r := await(t, "the refusal", obs.refused); r.Key != key || r.Detail != "/chat.v1.Chat/Talk" {
				t.Errorf("the Observer is told of %+v, want %s", r, key)
			}
			say(t, first, coder.MessageBinary, "still here")
			hears(t, first, coder.MessageBinary, "still here")
			if err := first.Close(coder.StatusNormalClosure, ""); err != nil {
				t.Fatal(err)
			}
			parts.Poll(t, func() string {
				ws := dialMessages(t, address, "/ws/chat", nil)
				defer ws.CloseNow() //nolint:errcheck // it has done its work
				if _, m, err := ws.Read(t.Context()); err != nil {
					return fmt.Sprintf("with a place free again, a session ends: %q, %v", m, err)
				}
				return ""
			})
		})
	}
}

// refusal reads to the close frame.
func refusal(t *testing.T, ws *coder.Conn) (told coder.CloseError) {
	t.Helper()
	for {
		if _, _, err := ws.Read(t.Context()); errors.As(err, &told) {
			return told
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestBareConnectionTooMany: its client is told before there is a WebSocket.
func TestBareConnectionTooMany(t *testing.T) {
	_, address := serveChat(t, greets, func(c *Config) { c.Limits.Connections = 1 })
	hears(t, dialMessages(t, address, "/ws/chat", nil), coder.MessageBinary, "hello ")
	wantTooMany(t, address, "GET /ws/chat HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"+
		"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", "limits.connections")
}

// TestBareOrigins: a route's own origins judge the pages that open its WebSockets.
func TestBareOrigins(t *testing.T) {
	const own, others = "https://app.example.com", "https://other.example.com"
	_, address := serveChat(t, greets, func(c *Config) {
		c.AllowOrigins = []string{others}
		c.Routes = append(chat(func(r *Route) { r.AllowOrigins = []string{own} }), chat(func(r *Route) {
			r.Name, r.Message.Path = "rest", "/ws/rest"
		})...)
	})
	for _, c := range []struct {
		path, origin string
		want         int
	}{
		{"/ws/chat", own, 101},
		{"/ws/chat", others, 403},
		{"/ws/rest", own, 403},
		{"/ws/rest", others, 101},
	} {
		ws, answer, err := coder.Dial(t.Context(), "ws://"+address+c.path, &coder.DialOptions{HTTPHeader: http.Header{"Origin": {c.origin}}})
		if answer == nil || answer.StatusCode != c.want {
			t.Errorf("%s from %s: %+v, %v; want %d", c.path, c.origin, answer, err, c.want)
		}
		if err == nil {
			_ = ws.CloseNow()
		}
	}
}
