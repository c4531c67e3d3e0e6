package upstream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/pool"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

func wantUnreachable(t testing.TB, e ending) {
	t.Helper()
	if e.status.Code() != codes.Unavailable || e.reason != report.ReasonUpstreamUnreachable || e.cause == "" {
		t.Errorf("got %v for %s (%q), want UNAVAILABLE for %s and a cause", e.status, e.reason, e.cause, report.ReasonUpstreamUnreachable)
	}
	if got := errorInfo(t, e.status).GetMetadata()["sent"]; got != "no" {
		t.Errorf("sent=%s, want no", got)
	}
	if strings.Contains(e.status.Message(), "dial") || strings.Contains(e.status.Message(), "127.0.0.1") {
		t.Errorf("the client is told the inside: %q", e.status.Message())
	}
}

func TestBackendThatIsDown(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	_ = ln.Close() // its port refuses now
	u := upstreamTo(t, report.Backend{Target: ln.Addr().String()})
	for range 3 {
		start := time.Now()
		wantUnreachable(t, callUpstream(within(t, patience), t, u, nil))
		if took := time.Since(start); took >= connectPatience {
			t.Errorf("a call to a port that refuses took %v", took)
		}
	}
}

func TestNameThatDoesNotResolve(t *testing.T) {
	u := upstreamTo(t, report.Backend{Target: "dns:///name.invalid:1"})
	wantUnreachable(t, callUpstream(within(t, patience), t, u, nil))
}

// TestBackendThatSaysNothing: it takes the connection or not, and never speaks, so a call
// waits as long as the patience and not a moment more.
func TestBackendThatSaysNothing(t *testing.T) {
	for takes, want := range map[bool]string{
		false: context.DeadlineExceeded.Error(),
		true:  "says nothing: is it a gRPC server? does it need TLS?",
	} {
		synctest.Test(t, func(t *testing.T) {
			ln := parts.ListenPipe(t)
			var taken sync.WaitGroup
			t.Cleanup(taken.Wait)
			if takes {
				taken.Go(func() {
					for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
						taken.Go(func() { _, _ = io.Copy(io.Discard, c) }) // until culvert ends it
					}
				})
			}
			u := upstreamTo(t, inBubble(ln))
			start := time.Now()
			e := callUpstream(t.Context(), t, u, nil)
			wantUnreachable(t, e)
			if got := time.Since(start); got != connectPatience {
				t.Errorf("gave up after %v, want %v", got, connectPatience)
			}
			// The attempt to connect has the same time: it may end first.
			if e.cause != pool.ErrPatience.Error() && !strings.Contains(e.cause, want) {
				t.Errorf("gave up because %q", e.cause)
			}
			synctest.Wait() // the attempt ends
			if e = callUpstream(t.Context(), t, u, nil); !strings.Contains(e.cause, want) {
				t.Errorf("the next call failed because %q, want %q", e.cause, want)
			}
			wantUnreachable(t, e)
			_ = ln.Close()
		})
	}
}

// inBubble is the Backend behind a listener in memory.
func inBubble(ln *parts.PipeListener) report.Backend {
	return report.Backend{Target: "passthrough:///bubble", Dial: func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }}
}

// TestBackendAtItsStreamCap: grpc-go would wait for a place for ever.
func TestBackendAtItsStreamCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := parts.ListenPipe(t)
		stop := serveBackend(t, ln, func(ss grpc.ServerStream) error {
			if md, _ := metadata.FromIncomingContext(ss.Context()); len(md["hold"]) > 0 {
				return hold(ss)
			}
			return echo(ss)
		}, grpc.MaxConcurrentStreams(1))
		b := inBubble(ln)
		b.MaxConnections = 1
		u := upstreamTo(t, b)
		if e := callUpstream(t.Context(), t, u, nil); e.status.Code() != codes.OK { // the settings are known now
			t.Fatalf("the first call: %v", e.status)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := openCall(ctx, u, Request{Method: testMethod, Metadata: metadata.Pairs("hold", "1")}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		e := callUpstream(t.Context(), t, u, nil)
		if e.status.Code() != codes.Unavailable || e.reason != report.ReasonOverloaded || errorInfo(t, e.status).GetMetadata()["sent"] != "no" {
			t.Errorf("got %v for %s, want UNAVAILABLE for %s, not sent", e.status, e.reason, report.ReasonOverloaded)
		}
		if got := time.Since(start); got != connectPatience {
			t.Errorf("gave up after %v, want %v", got, connectPatience)
		}
		cancel()
		if e := callUpstream(t.Context(), t, u, nil); e.status.Code() != codes.OK {
			t.Errorf("with a place free: %v (%s)", e.status, e.cause)
		}
		stop()
	})
}

