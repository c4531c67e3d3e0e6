package bridge

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// reasonFor is the reason in the ErrorInfo of a status that culvert made.
func reasonFor(err error) report.Reason {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == report.ErrorDomain {
			return report.Reason(info.GetReason())
		}
	}
	return ""
}

func TestConfigurationsThatMeanNothing(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no backend":             {},
		"an origin with a path":  {Backend: nowhere, AllowOrigins: []string{"https://app.example.com/"}},
		"a method without slash": {Backend: nowhere, AllowMethods: []string{"acme.Admin"}},
		"a deny without slash":   {Backend: nowhere, DenyMethods: []string{"acme.Admin"}},
		"a prefix without slash": {Backend: nowhere, PathPrefix: "grpc"},
		"a prefix with two":      {Backend: nowhere, PathPrefix: "/grpc/"},
		"a prefix of a slash":    {Backend: nowhere, PathPrefix: "/"},
	} {
		if s, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
			_ = s.Close() // it should not be there
		}
	}
}

// TestNewAsksNobody: the backend needs not be there, nor anything be closed
// but the Server.
func TestNewAsksNobody(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere})
	if !s.MethodAllowed(testMethod) || s.MethodAllowed("/grpc.channelz.v1.Channelz/GetServers") {
		t.Error("the methods that cross without a policy aren't the defaults")
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown after Close: %v", err)
	}
	ln := listen(t, "127.0.0.1:0")
	if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve after Close: %v, want %v", err, http.ErrServerClosed)
	}
	if _, err := ln.Accept(); err == nil {
		t.Error("the listener that nobody serves is left open")
	}
}

// everyLimit sets each number of Limits, given how many come before it and one.
func everyLimit(value func(i int64) int64) (l Limits) {
	i := int64(0)
	var set func(v reflect.Value)
	set = func(v reflect.Value) {
		switch {
		case v.Kind() == reflect.Struct:
			for _, field := range v.Fields() {
				set(field)
			}
		case v.CanInt():
			i++
			v.SetInt(value(i))
		}
	}
	set(reflect.ValueOf(&l).Elem())
	return l
}

func TestLimits(t *testing.T) {
	got := DefaultLimits()
	address := Quota{Connections: 20_000, Calls: 20_000, CallsPerSecond: 20_000, HandshakesPerSecond: 10_000, WebRequests: 500, DecompressedPerSecond: 16 << 20 * runtime.GOMAXPROCS(0)}
	want := Limits{
		MessageBytes: 16 << 20, HeaderBytes: 64 << 10, BufferedBytes: 256 << 20, CallsPerConnection: 100,
		Connections: got.Connections, Calls: quota.NoLimit, CallsPerSecond: quota.NoLimit, HandshakesPerSecond: quota.NoLimit, DecompressedPerSecond: 32 << 20 * runtime.GOMAXPROCS(0), WebRequests: 1000,
		SlowConsumerTimeout: 5 * time.Minute, Address: address, Identity: Quota{Calls: quota.NoLimit, CallsPerSecond: quota.NoLimit},
		SlowSenderTimeout: 30 * time.Second, ConnectionIdleTimeout: time.Minute,
	}
	if got != want || got.Connections < 64 {
		t.Errorf("the defaults are %+v, want %+v and connections by the file descriptors", got, want)
	}
	none := withDefaults(everyLimit(func(int64) int64 { return -1 }))
	if none.MessageBytes != quota.NoLimit || none.BufferedBytes < 1<<40 || none.Connections != quota.NoLimit || none.SlowConsumerTimeout != 0 || none.MaxAge != 0 {
		t.Errorf("without limits they are %+v", none)
	}
	own := everyLimit(func(i int64) int64 { return i })
	if got := withDefaults(own); got != own {
		t.Errorf("%+v became %+v", own, got)
	}
}

