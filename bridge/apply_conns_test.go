package bridge

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// wantEcho passes a message through a stream that is open.
func wantEcho(t testing.TB, what string, stream grpc.ClientStream) {
	t.Helper()
	if err := stream.SendMsg([]byte("still there?")); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if err := stream.RecvMsg(new([]byte)); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// TestApplyChangesNewConnections: a connection that is accepted after Apply, or a
// tunnel, is told the new limits of calls and headers, also in an http.Server of
// ConfigureHTTP. The calls of an open one go on, and it can begin more.
func TestApplyChangesNewConnections(t *testing.T) {
	cfg := Config{Backend: Backend{Target: startBackend(t, echo)}, Limits: Limits{HeaderBytes: 128 << 10}}
	s := newServer(t, cfg)
	l := Listener{Name: "a"}
	address := serveListener(t, s, listen(t, "127.0.0.1:0"), l)
	hs := new(http.Server)
	s.ConfigureHTTP(hs)
	embedded := parts.Serve(t, hs)
	old, inside := dial(t, address), dialTunnel(t, address, nil)
	streams := map[string]grpc.ClientStream{"a connection": holdOpen(t, old, testMethod), "a tunnel": holdOpen(t, inside, testMethod)}
	for _, c := range []struct {
		calls, ofListener, headers int
		want                       uint32 // calls
	}{{7, 0, 1 << 10, 7}, {9, 5, 1 << 10, 5}, {9, 0, 128 << 10, 9}} {
		cfg.Limits.CallsPerConnection, l.CallsPerConnection, cfg.Limits.HeaderBytes = c.calls, c.ofListener, c.headers
		apply(t, s, cfg, l)
		for where, of := range map[string]struct {
			conn net.Conn
			want uint32
		}{
			"a connection":              {tcpTo(t, address), c.want},
			"a tunnel":                  {tunnelTo(t, address), c.want},
			"a connection of their own": {tcpTo(t, embedded), uint32(c.calls)},
		} {
			settings := awaitFrame[*http2.SettingsFrame](t, framesOf(t, of.conn))
			calls, _ := settings.Value(http2.SettingMaxConcurrentStreams)
			headers, _ := settings.Value(http2.SettingMaxHeaderListSize)
			if calls != of.want || int(headers) != looseHeaderBytes(c.headers)+10*32 {
				t.Errorf("%s: %d calls and %d bytes of headers are announced for %+v", where, calls, headers, c)
			}
		}
		for where, stream := range streams {
			wantEcho(t, where+" that was open", stream)
		}
		if err := unary(within(t, patience), old, testMethod); err != nil {
			t.Errorf("a new call on the connection that was open: %v", err)
		}
	}
}

// TestApplyRaisesNoHeaderBytes beyond those of the start, which bound what a connection
// can send before it is judged.
func TestApplyRaisesNoHeaderBytes(t *testing.T) {
	cfg := Config{Backend: nowhere, Limits: Limits{HeaderBytes: 8 << 10}}
	s := newServer(t, cfg)
	for _, c := range []struct {
		bytes   int
		refused bool
	}{{8<<10 + 1, true}, {-1, true}, {0, true}, {1 << 10, false}, {8<<10 + 1, true}, {4 << 10, false}, {8 << 10, false}} {
		before := s.policy.Load()
		cfg.Limits.HeaderBytes = c.bytes
		err := s.Apply(cfg)
		if restart, ok := errors.AsType[*RestartError](err); ok != c.refused || ok && !slices.Equal(restart.Keys, []string{report.KeyHeaderBytes}) || (err != nil) != c.refused {
			t.Errorf("%d bytes: %v, want a RestartError: %v", c.bytes, err, c.refused)
		}
		if changed := s.policy.Load() != before; changed == c.refused {
			t.Errorf("%d bytes: the policy has changed: %v", c.bytes, changed)
		}
	}
}

// TestApplyLowersTheBoundOfHeaders of HTTP/1.1 to that of a Server that began with the
// lower limit, which answers 431. The bound rises again. So does that of net/http's HTTP/2.
func TestApplyLowersTheBoundOfHeaders(t *testing.T) {
	t.Parallel() // it waits for connections that close late
	const start, limit = 128 << 10, 8 << 10
	with := func(bytes int) Config {
		return Config{Backend: nowhere, StandardHTTP2: true, Limits: Limits{HeaderBytes: bytes}}
	}
	fresh, lowered, raised := newServer(t, with(limit)), newServer(t, with(start)), newServer(t, with(start))
	apply(t, lowered, with(limit))
	apply(t, raised, with(limit))
	apply(t, raised, with(start))
	at := map[string]string{"fresh": serve(t, fresh), "lowered": serve(t, lowered), "raised": serve(t, raised)}
	header := func(fields string) string {
		return "POST " + testMethod + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/grpc-web\r\nContent-Length: 5\r\n" + fields + "\r\n\x00\x00\x00\x00\x00"
	}
	for name, c := range map[string]struct {
		request string
		refused bool
	}{
		"little":         {header(""), false},
		"over the limit": {header("x-large: " + strings.Repeat("a", limit*3/2) + "\r\n"), false}, // it ends as a call
		"over twice it":  {header("x-large: " + strings.Repeat("a", limit*2+8<<10) + "\r\n"), true},
		"many fields":    {header(strings.Repeat("x: aaaaaa\r\n", 2500)), true},
		"a long path":    {"GET /" + strings.Repeat("a", limit*2+8<<10) + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", true},
	} {
		for which, address := range at {
			want := c.refused && which != "raised"
			answers := exchange(t, address, c.request)
			if len(answers) != 1 || !answers[0].Close {
				t.Fatalf("%s, %s: %d answers, or not the last", which, name, len(answers))
			}
			if code := answers[0].StatusCode; (code == http.StatusRequestHeaderFieldsTooLarge) != want {
				t.Errorf("%s, %s: answered with %d, want a 431: %v", which, name, code, want)
			}
		}
	}
	for which, want := range map[string]bool{"lowered": true, "raised": false} {
		ctx := metadata.AppendToOutgoingContext(within(t, patience), "x-large", strings.Repeat("a", 2*limit+400))
		err := unary(ctx, dial(t, at[which]), testMethod)
		if got := err != nil && strings.Contains(err.Error(), "server: 431 "); got != want {
			t.Errorf("%s, HTTP/2: %v, want a 431: %v", which, err, want)
		}
	}
}

// TestStandardHTTP2KeepsItsLimits: net/http's HTTP/2 asks nothing about a connection, so
// Apply refuses what it would have to know. A listener that isn't served yet can change.
func TestStandardHTTP2KeepsItsLimits(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*Limits, *Listener)
		refused []string
	}{
		"calls":        {func(l *Limits, _ *Listener) { l.CallsPerConnection = 7 }, []string{"limits.calls_per_connection"}},
		"slow":         {func(l *Limits, _ *Listener) { l.SlowConsumerTimeout = time.Minute }, []string{"limits.slow_consumer_timeout"}},
		"idle":         {func(l *Limits, _ *Listener) { l.ConnectionIdleTimeout = time.Hour }, []string{"limits.connection_idle_timeout"}},
		"age":          {func(l *Limits, _ *Listener) { l.ConnectionMaxAge = time.Hour }, nil}, // of requests
		"age for idle": {func(l *Limits, _ *Listener) { l.ConnectionMaxAge, l.ConnectionIdleTimeout = time.Hour, -1 }, []string{"limits.connection_idle_timeout", "limits.connection_max_age"}},
		"of a listener": {func(l *Limits, of *Listener) {
			l.CallsPerConnection, of.CallsPerConnection, of.TLS = 7, 7, new(tls.Config)
		}, []string{
			"limits.calls_per_connection", "listen[1].limits.calls_per_connection", "listen[1].tls",
		}},
		"headers": {func(l *Limits, _ *Listener) { l.HeaderBytes = 1 << 10 }, nil},
	} {
		cfg, l := Config{Backend: nowhere, StandardHTTP2: true}, Listener{Name: "a"}
		s := newServer(t, cfg)
		exchange(t, serveListener(t, s, listen(t, "127.0.0.1:0"), l), "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n") // it is served now
		c.change(&cfg.Limits, &l)
		err := s.Apply(cfg, Listener{Name: "not served"}, l)
		if restart, ok := errors.AsType[*RestartError](err); ok != (c.refused != nil) || ok && !slices.Equal(restart.Keys, c.refused) || !ok && err != nil {
			t.Errorf("%s: %v, want a RestartError of %q", name, err, c.refused)
		}
	}
	cfg := Config{Backend: nowhere, StandardHTTP2: true}
	s := newServer(t, cfg)
	apply(t, s, cfg, Listener{Name: "a", CallsPerConnection: 7})
	address := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{Name: "a"}) // it begins with the rules that wait for it
	if calls, _ := awaitFrame[*http2.SettingsFrame](t, framesOf(t, tcpTo(t, address))).Value(http2.SettingMaxConcurrentStreams); calls != 7 {
		t.Errorf("%d calls are announced, want 7", calls)
	}
	apply(t, s, cfg, Listener{Name: "a", CallsPerConnection: 7})
	if restart, ok := errors.AsType[*RestartError](s.Apply(cfg, Listener{Name: "a"})); !ok || len(restart.Keys) != 1 {
		t.Errorf("other calls than at the beginning of the listener: %v", restart)
	}
}

