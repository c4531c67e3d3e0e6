package bridge

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestWithoutMemory: where its address has all the memory there is, a client that is
// connected is told so in its call's own protocol, and a new connection gets one answer.
func TestWithoutMemory(t *testing.T) {
	const (
		grpcWeb   = "POST /a.B/C HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web+proto\r\ncontent-length: 0\r\n\r\n"
		upgrade   = "GET /a.B/C HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: "
		webSocket = upgrade + "grpc-websockets\r\n\r\n"
		tunnel    = upgrade + tunnelName + "\r\n\r\n"
		room      = 1 << 20
	)
	obs := newObserver()
	s := newServer(t, Config{Backend: refusing, Observer: obs, Memory: room})
	address := serve(t, s)
	use := s.policy.Load().quotas.Call(s.edge.Own().Scope(), nil, address, nil)
	if err := use.Begin(""); err != nil {
		t.Fatal(err)
	}
	defer use.End()
	for _, row := range []struct {
		name  string
		spent bool
		ask   string
		want  int
	}{
		{"a WebSocket while there is some", false, webSocket, http.StatusSwitchingProtocols},
		{"a tunnel while there is some", false, tunnel, http.StatusSwitchingProtocols},
		{"a call without", true, grpcWeb, http.StatusOK}, // the status is in its trailers
		{"a WebSocket without", true, webSocket, http.StatusSwitchingProtocols},
		{"a connection without", true, "", http.StatusServiceUnavailable},
	} {
		t.Run(row.name, func(t *testing.T) {
			connected := row.ask != ""
			others := s.account.NewEntry()
			others.Own(use.Memory())
			defer others.Settle()
			spend := func() {
				if row.spent {
					others.Add(memory.Fixed, room)
				}
			}
			if !connected {
				spend()
			}
			conn, err := (&net.Dialer{}).DialContext(within(t, patience), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience)) // it is open
			from := bufio.NewReader(conn)
			ask := func(request string) *http.Response {
				if _, err := io.WriteString(conn, request); err != nil {
					t.Fatal(err)
				}
				res, err := http.ReadResponse(from, nil)
				if err != nil {
					t.Fatal(err)
				}
				return res
			}
			if connected { // it is accepted once a call was answered on it
				before := ask(grpcWeb)
				_, _ = io.Copy(io.Discard, before.Body) // the next answer shows if it failed
				_ = before.Body.Close()                 // as above
				spend()
			}
			res := ask(row.ask)
			defer res.Body.Close()
			if res.StatusCode != row.want {
				t.Fatalf("answered %d, want %d", res.StatusCode, row.want)
			}
			if row.want == http.StatusServiceUnavailable {
				body, _ := io.ReadAll(res.Body) // what came is judged
				if res.Header.Get("Retry-After") != "5" || !strings.Contains(string(body), report.KeyMemory) {
					t.Errorf("the answer %q, Retry-After %q, doesn't name %s or when to come back", body, res.Header.Get("Retry-After"), report.KeyMemory)
				}
			}
			if !row.spent {
				return
			}
			if r := await(t, "the refusal", obs.refused); r.Key != report.KeyMemory || r.Reason != report.ReasonLimitExceeded || r.Peer == "" {
				t.Errorf("the Observer is told of %+v", r)
			}
		})
	}
}