// TestServerWithoutLimitsServes: what stands for no limit fits everywhere it
// is put.
func TestServerWithoutLimitsServes(t *testing.T) {
	backend := startBackend(t, echo)
	s := newServer(t, Config{Backend: Backend{Target: backend}, Limits: everyLimit(func(int64) int64 { return -1 })})
	address := serve(t, s)
	for name, cc := range map[string]*grpc.ClientConn{"native": dial(t, address), "tunnel": dialTunnel(t, address, nil)} {
		if err := unary(within(t, patience), cc, testMethod); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestConfigureHTTPWrapsWhatIsThere: a caller's own server keeps its hooks,
// and is served all protocols, TLS included.
func TestConfigureHTTPWrapsWhatIsThere(t *testing.T) {
	backend := startBackend(t, echo)
	obs := &connObserver{anObserver: newObserver()}
	s := newServer(t, Config{Backend: Backend{Target: backend}, Observer: obs})
	type key struct{}
	var contexts, states atomic.Int64
	hs := &http.Server{
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			contexts.Add(1)
			return context.WithValue(ctx, key{}, "theirs")
		},
		ConnState: func(net.Conn, http.ConnState) { states.Add(1) },
		Protocols: new(http.Protocols),
	}
	s.ConfigureHTTP(hs)
	if hs.ReadTimeout != 0 || hs.WriteTimeout != 0 || hs.ReadHeaderTimeout == 0 {
		t.Errorf("time-outs: read %v, write %v, header %v; want none that cuts a stream", hs.ReadTimeout, hs.WriteTimeout, hs.ReadHeaderTimeout)
	}
	inner := hs.Handler
	var kept atomic.Bool
	hs.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kept.Store(r.Context().Value(key{}) == "theirs")
		inner.ServeHTTP(w, r)
	})
	ca := parts.NewAuthority(t)
	ln := tls.NewListener(listen(t, "127.0.0.1:0"), &tls.Config{Certificates: []tls.Certificate{ca.Server(t)}, NextProtos: []string{"h2", "http/1.1"}})
	var serving sync.WaitGroup
	serving.Go(func() { _ = hs.Serve(ln) }) // ends with Close
	cc := dial(t, ln.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: ca.Pool})))
	if err := unary(within(t, patience), cc, testMethod); err != nil {
		t.Errorf("a call over TLS: %v", err)
	}
	if contexts.Load() == 0 || states.Load() == 0 || !kept.Load() {
		t.Errorf("their hooks: ConnContext %d times, ConnState %d, the value kept: %v", contexts.Load(), states.Load(), kept.Load())
	}
	if obs.began.Load() != 1 {
		t.Errorf("the Observer heard of %d connections, want 1", obs.began.Load())
	}
	_ = cc.Close()
	_ = hs.Close() // its listener
	serving.Wait()
}

// connObserver counts connections that begin.
type connObserver struct {
	*anObserver
	began, tunnels atomic.Int64
}

func (o *connObserver) ConnBegan(c report.ConnInfo) {
	o.began.Add(1)
	if c.Tunnel {
		o.tunnels.Add(1)
	}
}

// TestConnectionsAreCounted once each, also those that WebSockets took over,
// and none stays.
func TestConnectionsAreCounted(t *testing.T) {
	backend := startBackend(t, echo)
	obs := &connObserver{anObserver: newObserver()}
	s := newServer(t, Config{Backend: Backend{Target: backend}, Observer: obs})
	address := serve(t, s)
	ctx := within(t, patience)

	native := dial(t, address)
	if err := unary(ctx, native, testMethod); err != nil {
		t.Fatal(err)
	}
	tunnel := dialTunnel(t, address, nil)
	if err := unary(ctx, tunnel, testMethod); err != nil {
		t.Fatal(err)
	}
	ws, _, err := websocket.Dial(ctx, "ws://"+address+testMethod, &websocket.DialOptions{Subprotocols: []string{"grpc-websockets"}})
	if err != nil {
		t.Fatal(err)
	}
	// Native, the tunnel's outer one and the one inside it, and the socket. A
	// tunnel is no socket of its own.
	if began, tunnels, now := obs.began.Load(), obs.tunnels.Load(), s.edge.Open(); began != 4 || tunnels != 1 || now != 3 {
		t.Errorf("%d connections began, %d of them tunnels, %d are counted; want 4, 1, 3", began, tunnels, now)
	}
	_ = ws.CloseNow() // gone without a word
	_ = native.Close()
	_ = tunnel.Close()
	for range 4 {
		await(t, "a connection's end", obs.conns)
	}
	if now := s.edge.Open(); now != 0 {
		t.Errorf("%d connections are counted after the last", now)
	}
}