// TestApplyChangesHeadersOfBothSides: a limit that was lowered and raised again lets
// larger metadata through to the backend and back, also over HTTP/1.1. A lowered one
// judges the next call.
func TestApplyChangesHeadersOfBothSides(t *testing.T) {
	const small, large = 4 << 10, 256 << 10
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		if err := ss.SetHeader(metadata.Pairs("x-back", strings.Join(md["x-large"], ""))); err != nil {
			return err
		}
		return echo(ss)
	})
	cfg := Config{Backend: Backend{Target: backend}, Limits: Limits{HeaderBytes: large}}
	s := newServer(t, cfg)
	address := serve(t, s)
	running := holdOpen(t, dial(t, address), testMethod)
	native := func(bytes int) error {
		ctx := metadata.AppendToOutgoingContext(within(t, patience), "x-large", strings.Repeat("a", bytes))
		return unary(ctx, dial(t, address, grpc.WithMaxHeaderListSize(2*large)), testMethod)
	}
	web := func(bytes int) bool {
		answers := exchange(t, address, "POST "+testMethod+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/grpc-web\r\n"+
			"X-Large: "+strings.Repeat("a", bytes)+"\r\nContent-Length: 5\r\n\r\n\x00\x00\x00\x00\x00")
		if len(answers) != 1 {
			t.Fatalf("%d answers", len(answers))
		}
		body, err := io.ReadAll(answers[0].Body)
		if err != nil {
			t.Fatal(err)
		}
		return answers[0].StatusCode == http.StatusOK && strings.Contains(string(body), "grpc-status: 0")
	}
	for i, limit := range []int{small, large, small} {
		cfg.Limits.HeaderBytes = limit
		apply(t, s, cfg)
		if err := native(large / 2); (err == nil) != (limit == large) {
			t.Errorf("limit %d of %d: half of the large limit in a native call ends with %v", i, limit, err)
		}
		if ok := web(large / 2); ok != (limit == large) {
			t.Errorf("limit %d of %d: likewise over HTTP/1.1: it passes: %v", i, limit, ok)
		}
		if err := native(small / 2); err != nil {
			t.Errorf("limit %d of %d: a little metadata: %v", i, limit, err)
		}
		wantEcho(t, "the call that was open", running)
	}
}