// TestIdleConnectionsMakeRoom: where connections without calls have all the memory
// there is, they end for the call of another address. One that has a call doesn't.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	const room = 2 << 20
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}, Observer: obs, Memory: room, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	address := serve(t, s)
	ctx := within(t, patience)
	speak := func(stream grpc.ClientStream) {
		t.Helper()
		if err := stream.SendMsg([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(new([]byte)); err != nil {
			t.Fatal(err)
		}
	}
	cc := dial(t, address)
	first := open(metadata.AppendToOutgoingContext(ctx, "x-forwarded-for", "192.0.2.1"), t, cc, testMethod)
	speak(first)

	const most = room / 4 * 3
	idle := 0
	for ; s.account.Held()+memory.ConnBytes <= most; idle++ {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		poll(t, func() string {
			if open := s.edge.Open(); open < int64(idle)+2 {
				return fmt.Sprintf("%d connections are open", open)
			}
			return ""
		})
	}
	if got := len(s.edge.Idle(nil)); got != idle {
		t.Errorf("%d connections may be ended, want the %d without calls", got, idle)
	}
	second := open(metadata.AppendToOutgoingContext(ctx, "x-forwarded-for", "192.0.2.2"), t, cc, testMethod)
	speak(second)
	speak(first)
	if c := await(t, "a connection's end", obs.conns); c.Ended != report.EndedIdle {
		t.Errorf("a connection ended as %q, want %q", c.Ended, report.EndedIdle)
	}
	if got := s.registry.evicted.Load(); got != 0 {
		t.Errorf("%d calls were ended", got)
	}
}

// TestUploadFarOverTheBoundEnds: where an address holds an eighth more than may be, its
// calls that send more end, and their clients are told.
func TestUploadFarOverTheBoundEnds(t *testing.T) {
	const room = 1 << 20
	silent := func(ss grpc.ServerStream) error { <-ss.Context().Done(); return nil }
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, silent)}, Limits: Limits{BufferedBytes: room, MessageBytes: room}})
	address := serve(t, s)
	use := s.policy.Load().quotas.Call(s.edge.Own().Scope(), nil, address, nil)
	if err := use.Begin(""); err != nil {
		t.Fatal(err)
	}
	defer use.End()
	others := s.account.NewEntry()
	others.Own(use.Memory())
	defer others.Settle()

	stream := open(within(t, patience), t, dial(t, address), testMethod)
	poll(t, func() string {
		if s.RunningCalls() == 0 {
			return "the call hasn't begun"
		}
		return ""
	})
	others.Add(memory.Small, room*9/8)
	if err := stream.SendMsg(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	err := stream.RecvMsg(new([]byte))
	if reasonFor(err) != report.ReasonLimitExceeded || !strings.Contains(err.Error(), report.KeyBufferedBytes) {
		t.Errorf("the call ended with %v, want %s that names %s", err, report.ReasonLimitExceeded, report.KeyBufferedBytes)
	}
	if got := s.Snapshot().Evicted; got != 1 {
		t.Errorf("%d calls are counted as ended for others, want 1", got)
	}
}

// TestEvictedCallWaitsForNobody: a client that has no window for the end of its call doesn't
// hold it up, when it ends for others.
func TestEvictedCallWaitsForNobody(t *testing.T) {
	silent := func(ss grpc.ServerStream) error { <-ss.Context().Done(); return nil }
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, silent)}, Observer: obs})
	conn, err := (&net.Dialer{}).DialContext(within(t, patience), "tcp", serve(t, s))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var block, request bytes.Buffer
	fields := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", testMethod}, {":authority", "localhost"}, {"content-type", "application/grpc-web+proto"}} {
		_ = fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // to memory
	}
	request.WriteString(http2.ClientPreface)
	client := http2.NewFramer(&request, nil)
	_ = client.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})                           // to memory
	_ = client.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}) // to memory
	if _, err := conn.Write(request.Bytes()); err != nil {
		t.Fatal(err)
	}
	var stuck *watched
	poll(t, func() string {
		s.registry.mu.Lock()
		defer s.registry.mu.Unlock()
		for _, r := range s.registry.calls {
			stuck = r
		}
		if stuck == nil {
			return "there is no call"
		}
		return ""
	})
	began := time.Now()
	stuck.Evict()
	info := await(t, "the call's end", obs.ended)
	if took := time.Since(began); took >= closeTimeout || info.Reason == "" {
		t.Errorf("it ended after %v with %q, want in about %v", took, info.Reason, evictedGrace)
	}
}

// A keeper is an Observer that keeps keptBytes for each call.
type keeper struct{ *anObserver }

const keptBytes = 4 << 20 // more than the window of the connection to the backend

func (o keeper) CallBegan(ctx context.Context, c *report.CallInfo, md metadata.MD) report.CallObserver {
	c.Kept += keptBytes
	return o.anObserver.CallBegan(ctx, c, md)
}

// TestObserversMemoryCounts as the call's, until its end.
func TestObserversMemoryCounts(t *testing.T) {
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}, Observer: keeper{newObserver()}})
	stream := open(within(t, patience), t, dial(t, serve(t, s)), testMethod)
	wantCall(t, s, "while it runs", func(c OpenCall) bool {
		return c.HeldBytes >= memory.CallBytes+keptBytes && c.HeldBytes < memory.CallBytes+2*keptBytes
	})
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	poll(t, func() string {
		if now, _ := s.Memory(0); now.ClientBytes >= keptBytes {
			return fmt.Sprintf("%d bytes are held after its end", now.ClientBytes)
		}
		return ""
	})
}