func TestConnectionsOverTheLimitAreRefused(t *testing.T) {
	obs := newObserver()
	s := newServer(t, Config{Backend: nowhere, Observer: obs, Limits: Limits{Connections: 2}})
	address := serve(t, s)
	var d net.Dialer
	var held []net.Conn
	for range 2 {
		conn, err := d.DialContext(within(t, patience), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
		t.Cleanup(func() { _ = conn.Close() }) // the test may have
	}
	answers := exchange(t, address, "") // nothing is read of it
	if len(answers) != 1 || answers[0].StatusCode != http.StatusServiceUnavailable || answers[0].Header.Get("Retry-After") == "" || !answers[0].Close {
		t.Fatalf("got %+v, want one 503 that closes and says when to come back", answers)
	}
	if body, _ := io.ReadAll(answers[0].Body); !strings.Contains(string(body), report.KeyConnections) { // it was read whole before
		t.Errorf("the answer %q doesn't name %s", body, report.KeyConnections)
	}
	if r := await(t, "the refusal", obs.refused); r.Reason != report.ReasonLimitExceeded || r.Key != report.KeyConnections {
		t.Errorf("the Observer is told of %+v", r)
	}
	_ = held[0].Close()
	await(t, "the connection's end", obs.conns)
	if answers := exchange(t, address, "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"); len(answers) != 1 || answers[0].StatusCode != http.StatusNotFound {
		t.Errorf("with a place free a connection is answered %+v", answers)
	}
}

func TestCallsOverTheLimitAreRefused(t *testing.T) {
	begun := make(chan struct{}, 8) // more than the test makes
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		begun <- struct{}{}
		return hold(ss)
	})
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: backend}, Observer: obs, Limits: Limits{Calls: 1}})
	address := serve(t, s)
	cc := dial(t, address)
	ctx := within(t, patience)
	first, cancel := context.WithCancel(ctx)
	open(first, t, cc, testMethod)
	await(t, "the first call at the backend", begun)
	if err := unary(ctx, cc, testMethod); status.Code(err) != codes.ResourceExhausted || reasonFor(err) != report.ReasonLimitExceeded || !strings.Contains(err.Error(), report.KeyCalls) {
		t.Errorf("got %v, want %s that names %s", err, report.ReasonLimitExceeded, report.KeyCalls)
	}
	if r := await(t, "the refusal", obs.refused); r.Key != report.KeyCalls {
		t.Errorf("the Observer is told of %+v", r)
	}
	await(t, "the refused call's end", obs.ended)
	cancel()
	await(t, "the first call's end", obs.ended)
	open(ctx, t, cc, testMethod)
	await(t, "the next call at the backend", begun)
}

// drained runs Shutdown, and passes on when it returns and with what.
func drained(s *Server, ctx context.Context) <-chan error {
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(ctx) }()
	return done
}

// TestShutdownLetsCallsFinish and takes no new ones, on every way in.
func TestShutdownLetsCallsFinish(t *testing.T) {
	finish := make(chan struct{})
	begun := make(chan struct{}, 8) // more than the test makes
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		begun <- struct{}{}
		<-finish
		return echo(ss)
	})
	s := newServer(t, Config{Backend: Backend{Target: backend}})
	address := serve(t, s)
	ctx := within(t, patience)
	var streams []grpc.ClientStream
	for _, cc := range []*grpc.ClientConn{dial(t, address), dialTunnel(t, address, nil)} {
		stream := open(ctx, t, cc, testMethod)
		if err := stream.SendMsg([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		await(t, "the call at the backend", begun)
		streams = append(streams, stream)
	}
	done := drained(s, ctx)
	for !s.draining.Load() {
		if ctx.Err() != nil {
			t.Fatal("Shutdown doesn't begin")
		}
	}
	// New connections are not accepted any more.
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			break
		}
		_ = conn.Close() // it came before the listener's end
		if ctx.Err() != nil {
			t.Fatal("connections are still accepted")
		}
	}
	select {
	case err := <-done:
		t.Fatalf("Shutdown returned %v with calls under way", err)
	default:
	}
	close(finish)
	for i, stream := range streams {
		var m []byte
		if err := stream.RecvMsg(&m); err != nil || string(m) != "hello" {
			t.Errorf("call %d: got %q, %v; want its answer", i, m, err)
		}
		_ = stream.CloseSend() // always nil
		if err := stream.RecvMsg(&m); !errors.Is(err, io.EOF) {
			t.Errorf("call %d ended with %v, want OK", i, err)
		}
	}
	if err := await(t, "Shutdown's return", done); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
}