// TestApplyChangesLifetimes: new connections end after the new times, and those that
// are open stay, whether the server began with a limit or without.
func TestApplyChangesLifetimes(t *testing.T) {
	for name, idle := range map[string]time.Duration{"an hour": time.Hour, "no limit": -1} {
		t.Run(name, func(t *testing.T) { applyChangesLifetimes(t, idle) })
	}
}

func applyChangesLifetimes(t *testing.T, idle time.Duration) {
	t.Helper()
	const request = "POST " + testMethod + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/grpc-web\r\nContent-Length: 5\r\n\r\n\x00\x00\x00\x00\x00"
	cfg := Config{Backend: Backend{Target: startBackend(t, echo)}, Limits: Limits{ConnectionIdleTimeout: idle}}
	s := newServer(t, cfg)
	address := serve(t, s)
	asks := func(c net.Conn, r *bufio.Reader) (closes bool) {
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body) // the connection is judged
		_ = res.Body.Close()                 // the connection is judged
		return res.Close
	}
	old := tcpTo(t, address)
	defer func() { _ = old.Close() }()            // the test is over
	_ = old.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
	reader := bufio.NewReader(old)
	asks(old, reader)
	stream := holdOpen(t, dial(t, address), testMethod)
	for name, change := range map[string]func(l *Limits){
		"idle": func(l *Limits) { l.ConnectionIdleTimeout = 300 * time.Millisecond },
		"age":  func(l *Limits) { l.ConnectionMaxAge = time.Nanosecond },
	} {
		now := cfg
		change(&now.Limits)
		apply(t, s, now)
		frames := framesOf(t, tcpTo(t, address))
		awaitFrame[*http2.GoAwayFrame](t, frames)
		young := tcpTo(t, address)
		_ = young.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
		fresh := bufio.NewReader(young)
		if closes := asks(young, fresh); closes != (name == "age") {
			t.Errorf("%s: the answer on a new connection of HTTP/1.1 announces its end: %v", name, closes)
		}
		if _, err := fresh.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: a new connection of HTTP/1.1 ends with %v", name, err)
		}
		_ = young.Close() // it is over
		if asks(old, reader) {
			t.Errorf("%s: the connection that was open ends, too", name)
		}
		wantEcho(t, name+": the call that was open", stream)
	}
	apply(t, s, cfg)
	young := tcpTo(t, address)
	defer func() { _ = young.Close() }()            // the test is over
	_ = young.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
	if asks(young, bufio.NewReader(young)) {
		t.Error("without a limit again, a new connection ends")
	}
}

