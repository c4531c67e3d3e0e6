package e2e

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// wantLimit wants an end that names the key to change.
func wantLimit(t *testing.T, transport wire.Transport, e end, code codes.Code, reason, key string) {
	t.Helper()
	if !e.is(code, reason) {
		t.Errorf("%s: %v, want %v with %s", transport, e, code, reason)
	} else if !strings.Contains(e.status.Message, key) {
		t.Errorf("%s: the message %q doesn't name %s", transport, e.status.Message, key)
	}
}

// A message over limits.message_bytes ends its call, either way, and costs the
// others on its connection nothing.
func TestMessageLimit(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "limits: {message_bytes: 64KiB}\n"})
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		conn := dial(t, transport, c.address)
		up := open(t, conn, wire.Bidi, probe.Script{Echo: true})
		if err := up.Send(wire.Request(0, 60*kib)); err != nil {
			t.Fatal(err)
		}
		if _, err := wire.RecvReply(up, 0); err != nil {
			t.Fatalf("a message below the limit: %v (%v)", err, up.Status())
		}
		_ = up.Send(wire.Request(1, 65*kib)) // refused at its prefix, maybe before it is all sent
		wantLimit(t, transport, finish(up, 1), codes.ResourceExhausted, "REQUEST_TOO_LARGE", "limits.message_bytes")
		if !transport.Multiplexed() {
			conn = dial(t, transport, c.address)
		}
		down := post(t, conn, wire.ServerStream, probe.Script{Replies: 1, ReplyBytes: 65 * kib})
		wantLimit(t, transport, finish(down, 0), codes.ResourceExhausted, "RESPONSE_TOO_LARGE", "limits.message_bytes")
		if !transport.Multiplexed() {
			conn = dial(t, transport, c.address)
		}
		if err := unary(t.Context(), conn, newID(t)); err != nil {
			t.Errorf("the next call: %v", err)
		}
	})
}

// Metadata over limits.header_bytes is refused, either way, with a status where
// one can be read.
func TestHeaderLimit(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "limits: {header_bytes: 8KiB}\n"})
	large := strings.Repeat("x", 9*kib)
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		down := post(t, dial(t, transport, c.address), wire.ServerStream, probe.Script{Replies: 1, Trailer: []probe.Field{{Name: "x-large-bin", Bytes: []byte(large[:100])}}})
		if e := finish(down, 0); !e.is(codes.OK, "") {
			t.Errorf("below the limit: %v", e)
		}
		// The script makes the backend's metadata, and must not be too large itself.
		many := make([]probe.Field, 0, 235)
		for range cap(many) { // each counts 32 bytes more than it says
			many = append(many, probe.Field{Name: "x-m", Value: "y"})
		}
		for name, script := range map[string]probe.Script{
			"header":  {Replies: 1, Header: many},
			"trailer": {Replies: 1, Trailer: many},
		} {
			id := newID(t)
			scripted := wire.Metadata(id, script)
			if size := len(scripted[probe.ScriptKey][0]); size > 7*kib {
				t.Fatalf("the script has %d bytes", size)
			}
			call, err := dial(t, transport, c.address).Post(t.Context(), wire.ServerStream, scripted, wire.Request(0, 0))
			if err != nil {
				t.Fatal(err)
			}
			if e := finish(call, 0); e.status == nil || e.status.Code != codes.ResourceExhausted || e.status.Reason() != "METADATA_TOO_LARGE" {
				t.Errorf("a large %s of the backend: %v, want RESOURCE_EXHAUSTED with METADATA_TOO_LARGE", name, e)
			}
			call.Close()
		}

		// Upwards HTTP has its own answer, before there is a call.
		md := wire.Metadata(newID(t), probe.Script{})
		md["x-large"] = []string{large}
		call, err := dial(t, transport, c.address).Post(t.Context(), wire.Unary, md, wire.Request(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		defer call.Close()
		e := finish(call, 0)
		switch {
		case transport == wire.WebSocket:
			wantLimit(t, transport, e, codes.ResourceExhausted, "METADATA_TOO_LARGE", "limits.header_bytes")
		case e.status != nil:
			if e.status.Code != codes.ResourceExhausted {
				t.Errorf("large metadata of the client: %v", e)
			}
		case !strings.Contains(e.err.Error(), "431") && !strings.Contains(e.err.Error(), "header list"):
			t.Errorf("large metadata of the client: %v, want 431", e)
		}
	})
}