// TestShutdownEndsWhatIsLeft with a status that says so, and returns nil.
func TestShutdownEndsWhatIsLeft(t *testing.T) {
	begun := make(chan struct{}, 8) // more than the test makes
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		begun <- struct{}{}
		return hold(ss)
	})
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: backend}, Observer: obs})
	address := serve(t, s)
	ctx := within(t, 2*patience)
	var streams []grpc.ClientStream
	for _, cc := range []*grpc.ClientConn{dial(t, address), dialTunnel(t, address, nil)} {
		streams = append(streams, open(ctx, t, cc, testMethod))
		await(t, "the call at the backend", begun)
	}
	over, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := await(t, "Shutdown's return", drained(s, over)); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	if took := time.Since(start); took > patience/2 { // the calls would be held for ever
		t.Errorf("Shutdown took %v with 0.2 s of patience", took)
	}
	for i, stream := range streams {
		if err := stream.RecvMsg(new([]byte)); status.Code(err) != codes.Unavailable || reasonFor(err) != report.ReasonDraining {
			t.Errorf("call %d ended with %v, want UNAVAILABLE and %s", i, err, report.ReasonDraining)
		}
		if info := await(t, "the call's end", obs.ended); info.Reason != report.ReasonDraining || info.Origin != report.OriginCulvert {
			t.Errorf("the Observer is told of %s by %s", info.Reason, info.Origin)
		}
	}
}

// TestDrainingServerSaysGoodbye: GOAWAY on HTTP/2, and its refusals are told
// in each dialect.
func TestDrainingServerSaysGoodbye(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere})
	address := serve(t, s)
	var d net.Dialer
	ctx := within(t, patience)
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	framer := http2.NewFramer(conn, conn)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if f, err := framer.ReadFrame(); err != nil {
		t.Fatal(err)
	} else if _, ok := f.(*http2.SettingsFrame); !ok {
		t.Fatalf("the first frame is %v", f)
	}
	done := drained(s, ctx)
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("the connection ended with %v, want GOAWAY", err)
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			if g.ErrCode != http2.ErrCodeNo {
				t.Errorf("GOAWAY with %v", g.ErrCode)
			}
			break
		}
	}
	_ = conn.Close() // so that Shutdown need not wait for it
	if err := await(t, "Shutdown's return", done); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
}

// TestNewCallOnAnOldConnectionIsRefusedWhileDraining.
func TestNewCallOnAnOldConnectionIsRefusedWhileDraining(t *testing.T) {
	backend := startBackend(t, echo)
	s := newServer(t, Config{Backend: Backend{Target: backend}})
	cc := dial(t, serve(t, s))
	ctx := within(t, patience)
	if err := unary(ctx, cc, testMethod); err != nil {
		t.Fatal(err)
	}
	s.refusing.Store(true) // Shutdown's first step, before any goodbye
	if err := unary(ctx, cc, testMethod); status.Code(err) != codes.Unavailable || reasonFor(err) != report.ReasonDraining {
		t.Errorf("a call while draining: %v, want UNAVAILABLE and %s", err, report.ReasonDraining)
	}
}