// TestApplyChangesSlowConsumers: the next call has the new time, on an open connection,
// too.
func TestApplyChangesSlowConsumers(t *testing.T) {
	t.Parallel() // it waits for the limit
	cfg := Config{Backend: Backend{Target: startBackend(t, func(ss grpc.ServerStream) error {
		if err := ss.RecvMsg(new([]byte)); err != nil {
			return err
		}
		for ss.SendMsg(make([]byte, 64<<10)) == nil {
		}
		return ss.Context().Err()
	})}}
	obs := newObserver()
	cfg.Observer = obs
	s := newServer(t, cfg)
	address := serve(t, s)
	cc := dial(t, address, grpc.WithStaticStreamWindowSize(64<<10))
	slow := func() grpc.ClientStream {
		stream := open(within(t, 2*patience), t, cc, testMethod)
		if err := stream.SendMsg([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(new([]byte)); err != nil {
			t.Fatal(err)
		}
		return stream
	}
	before := slow()
	cfg.Limits.SlowConsumerTimeout = time.Second
	apply(t, s, cfg)
	slow()
	if end := await(t, "the end of the new call", obs.ended); end.Reason != report.ReasonSlowConsumer {
		t.Errorf("it ended for %v", end.Reason)
	}
	if err := before.RecvMsg(new([]byte)); err != nil {
		t.Errorf("the call that was open: %v", err)
	}
}

// TestApplyChangesPROXYHeaders: a connection that is accepted after Apply must begin
// with one, or must not. An open one goes on as it began.
func TestApplyChangesPROXYHeaders(t *testing.T) {
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		for ss.RecvMsg(new([]byte)) == nil {
			if err := ss.SendMsg([]byte(md.Get("x-forwarded-for")[0])); err != nil {
				return err
			}
		}
		return nil
	})
	cfg, l := Config{Backend: Backend{Target: backend}}, Listener{Name: "a", TrustedProxies: prefixes(t, "127.0.0.0/8")}
	s := newServer(t, cfg)
	address := serveListener(t, s, listen(t, "127.0.0.1:0"), l)
	with := func(header string) *grpc.ClientConn {
		return dial(t, address, grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			c := tcpTo(t, address)
			_, err := io.WriteString(c, header)
			return c, err
		}))
	}
	from := func(cc *grpc.ClientConn) string {
		var out []byte
		if err := cc.Invoke(within(t, patience), testMethod, []byte{}, &out); err != nil {
			return status.Code(err).String()
		}
		return string(out)
	}
	header := parts.PROXYHeader(t, "203.0.113.9:1000")
	plain := with("")
	if got := from(plain); got != "127.0.0.1" {
		t.Errorf("at first, the client is %s", got)
	}
	l.ProxyProtocol = prefixes(t, "127.0.0.0/8")
	apply(t, s, cfg, l)
	proxied := with(header)
	for what, c := range map[string]struct {
		cc   *grpc.ClientConn
		want string
	}{
		"a connection that was open": {plain, "127.0.0.1"},
		"one with the header":        {proxied, "203.0.113.9"},
		"one without":                {with(""), codes.Unavailable.String()},
	} {
		if got := from(c.cc); got != c.want {
			t.Errorf("%s, where a header is due: the client is %s, want %s", what, got, c.want)
		}
	}
	l.ProxyProtocol = nil
	apply(t, s, cfg, l)
	for what, c := range map[string]struct {
		cc   *grpc.ClientConn
		want string
	}{
		"a connection with the header that was open": {proxied, "203.0.113.9"},
		"one with the header":                        {with(header), codes.Unavailable.String()},
		"one without":                                {with(""), "127.0.0.1"},
	} {
		if got := from(c.cc); got != c.want {
			t.Errorf("%s, where none is read: the client is %s, want %s", what, got, c.want)
		}
	}
}

