package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestListenersHaveLimitsOfTheirOwn: one that is full leaves the other alone,
// and a connection too many is told which key it was.
func TestListenersHaveLimitsOfTheirOwn(t *testing.T) {
	obs := newObserver()
	s := newServer(t, Config{Backend: nowhere, Observer: obs})
	full := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{Limits: Quota{Connections: 1}})
	free := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{})
	var d net.Dialer
	held, err := d.DialContext(within(t, patience), "tcp", full)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	wantTooMany(t, full, "", report.KeyListenerLimits+"connections")
	if r := await(t, "the refusal", obs.refused); r.Key != report.KeyListenerLimits+"connections" {
		t.Errorf("the Observer is told of %+v", r)
	}
	const get = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
	if answers := exchange(t, free, get); len(answers) != 1 || answers[0].StatusCode != http.StatusNotFound {
		t.Errorf("the other listener answers %+v", answers)
	}
	_ = held.Close()
	await(t, "the connection's end", obs.conns)
	deadline := time.Now().Add(patience)
	for answers := exchange(t, full, get); len(answers) != 1 || answers[0].StatusCode != http.StatusNotFound; answers = exchange(t, full, get) {
		if time.Now().After(deadline) {
			t.Fatalf("with a place free again it answers %+v", answers)
		}
	}
}

// wantTooMany wants a connection to be refused with an explanation.
func wantTooMany(t *testing.T, address, first, key string) {
	t.Helper()
	answers := exchange(t, address, first)
	if len(answers) != 1 || answers[0].StatusCode != http.StatusServiceUnavailable || answers[0].Header.Get("Retry-After") == "" {
		t.Fatalf("got %+v, want one 503 that says when to come back", answers)
	}
	if body, _ := io.ReadAll(answers[0].Body); !strings.Contains(string(body), key) { // it was read whole before
		t.Errorf("the answer %q doesn't name %s", body, key)
	}
}

// TestConnectionsCountWithTheAddressOfTheirHeader, and not with the balancer's.
func TestConnectionsCountWithTheAddressOfTheirHeader(t *testing.T) {
	const header = "PROXY TCP4 203.0.113.9 127.0.0.1 4660 80\r\n"
	obs := &connObserver{anObserver: newObserver()}
	s := newServer(t, Config{Backend: nowhere, Observer: obs, Limits: Limits{Address: Quota{Connections: 1}}})
	address := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	var d net.Dialer
	for _, client := range []string{"203.0.113.9", "203.0.113.10"} { // both come from one peer
		conn, err := d.DialContext(within(t, patience), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, strings.Replace(header, "203.0.113.9", client, 1)+"GET / HTTP/1.1\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	poll(t, func() string {
		if n := obs.began.Load(); n < 2 {
			return fmt.Sprintf("%d connections are counted with their clients' addresses, want 2", n)
		}
		return ""
	})
	wantTooMany(t, address, header, report.KeyAddressLimits+"connections")
	if r := await(t, "the refusal", obs.refused); r.Key != report.KeyAddressLimits+"connections" || r.Peer != "203.0.113.9:4660" {
		t.Errorf("the Observer is told of %+v", r)
	}
}

// TestTLSHandshakesOverTheLimit end before they cost anything.
func TestTLSHandshakesOverTheLimit(t *testing.T) {
	obs := newObserver()
	s := newServer(t, Config{Backend: nowhere, Observer: obs})
	address := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{TLS: new(tls.Config), Limits: Quota{HandshakesPerSecond: 1}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for len(obs.refused) == 0 {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience)) // it is open
		if tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx) == nil {
			t.Fatal("a handshake without any certificate succeeds")
		}
		_ = conn.Close() // it is of no use
	}
	if r := await(t, "the refusal", obs.refused); r.Key != report.KeyListenerLimits+"handshakes_per_second" {
		t.Errorf("the Observer is told of %+v", r)
	}
}

// TestRefusedCallsOpenWebSocketsToo: what is wrong with a call is told after
// the upgrade, which counts all the same.
func TestRefusedCallsOpenWebSocketsToo(t *testing.T) {
	obs := newObserver()
	s := newServer(t, Config{Backend: nowhere, Observer: obs, Limits: Limits{HandshakesPerSecond: 1}})
	address := serve(t, s)
	ctx := within(t, patience)
	for len(obs.refused) == 0 && ctx.Err() == nil {
		ws, _, err := websocket.Dial(ctx, "ws://"+address+testMethod, &websocket.DialOptions{
			Subprotocols: []string{"grpc-websockets"}, HTTPHeader: http.Header{"Grpc-Timeout": {"no time"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = ws.CloseNow() // its time is over
	}
	if r := await(t, "the refusal", obs.refused); r.Key != report.KeyHandshakes {
		t.Errorf("the Observer is told of %+v", r)
	}
}

// TestCallsThatAreTriedOutGoOn whole, also those that limits would end when
// they have begun, and each is told of once.
func TestCallsThatAreTriedOutGoOn(t *testing.T) {
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}, Observer: obs, TryLimits: true, Limits: Limits{DecompressedPerSecond: 1}})
	cc := dial(t, serve(t, s))
	for i := range 3 {
		stream := open(within(t, patience), t, cc, testMethod, grpc.UseCompressor("gzip"))
		for range 5 {
			if err := stream.SendMsg(pattern(100)); err != nil {
				t.Fatal(err)
			}
			if err := stream.RecvMsg(new([]byte)); err != nil {
				t.Fatalf("call %d: %v", i, err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
			t.Errorf("call %d ended with %v", i, err)
		}
		await(t, "the call's end", obs.ended)
		if n := len(obs.refused); n != 1 {
			t.Errorf("of call %d the Observer is told %d times, want once", i, n)
		}
		for len(obs.refused) > 0 {
			<-obs.refused
		}
	}
}

// A call is judged at its admission. It may have begun long before: culvert may
// have been stopped in between.
func TestCallThatBeganLongAgoIsntOneTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{quotas: quota.New(Quota{}, Quota{CallsPerSecond: 20000}, false, nil)}
		began := time.Now()
		<-time.After(3 * time.Second)
		for i, begin := range []time.Time{time.Now(), began} {
			c := &call{caller: caller{s: s}, decision: decision{Method: "/a/b"}, info: &report.CallInfo{Begin: begin}, watched: watched{held: memory.New(1, 0).NewEntry()}}
			c.use = s.quotas.Call(quota.NewListenerScope(Quota{}), nil, "192.0.2.1:1", nil)
			if err := c.admit(t.Context()); err != nil {
				t.Errorf("call %d of 20000 within a second: %v", i+1, err)
			}
		}
	})
}