// TestCallThatWaitsEndsWithItsDeadline, and not as an overload.
func TestCallThatWaitsEndsWithItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := parts.ListenPipe(t)
		u := upstreamTo(t, inBubble(ln))
		start := time.Now()
		ctx, cancel := context.WithDeadlineCause(t.Context(), start.Add(time.Second), errDeadline)
		defer cancel()
		if e := callUpstream(ctx, t, u, nil); e.reason != report.ReasonDeadlineExceeded || time.Since(start) != time.Second {
			t.Errorf("got %v for %s after %v, want %s after 1s", e.status, e.reason, time.Since(start), report.ReasonDeadlineExceeded)
		}
		_ = ln.Close()
	})
}

// lateContext is one whose deadline has passed and whose timer has not fired yet.
type lateContext struct{ context.Context }

func (lateContext) Deadline() (time.Time, bool) { return time.Unix(1, 0), true }

// TestDeadlineThatPassesAtTheStart: grpc-go looks at the clock, and a call that
// it doesn't even begin is late, and no defect.
func TestDeadlineThatPassesAtTheStart(t *testing.T) {
	gs := grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{}), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return echo(ss) }))
	b, stop := InProcess(gs)
	defer gs.Stop()
	defer stop()
	u := upstreamTo(t, b)
	if e := callUpstream(within(t, patience), t, u, nil); e.status.Code() != codes.OK {
		t.Fatalf("the first call: %v", e.status)
	}
	if e := callUpstream(lateContext{within(t, patience)}, t, u, nil); e.reason != report.ReasonDeadlineExceeded {
		t.Errorf("got %v for %s (%s), want %s", e.status, e.reason, e.cause, report.ReasonDeadlineExceeded)
	}
}

// TestBackendThatComesBack: after any time away, calls work within 2 s of its
// return.
func TestBackendThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := parts.ListenPipe(t)
		stop := serveBackend(t, ln, echo)
		var up atomic.Bool
		b := inBubble(ln)
		dial := b.Dial
		b.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			if !up.Load() {
				return nil, errors.New("connection refused")
			}
			return dial(ctx, address)
		}
		u := upstreamTo(t, b)
		elapse(20 * time.Minute)
		wantUnreachable(t, callUpstream(t.Context(), t, u, nil))
		up.Store(true)
		start := time.Now()
		for callUpstream(t.Context(), t, u, nil).status.Code() != codes.OK {
			if time.Since(start) > 2*time.Second {
				t.Fatal("2 s after the backend's return no call works")
			}
			elapse(10 * time.Millisecond)
		}
		stop()
	})
}

// countPings is a backend that reads and answers nothing but the handshake.
func countPings(ln net.Listener, pings *atomic.Int64) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		framer := http2.NewFramer(conn, conn)
		_, _ = io.ReadFull(conn, make([]byte, len(http2.ClientPreface))) // ReadFrame fails then, too
		_ = framer.WriteSettings()
		for {
			f, err := framer.ReadFrame()
			if err != nil {
				break
			}
			if _, ok := f.(*http2.PingFrame); ok {
				pings.Add(1)
			}
		}
		_ = conn.Close() // it is broken
	}
}

func TestUnixSocketTargets(t *testing.T) {
	dir, err := os.MkdirTemp("", "culvert") // t.TempDir's name may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a leftover in /tmp
	path := filepath.Join(dir, "backend.sock")
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serveBackend(t, ln, echo)
	for _, target := range []string{"unix://" + path, "unix:" + path} {
		for _, envProxy := range []bool{false, true} {
			u := upstreamTo(t, report.Backend{Target: target, UseEnvProxy: envProxy})
			if e := callUpstream(within(t, patience), t, u, nil); e.status.Code() != codes.OK {
				t.Errorf("%s: %v (%s)", target, e.status, e.cause)
			}
		}
	}
}