// TestApplyChangesTheRoomForMessages at once: a message that waits gets in.
func TestApplyChangesTheRoomForMessages(t *testing.T) {
	const small, large = 1 << 20, 64 << 20
	cfg := Config{Backend: Backend{Target: startBackend(t, echo)}, Limits: Limits{BufferedBytes: small}}
	s := newServer(t, cfg)
	stream := holdOpen(t, dial(t, serve(t, s)), testMethod)
	first, second := memory.NewClaim(s.account.NewEntry()), memory.NewClaim(s.account.NewEntry())
	if err := first.Reserve(t.Context(), memory.Small, small); err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() { waits <- second.Reserve(within(t, patience), memory.Small, small) }() // ends with room, or its patience
	poll(t, func() string {
		if s.account.Pressed() {
			return ""
		}
		return "nothing waits for room"
	})
	cfg.Limits.BufferedBytes = large
	apply(t, s, cfg)
	if err := await(t, "the message that waits", waits); err != nil {
		t.Errorf("where there is room now: %v", err)
	}
	cfg.Limits.BufferedBytes = small
	apply(t, s, cfg)
	if got := s.Snapshot(); got.HeldLimit != small || got.HeldBytes < 2*small {
		t.Errorf("%d bytes are held of %d", got.HeldBytes, got.HeldLimit)
	}
	first.Done()
	second.Done()
	wantEcho(t, "the call that was open", stream)
}

// TestApplyChangesTheMemoryForClients at once: idle connections that are open may end
// for others, and a call without room is refused. A running one goes on.
func TestApplyChangesTheMemoryForClients(t *testing.T) {
	cfg := Config{Backend: Backend{Target: startBackend(t, echo)}}
	s := newServer(t, cfg)
	address := serve(t, s)
	cc := dial(t, address)
	stream := holdOpen(t, cc, testMethod)
	idle := tcpTo(t, address)
	defer func() { _ = idle.Close() }() // the test is over
	poll(t, func() string {
		if n := s.edge.Open(); n != 2 {
			return fmt.Sprintf("%d connections are open", n)
		}
		return ""
	})
	if all := s.edge.Idle(nil); len(all) != 0 || s.Snapshot().ClientLimit != 0 {
		t.Errorf("without a limit %d connections may end for others", len(all))
	}
	cfg.Memory = 1 << 30
	apply(t, s, cfg)
	if all := s.edge.Idle(nil); len(all) != 1 || s.Snapshot().ClientLimit != cfg.Memory {
		t.Errorf("with a limit %d connections may end for others, want the idle one", len(all))
	}
	cfg.Memory = s.account.Held()/3*4 + memory.CallBytes/2 // a quarter is for messages
	apply(t, s, cfg)
	if err := unary(within(t, patience), cc, testMethod); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), report.KeyMemory) {
		t.Errorf("a call without room: %v", err)
	}
	wantEcho(t, "the call that was open", stream)
	cfg.Memory = 0
	apply(t, s, cfg)
	if err := unary(within(t, patience), cc, testMethod); err != nil {
		t.Errorf("without a limit again: %v", err)
	}
}

// TestGoodbyesReachOlderConnections: the drain reaches connections from before and after
// many changes.
func TestGoodbyesReachOlderConnections(t *testing.T) {
	cfg := Config{Backend: Backend{Target: startBackend(t, echo)}}
	s := newServer(t, cfg)
	s.goodbyeArrived = func() <-chan time.Time { return time.After(0) }
	address := serve(t, s)
	var all []*http2.Framer
	for n := range 20 {
		cfg.Limits.CallsPerConnection = n + 1
		apply(t, s, cfg)
		frames := framesOf(t, tcpTo(t, address))
		awaitFrame[*http2.SettingsFrame](t, frames)
		all = append(all, frames)
	}
	s.RefuseCalls()
	for _, frames := range all {
		awaitFrame[*http2.GoAwayFrame](t, frames)
	}
}