// limits.calls bounds all calls together.
func TestCallLimit(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "limits: {calls: 3}\n"})
	var running []*call
	for _, transport := range []wire.Transport{wire.GRPC, wire.WebSocket, wire.Web} {
		call := open(t, dial(t, transport, c.address), wire.Bidi, probe.Script{Echo: true})
		b.record(t, call.id, probe.Began, patience)
		running = append(running, call)
	}
	for _, transport := range wire.All {
		e := finish(post(t, dial(t, transport, c.address), wire.Unary, probe.Script{}), 0)
		wantLimit(t, transport, e, codes.ResourceExhausted, "LIMIT_EXCEEDED", "limits.calls")
	}
	running[0].Close()
	b.record(t, running[0].id, probe.Ended, patience)
	if err := eventually(patience, func() error { return works(t, wire.Web, c.address, 20*time.Second) }); err != nil {
		t.Errorf("with a place free again: %v", err)
	}
}

// limits.calls_per_connection is what HTTP/2 calls its streams.
func TestCallsPerConnectionLimit(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "limits: {calls_per_connection: 7}\n"})
	for _, tunnel := range []bool{false, true} {
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			t.Fatal(err)
		}
		if tunnel {
			if conn, err = wire.DialTunnel(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
		}
		defer func() { _ = conn.Close() }() // read as far as it matters
		if err := beginHTTP2(conn); err != nil {
			t.Fatal(err)
		}
		frame, err := http2.NewFramer(conn, bufio.NewReader(conn)).ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		settings, ok := frame.(*http2.SettingsFrame)
		if !ok {
			t.Fatalf("the first frame is %v", frame)
		}
		if n, ok := settings.Value(http2.SettingMaxConcurrentStreams); !ok || n != 7 {
			t.Errorf("tunnel %v: %d streams are allowed (%v), want 7", tunnel, n, ok)
		}
	}
}

// limits.connections: what is over it is refused with an explanation, what is
// there goes on, and the log names the key.
func TestConnectionLimit(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "limits: {connections: 5}\n"})
	var talks []*call
	for _, transport := range []wire.Transport{wire.GRPC, wire.Web, wire.WebSocket, wire.Tunnel, wire.WebText} {
		talk := open(t, dial(t, transport, c.address), wire.Bidi, probe.Script{Echo: true})
		say(t, talk, 0)
		talks = append(talks, talk)
	}
	for range 20 {
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience)) // just opened
		text, _ := io.ReadAll(conn)                    // refused, maybe with a reset
		_ = conn.Close()                               // by the other side
		if len(text) > 0 && (!strings.HasPrefix(string(text), "HTTP/1.1 503 ") || !strings.Contains(string(text), "limits.connections")) {
			t.Errorf("a connection too many was told %q", text)
		}
	}
	for _, talk := range talks {
		say(t, talk, 1)
	}
	c.loggedLike(t, func(l map[string]any) bool { return l["key"] == "limits.connections" })
	talks[0].conn.Close()
	if err := eventually(patience, func() error { return works(t, wire.Web, c.address, 20*time.Second) }); err != nil {
		t.Errorf("with a place free again: %v", err)
	}
}

// limits.handshakes_per_second: a call is told in its own protocol, a tunnel with
// 429.
func TestHandshakeLimit(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "limits: {handshakes_per_second: 1}\n"}) // a busy machine makes more of them in a second
	ok, refused := 0, 0
	for range 30 {
		e := finish(post(t, dial(t, wire.WebSocket, c.address), wire.Unary, probe.Script{}), 0)
		if e.is(codes.OK, "") {
			ok++
			continue
		}
		refused++
		wantLimit(t, wire.WebSocket, e, codes.ResourceExhausted, "LIMIT_EXCEEDED", "limits.handshakes_per_second")
	}
	if ok == 0 || refused == 0 {
		t.Errorf("%d WebSockets were let in, %d refused", ok, refused)
	}
	e := upgradeFrom(t, c.address, c.address, "", "/", "h2ts")
	for range 30 {
		if e.status != http.StatusSwitchingProtocols {
			break
		}
		e = upgradeFrom(t, c.address, c.address, "", "/", "h2ts") // a second had passed
	}
	if e.status != http.StatusTooManyRequests || !strings.Contains(e.body, "limits.handshakes_per_second") {
		t.Errorf("a tunnel was answered %d %q", e.status, e.body)
	}
	if err := works(t, wire.Web, c.address, 20*time.Second); err != nil {
		t.Errorf("a call without a handshake: %v", err)
	}
}