// TestInProcessBackend: its way is closed with stop, and the server is the
// caller's.
func TestInProcessBackend(t *testing.T) {
	gs := grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{}), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return echo(ss) }))
	b, stop := InProcess(gs)
	u := upstreamTo(t, b)
	if e := callUpstream(within(t, patience), t, u, nil); e.status.Code() != codes.OK || len(e.messages) != 1 {
		t.Errorf("got %v and %d messages", e.status, len(e.messages))
	}
	stop()
	gs.Stop()
	// The connection's end may still be on its way; then comes no other.
	for ctx := within(t, patience); ; {
		e := callUpstream(ctx, t, u, nil)
		if e.reason == report.ReasonUpstreamUnreachable {
			break
		}
		if e.status.Code() != codes.Unavailable {
			t.Fatalf("after stop: %v for %s (%s)", e.status, e.reason, e.cause)
		}
	}
}

// TestWhatTheBackendSees of the call itself, beside its metadata.
func TestWhatTheBackendSees(t *testing.T) {
	seen := make(chan metadata.MD, 1)
	address := startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		seen <- md
		return echo(ss)
	})
	for _, c := range []struct {
		subtype, authority, contentType, host string
	}{
		{"", "", "application/grpc", address},
		{"proto", "", "application/grpc+proto", address},
		{"json", "backend.example", "application/grpc+json", "backend.example"},
	} {
		u := upstreamTo(t, report.Backend{Target: address, Authority: c.authority})
		ctx, cancel := context.WithCancel(within(t, patience))
		up, err := openCall(ctx, u, Request{Method: testMethod, Subtype: c.subtype, Metadata: metadata.Pairs("x-b-bin", "\x00\xff", "x-a", "1", "x-a", "2")})
		if err != nil {
			t.Fatal(err)
		}
		up.CloseSend()
		md := await(t, "the call at the backend", seen)
		if got := md["content-type"][0]; got != c.contentType {
			t.Errorf("%q: content-type %q, want %q", c.subtype, got, c.contentType)
		}
		if got := md[":authority"][0]; got != c.host {
			t.Errorf("%q: authority %q, want %q", c.authority, got, c.host)
		}
		if got := fmt.Sprintf("%q %q", md["x-b-bin"], md["x-a"]); got != `["\x00\xff"] ["1" "2"]` {
			t.Errorf("metadata %s, want it unchanged", got)
		}
		if ua := md["user-agent"][0]; !strings.HasPrefix(ua, "grpc-go/") {
			t.Errorf("user-agent %q", ua)
		}
		cancel()
	}
}

// headerStream is a stream whose header is there.
type headerStream struct {
	grpc.ClientStream
	md metadata.MD
}

func (s headerStream) Header() (metadata.MD, error) { return s.md, nil }

// TestTrailersOnlyHasNoHeader: grpc-go returns no error for it.
func TestTrailersOnlyHasNoHeader(t *testing.T) {
	none := &Stream{stream: headerStream{}, call: new(pool.Call)}
	if _, ok := none.Header(); ok {
		t.Error("a trailers-only answer has a header")
	}
}

func TestBackendWithoutAnAddress(t *testing.T) {
	if u, err := New(report.Backend{}, testMessages, testHeaderBytes, memory.New(1<<30, 0), nil); err == nil {
		t.Error("no error")
		_ = u.Close() // it should not be there
	}
}

func TestBackendOverTLS(t *testing.T) {
	ours, theirs := parts.NewAuthority(t), parts.NewAuthority(t)
	address := startBackend(t, echo, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{ours.Server(t, "backend.example")}, ClientCAs: ours.Pool, ClientAuth: tls.RequireAndVerifyClientCert,
	})))
	for _, c := range []struct {
		name string
		tls  *tls.Config
		ok   bool
	}{
		{"own CA and client certificate", &tls.Config{RootCAs: ours.Pool, Certificates: []tls.Certificate{ours.Client(t)}}, true},
		{"the same by name", &tls.Config{RootCAs: ours.Pool, Certificates: []tls.Certificate{ours.Client(t)}, ServerName: "backend.example"}, true},
		{"another name", &tls.Config{RootCAs: ours.Pool, Certificates: []tls.Certificate{ours.Client(t)}, ServerName: "other.example"}, false},
		{"another CA", &tls.Config{RootCAs: theirs.Pool, Certificates: []tls.Certificate{ours.Client(t)}}, false},
		{"the system's CAs", &tls.Config{Certificates: []tls.Certificate{ours.Client(t)}}, false},
		{"no client certificate", &tls.Config{RootCAs: ours.Pool}, false},
		{"a client certificate of another CA", &tls.Config{RootCAs: ours.Pool, Certificates: []tls.Certificate{theirs.Client(t)}}, false},
		{"plaintext", nil, false},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			u := upstreamTo(t, report.Backend{Target: address, TLS: c.tls})
			e := callUpstream(within(t, patience), t, u, nil)
			if c.ok {
				if e.status.Code() != codes.OK {
					t.Errorf("got %v (%s), want OK", e.status, e.cause)
				}
				return
			}
			if e.status.Code() != codes.Unavailable || e.origin != report.OriginCulvert || e.cause == "" {
				t.Errorf("got %v of %s (%s), want UNAVAILABLE of culvert", e.status, e.origin, e.cause)
			}
			if msg := e.status.Message(); strings.Contains(msg, "x509") || strings.Contains(msg, "tls") {
				t.Errorf("the client is told the inside: %q", msg)
			}
		})
	}
}