func TestCloseEndsCallsAtOnce(t *testing.T) {
	begun := make(chan struct{}, 8) // more than the test makes
	ended := make(chan struct{}, 8)
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		begun <- struct{}{}
		err := hold(ss)
		ended <- struct{}{}
		return err
	})
	var log bytes.Buffer
	s := newServer(t, Config{Backend: Backend{Target: backend}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	address := serve(t, s)
	ctx := within(t, patience)
	for _, cc := range []*grpc.ClientConn{dial(t, address), dialTunnel(t, address, nil)} {
		open(ctx, t, cc, testMethod)
		await(t, "the call at the backend", begun)
	}
	start := time.Now()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if took := time.Since(start); took > closeTimeout {
		t.Errorf("Close took %v", took)
	}
	for range 2 {
		await(t, "the call's end at the backend", ended)
	}
}

// TestOversizeMetadataCostsItsOwnCall, not the others on the connection to
// the backend.
func TestOversizeMetadataCostsItsOwnCall(t *testing.T) {
	for name, oversize := range map[string]func(ss grpc.ServerStream, md metadata.MD){
		"header":  func(ss grpc.ServerStream, md metadata.MD) { _ = ss.SetHeader(md) }, // it isn't sent yet
		"trailer": func(ss grpc.ServerStream, md metadata.MD) { ss.SetTrailer(md) },
	} {
		t.Run(name, func(t *testing.T) {
			refused := make(chan struct{})
			var calls atomic.Int64
			backend := startBackend(t, func(ss grpc.ServerStream) error {
				if calls.Add(1) == 1 {
					if err := ss.SendHeader(nil); err != nil {
						return err
					}
					select {
					case <-refused:
						return nil
					case <-ss.Context().Done():
						return ss.Context().Err()
					}
				}
				oversize(ss, metadata.Pairs("x-a", strings.Repeat("a", 100<<10)))
				return nil
			})
			s := newServer(t, Config{Backend: Backend{Target: backend}})
			cc := dial(t, serve(t, s))
			ctx := within(t, patience)
			other := open(ctx, t, cc, testMethod)
			if _, err := other.Header(); err != nil {
				t.Fatal(err)
			}
			err := open(ctx, t, cc, testMethod).RecvMsg(new([]byte))
			if status.Code(err) != codes.ResourceExhausted || reasonFor(err) != report.ReasonMetadataTooLarge || !strings.Contains(err.Error(), report.KeyHeaderBytes) {
				t.Errorf("got %v, want %s that names %s", err, report.ReasonMetadataTooLarge, report.KeyHeaderBytes)
			}
			close(refused)
			if err := other.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
				t.Errorf("the other call ended with %v, want its own OK", err)
			}
		})
	}
}

// TestNothingIsCountedAfterCallsThatWereCut: clients that go away with
// replies queued behind them cost the budget nothing.
func TestNothingIsCountedAfterCallsThatWereCut(t *testing.T) {
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		for {
			if err := ss.SendMsg(pattern(64 << 10)); err != nil {
				return err
			}
		}
	})
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: backend}, Observer: obs})
	address := serve(t, s)
	for _, cc := range []*grpc.ClientConn{dial(t, address), dialTunnel(t, address, nil)} {
		for range 10 {
			ctx, cancel := context.WithCancel(within(t, patience))
			stream := open(ctx, t, cc, testMethod)
			if err := stream.SendMsg(pattern(32 << 10)); err != nil {
				t.Fatal(err)
			}
			if err := stream.RecvMsg(new([]byte)); err != nil {
				t.Fatal(err)
			}
			cancel()
			if info := await(t, "the call's end", obs.ended); info.Origin != report.OriginClient || info.Code != codes.Canceled {
				t.Errorf("the call ended %v by %s (%s)", info.Code, info.Origin, info.Cause)
			}
		}
	}
	poll(t, func() string { // what was on its way from the backend when the call was cut comes a little later
		if n := s.account.Used(); n != 0 {
			return fmt.Sprintf("%d bytes are counted, want 0", n)
		}
		return ""
	})
}

// rst makes one call of HTTP/2 frames and resets it.
func TestHundredsOfResetCallsLeaveNothing(t *testing.T) {
	backend := startBackend(t, echo)
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: backend}, Observer: obs})
	var d net.Dialer
	conn, err := d.DialContext(within(t, patience), "tcp", serve(t, s))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	framer := http2.NewFramer(conn, conn)
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			if _, err := framer.ReadFrame(); err != nil {
				return
			}
		}
	})
	const calls = 200
	for i := range uint32(calls) {
		block.Reset()
		for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "a"}, {":path", testMethod}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
			_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // to memory
		}
		id := 2*i + 1
		if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true}); err != nil {
			t.Fatal(err)
		}
		if err := framer.WriteData(id, false, framed(0, pattern(8<<10))); err != nil {
			t.Fatal(err)
		}
		if err := framer.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
			t.Fatal(err)
		}
		if info := await(t, "the call's end", obs.ended); info.Code == codes.OK {
			t.Error("a call that was reset ended OK")
		}
	}
	wantUsed(t, s.account, 0)
	_ = conn.Close() // ends the reading
	reading.Wait()
}