// limits.slow_consumer_timeout cuts a client that takes nothing, and no other.
func TestSlowConsumerLimit(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "limits: {slow_consumer_timeout: 3s}\n"})
	var calls []*call
	began := time.Now() // of the first call: a busy machine takes long to begin them all
	var work sync.WaitGroup
	readSlowly := func(call *call) {
		pace := time.NewTicker(50 * time.Millisecond)
		defer pace.Stop()
		for i := uint64(0); ; i++ {
			<-pace.C
			if _, err := wire.RecvReply(call, i); err != nil {
				if call.Status() == nil || call.Status().Code != codes.OK {
					t.Errorf("%s: a slow reader was cut after %d replies: %v (%v)", call.conn.Transport, i, err, call.Status())
				}
				return
			}
		}
	}
	for _, transport := range wire.All {
		calls = append(calls, post(t, dial(t, transport, c.address), wire.ServerStream, probe.Script{Replies: 1 << 30, ReplyBytes: 64 * kib}))
		for _, script := range []probe.Script{
			{Replies: 100, ReplyBytes: 64 * kib}, // one that reads a little, but always some
			{Replies: 2, ReplyEvery: 4000},       // and one that is idle: nothing waits for it
		} {
			slow := post(t, dial(t, transport, c.address), wire.ServerStream, script)
			work.Go(func() { readSlowly(slow) })
		}
	}
	wantCancelled(t, b, calls, began, 20*time.Second)
	for _, call := range calls {
		if r, _ := b.saw(t, call.id); r.Cancelled.Sub(began) < 2500*time.Millisecond {
			t.Errorf("%s: cut after %v, want 3 s", call.conn.Transport, r.Cancelled.Sub(began))
		}
		if e := finish(call, 0); e.is(codes.OK, "") {
			t.Errorf("%s: a cut call is %v", call.conn.Transport, e)
		}
	}
	work.Wait()
	c.loggedLike(t, func(l map[string]any) bool { return l["reason"] == "SLOW_CONSUMER" })
}

// limits.idle_timeout and limits.max_age end calls with a status that says so.
func TestIdleAndAgeLimits(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	for _, l := range []struct {
		key, reason string
		script      probe.Script
	}{
		{"idle_timeout", "IDLE_TIMEOUT", probe.Script{Replies: 1, Hang: true}},
		{"max_age", "MAX_AGE", probe.Script{Replies: 1 << 30, ReplyEvery: 100}},
	} {
		c := startCulvert(t, b.address, culvertOptions{config: "limits: {" + l.key + ": 2s}\n"})
		var calls []*call
		began := time.Now() // of the first call: a busy machine takes long to begin them all
		for _, transport := range wire.All {
			calls = append(calls, post(t, dial(t, transport, c.address), wire.ServerStream, l.script))
		}
		begun := time.Since(began)
		for i, e := range await(t, finishing(calls), patience, "the calls' ends") {
			wantLimit(t, calls[i].conn.Transport, e, codes.Unavailable, l.reason, "limits."+l.key)
			if begun+e.after < 1500*time.Millisecond || e.after > cutIsSeen {
				t.Errorf("%s: %s after %v, want 2 s", calls[i].conn.Transport, l.key, e.after)
			}
		}
		// With messages passing, nothing is idle.
		if l.key == "idle_timeout" {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			call, err := dial(t, wire.Web, c.address).Post(ctx, wire.ServerStream, wire.Metadata(newID(t), probe.Script{Replies: 6, ReplyEvery: 700}), wire.Request(0, 0))
			if err != nil {
				t.Fatal(err)
			}
			if e := finish(call, 0); !e.is(codes.OK, "") {
				t.Errorf("a call with a message each 700 ms: %v", e)
			}
			call.Close()
		}
	}
}