// TestProxyOfTheEnvironment runs itself again with a proxy in the environment,
// which net/http reads but once, and which it never asks for loopback.
func TestProxyOfTheEnvironment(t *testing.T) {
	const child = "CULVERT_TEST_PROXY_CHILD"
	if os.Getenv(child) != "" {
		for _, target := range []string{"backend.invalid:9000", "dns:///backend.invalid:9001", "refused.invalid:9000"} {
			e := callUpstream(within(t, patience), t, upstreamTo(t, report.Backend{Target: target, UseEnvProxy: true}), nil)
			fmt.Printf("%s %v %s %q\n", target, e.status.Code(), e.reason, e.cause)
		}
		return
	}
	address := startBackend(t, echo)
	ln := listen(t, "127.0.0.1:0")
	var mu sync.Mutex
	var asked []string
	var proxying sync.WaitGroup
	proxying.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			proxying.Go(func() {
				host := proxyTo(conn, address)
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, host)
			})
		}
	})
	ctx := within(t, 2*patience)
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestProxyOfTheEnvironment$", "-test.count=1")
	cmd.Env = append(os.Environ(), child+"=1", "HTTPS_PROXY=http://user:pass@"+ln.Addr().String(), "NO_PROXY=", "no_proxy=", "https_proxy=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	_ = ln.Close() // ends the accepting
	proxying.Wait()
	for _, want := range []string{"backend.invalid:9000 OK", "dns:///backend.invalid:9001 OK", "refused.invalid:9000 Unavailable UPSTREAM_UNREACHABLE"} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("the calls ended with\n%s\nwant %q", out, want)
		}
	}
	if !bytes.Contains(out, []byte("CONNECT refused.invalid:9000: 403")) {
		t.Errorf("the log doesn't tell what the proxy said:\n%s", out)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(asked, " "); !strings.Contains(got, "backend.invalid:9000") || !strings.Contains(got, "backend.invalid:9001") {
		t.Errorf("the proxy was asked for %q, want the names as they are", got)
	}
}

// proxyTo serves one CONNECT, with a password, by a pipe to the address.
func proxyTo(conn net.Conn, address string) (asked string) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	req, err := http.ReadRequest(r)
	if err != nil {
		return "not HTTP: " + err.Error()
	}
	refuse := func(code int) {
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\ncontent-length: 0\r\n\r\n", code, http.StatusText(code)) // it may be gone
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:pass"))
	switch {
	case req.Method != http.MethodConnect || req.Header.Get("Proxy-Authorization") != want || req.Header.Get("Authorization") != "":
		refuse(http.StatusProxyAuthRequired)
		return "without its password: " + req.Host
	case strings.HasPrefix(req.Host, "refused."):
		refuse(http.StatusForbidden)
		return req.Host
	}
	var d net.Dialer
	backend, err := d.DialContext(context.Background(), "tcp", address)
	if err != nil {
		refuse(http.StatusBadGateway)
		return req.Host
	}
	defer backend.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	var copying sync.WaitGroup
	copying.Go(func() {
		_, _ = io.Copy(backend, r) // ends with the client's connection
		_ = backend.Close()        // so that the other way ends
	})
	_, _ = io.Copy(conn, backend)
	_ = conn.Close() // so that the first way ends
	copying.Wait()
	return req.Host
}
