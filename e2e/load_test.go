package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A trickler is a connection that sends a byte at a time.
type trickler struct {
	kind   string
	conn   *net.TCPConn
	rest   []byte
	within time.Duration // after which it must be closed
	began  time.Time
	lasted time.Duration // until culvert closed it; 0: it hasn't
}

// tricklers are the ways to take for ever over a request.
var tricklers = []struct {
	kind   string
	within time.Duration
	begin  func(conn net.Conn) error // sent at once; nil: nothing
	rest   []byte                    // then a byte at a time
}{
	{
		"HTTP/1.1 header", 15 * time.Second, nil,
		append([]byte("POST /culvert.e2e.v1.Probe/Unary HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: "), bytes.Repeat([]byte{'a'}, 4096)...),
	},
	{"HTTP/2 preface", 15 * time.Second, nil, []byte(http2.ClientPreface)},
	{"HTTP/2 header", 35 * time.Second, beginHTTP2, headersFrame()},
	{"HTTP/2 continuation", 35 * time.Second, beginHTTP2, continuationFrames()},
	{"nothing", 15 * time.Second, nil, nil},
	{"WebSocket's first message", 20 * time.Second, beginWebSocket, append([]byte{0x82, 0xfe, 0x10, 0, 0, 0, 0, 0}, bytes.Repeat([]byte("a"), 4096)...)},
	{"WebSocket without a message", 20 * time.Second, beginWebSocket, nil},
	{"tunnel's HTTP/2 header", 35 * time.Second, beginTunnel, tunnelled(headersFrame())},
}

func beginHTTP2(conn net.Conn) error {
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return err
	}
	return http2.NewFramer(conn, conn).WriteSettings()
}

// headersFrame is a HEADERS frame of a request, larger than will ever arrive.
func headersFrame() []byte {
	var b bytes.Buffer
	f := http2.NewFramer(&b, nil)
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: requestBlock(), EndHeaders: true}) // to memory
	return b.Bytes()
}

// continuationFrames is a request whose header goes on in frames of a byte.
func continuationFrames() []byte {
	var b bytes.Buffer
	f := http2.NewFramer(&b, nil)
	block := requestBlock()
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:1]}) // to memory
	for i := range block[1:] {
		_ = f.WriteContinuation(1, false, block[1+i:2+i]) // to memory
	}
	return b.Bytes()
}

func requestBlock() []byte {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":authority", "127.0.0.1"},
		{":path", wire.Unary},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
		{"x-a", string(bytes.Repeat([]byte{'\\'}, 2048))},
	} {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // to memory
	}
	return block.Bytes()
}

func beginWebSocket(conn net.Conn) error {
	return handshake(conn, wire.Bidi, "grpc-websockets")
}

func beginTunnel(conn net.Conn) error {
	if err := handshake(conn, "/", "h2ts"); err != nil {
		return err
	}
	_, err := conn.Write(tunnelled([]byte(http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"))) // and empty SETTINGS
	return err
}

func handshake(conn net.Conn, path, subprotocol string) error {
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
		path, conn.RemoteAddr(), subprotocol)
	if err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil) // nothing follows before we speak
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // there is none
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("the upgrade was answered %s", resp.Status)
	}
	return nil
}

// tunnelled wraps each byte in a WebSocket message of its own.
func tunnelled(b []byte) []byte {
	var out []byte
	for _, c := range b {
		out = append(out, 0x82, 0x81, 0, 0, 0, 0, c) // masked with zeros
	}
	return out
}

// 10,000 connections that trickle are closed (within 15 s on HTTP/1.1, 35 s on
// HTTP/2) while ordinary calls go on.
func TestTricklersAreClosed(t *testing.T) {
	const each = 1250
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	all := make([]*trickler, each*len(tricklers))
	inParallel(64, len(all), func(i int) {
		kind := tricklers[i%len(tricklers)]
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { _ = conn.Close() }) // closed from the other side
		tr := &trickler{kind: kind.kind, conn: conn.(*net.TCPConn), rest: kind.rest, within: kind.within, began: time.Now()}
		if kind.begin != nil {
			if err := kind.begin(conn); err != nil {
				t.Errorf("%s: %v", kind.kind, err)
				return
			}
		}
		all[i] = tr
	})
	if t.Failed() {
		t.FailNow()
	}
	stop := make(chan struct{})
	var feeder sync.WaitGroup
	feeder.Go(func() { feed(all, stop) })

	// Meanwhile, ordinary calls.
	transports := []wire.Transport{wire.GRPC, wire.Web, wire.WebSocket, wire.Tunnel}
	var slowest time.Duration
	pace := time.NewTicker(200 * time.Millisecond)
	defer pace.Stop()
	began := time.Now()
	for i := 0; time.Since(began) < 36*time.Second; i++ {
		<-pace.C
		began := time.Now()
		if err := works(t, transports[i%len(transports)], c.address, 5*time.Second); err != nil {
			t.Errorf("an ordinary call meanwhile: %v", err)
		}
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("the slowest of the ordinary calls took %v", slowest.Round(time.Millisecond))
	close(stop)
	feeder.Wait()

	longest := map[string]time.Duration{}
	left := map[string]int{}
	for _, tr := range all {
		longest[tr.kind] = max(longest[tr.kind], tr.lasted)
		if tr.lasted == 0 || tr.lasted > tr.within {
			left[tr.kind]++
		}
	}
	for _, kind := range tricklers {
		t.Logf("%s: closed after %v at most", kind.kind, longest[kind.kind].Round(100*time.Millisecond))
		if n := left[kind.kind]; n > 0 {
			t.Errorf("%s: %d of %d were not closed within %v", kind.kind, n, each, kind.within)
		}
	}
}

// feed sends a byte (of a tunnel: a message) on each connection each second, and
// looks whether culvert has closed it. There are too many for a goroutine each.
func feed(all []*trickler, stop <-chan struct{}) {
	pace := time.NewTicker(time.Second)
	defer pace.Stop()
	for {
		for _, tr := range all {
			if tr.lasted > 0 {
				continue
			}
			if tr.ended() {
				tr.lasted = time.Since(tr.began)
				_ = tr.conn.Close() // culvert has
				continue
			}
			n := 1
			if tr.kind == "tunnel's HTTP/2 header" {
				n = 7
			}
			n = min(n, len(tr.rest))
			_, _ = tr.conn.Write(tr.rest[:n]) // the next look says that it is closed
			tr.rest = tr.rest[n:]
		}
		select {
		case <-pace.C:
		case <-stop:
			return
		}
	}
}

// ended takes what culvert has sent, goodbyes and pings, and reports whether it has
// closed the connection. It doesn't wait.
func (tr *trickler) ended() bool {
	raw, err := tr.conn.SyscallConn()
	if err != nil {
		return true
	}
	ended := false
	if err := raw.Read(func(fd uintptr) bool {
		var b [4 * kib]byte
		for {
			n, err := unix.Read(int(fd), b[:])
			switch {
			case errors.Is(err, unix.EAGAIN):
				return true
			case errors.Is(err, unix.EINTR) || n > 0:
				continue
			}
			ended = true // its end, or a reset
			return true
		}
	}); err != nil {
		return true
	}
	return ended
}

// 10,000 connections opened at once cost up to 20 KiB each, every one is served,
// and all come back.
func TestTenThousandConnections(t *testing.T) {
	const connections = 10_000
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	if err := works(t, wire.Web, c.address, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	descriptors, before := c.descriptors(t), c.rss(t)

	conns := make([]*wire.Conn, connections)
	inParallel(64, connections, func(i int) {
		conn, err := wire.Dial(context.Background(), wire.Web, c.address)
		if err != nil {
			t.Errorf("connection %d: %v", i, err)
			return
		}
		conns[i] = conn
	})
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				conn.Close()
			}
		}
	}()
	if t.Failed() {
		t.FailNow()
	}
	if err := eventually(8*time.Second, func() error { // it closes those that say nothing after 10
		if n := c.descriptors(t) - descriptors; n < connections-8 { // a connection from before may have gone

			return fmt.Errorf("culvert has %d connections of %d", n, connections)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	each := (c.rss(t) - before) / connections
	t.Logf("a connection costs %d bytes", each)
	if each > 20*kib {
		t.Errorf("a connection costs %d bytes, want up to %d", each, 20*kib)
	}

	// Every one of them can call, though all came at once.
	began := time.Now()
	inParallel(64, connections, func(i int) {
		conns[i].SetDeadline(time.Now().Add(10 * time.Second))
		if err := unary(context.Background(), conns[i], fmt.Sprintf("%s/%d", t.Name(), i)); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
	})
	called := (c.rss(t) - before) / connections
	t.Logf("all called within %v; a connection costs %d bytes then", time.Since(began).Round(time.Millisecond), called)
	for _, conn := range conns {
		conn.Close()
	}
	if err := eventually(10*time.Second, func() error {
		if n := c.descriptors(t); n > descriptors+8 {
			return fmt.Errorf("%d file descriptors are open, %d were before", n, descriptors)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if err := works(t, wire.Web, c.address, 5*time.Second); err != nil {
		t.Error(err)
	}
}

// inParallel runs f(0) to f(n-1), so many at a time.
func inParallel(width, n int, f func(i int)) {
	next := make(chan int)
	var work sync.WaitGroup
	for range width {
		work.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	work.Wait()
}

// Metadata arrives on every call, however many there are at once: a header that
// comes late or by itself is not lost.
func TestMetadataIsNeverLost(t *testing.T) {
	const calls = 300 // for each transport
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	script := probe.Script{
		Header: []probe.Field{{Name: "x-head", Value: "h"}}, HeaderEarly: true, Replies: 1,
		Trailer: []probe.Field{{Name: "x-tail", Value: "t"}},
	}
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		shared := dial(t, transport, c.address)
		var lost atomic.Int64
		inParallel(32, calls, func(i int) {
			conn := shared
			if !transport.Multiplexed() {
				var err error
				if conn, err = wire.Dial(t.Context(), transport, c.address); err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
			}
			call, err := conn.Post(t.Context(), wire.ServerStream, wire.Metadata(fmt.Sprintf("%s/%d", t.Name(), i), script), wire.Request(0, 0))
			if err != nil {
				t.Error(err)
				return
			}
			defer call.Close()
			e := finish(call, 0)
			if !e.is(codes.OK, "") {
				t.Error(e)
				return
			}
			if len(call.Header()["X-Head"])+len(call.Header()["x-head"]) != 1 || len(e.status.Trailer["x-tail"]) != 1 {
				lost.Add(1)
			}
		})
		if n := lost.Load(); n > 0 {
			t.Errorf("%d of %d calls have lost metadata", n, calls)
		}
	})
}

// 5,000 idle streams leave the latency of others alone, and wake nobody up.
func TestIdleStreamsLeaveLatencyAlone(t *testing.T) {
	const connections, streams, sockets = 40, 100, 1000 // 4,000 on HTTP/2, 1,000 WebSockets
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	before, memory := latency(t, c.address), c.rss(t)

	var readers sync.WaitGroup
	defer readers.Wait()
	for range connections {
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }() // the streams end with it
		begun := make(chan error, 1)
		readers.Go(func() { idleStreams(conn, streams, begun) })
		if err := await(t, begun, 10*time.Second, "the streams' headers"); err != nil {
			t.Fatal(err)
		}
	}
	for range sockets {
		// Their pings begin after this test is over, so nobody need read.
		call := open(t, dial(t, wire.WebSocket, c.address), wire.Bidi, probe.Script{HeaderEarly: true})
		b.record(t, call.id, probe.Began, 5*time.Second)
	}
	grown := c.rss(t) - memory
	t.Logf("an idle stream costs %d bytes", grown/(connections*streams+sockets))

	used := c.processor(t)
	const watch = 4 * time.Second
	<-time.After(watch)
	busy := float64(c.processor(t)-used) / float64(watch)
	t.Logf("while all are idle, culvert uses %.1f %% of a processor", 100*busy)
	if busy > 0.1 {
		t.Errorf("idle streams keep culvert busy: %.0f %% of a processor", 100*busy)
	}

	during := latency(t, c.address)
	t.Logf("latency before: median %v, 99 %% %v; beside 5,000 idle streams: median %v, 99 %% %v",
		before.median, before.high, during.median, during.high)
	if during.median > 2*before.median+time.Millisecond {
		t.Errorf("the median latency went from %v to %v", before.median, during.median)
	}
	if during.high > 3*before.high+10*time.Millisecond {
		t.Errorf("the latency of the slowest in a hundred went from %v to %v", before.high, during.high)
	}
}

// idleStreams opens streams on an HTTP/2 connection and keeps it, answering
// pings, until it is closed. begun gets nil when every stream has its header.
func idleStreams(conn net.Conn, streams int, begun chan<- error) {
	if err := beginHTTP2(conn); err != nil {
		begun <- err
		return
	}
	f := http2.NewFramer(conn, bufio.NewReader(conn))
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for i := range streams {
		block.Reset()
		for _, h := range [][2]string{
			{":method", "POST"},
			{":scheme", "http"},
			{":authority", "127.0.0.1"},
			{":path", wire.Bidi},
			{"content-type", "application/grpc"},
			{"te", "trailers"},
			{probe.IDKey, fmt.Sprintf("idle/%v/%d", conn.LocalAddr(), i)},
			{probe.ScriptKey, probe.Script{HeaderEarly: true}.String()},
		} {
			_ = e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}) // to memory
		}
		p := http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndHeaders: true}
		if err := f.WriteHeaders(p); err != nil {
			begun <- err
			return
		}
	}
	headers := 0
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			if headers < streams {
				begun <- fmt.Errorf("after %d headers of %d: %w", headers, streams, err)
			}
			return // closed
		}
		switch frame := frame.(type) {
		case *http2.HeadersFrame:
			if headers++; headers == streams {
				begun <- nil
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				_ = f.WritePing(true, frame.Data) // ReadFrame tells of an end
			}
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = f.WriteSettingsAck() // ReadFrame tells of an end
			}
		}
	}
}

type latencies struct{ median, high time.Duration }

// latency measures ordinary calls over one connection each of HTTP/2 and HTTP/1.1.
func latency(t *testing.T, address string) latencies {
	t.Helper()
	const calls = 1000
	var took []time.Duration
	for _, transport := range []wire.Transport{wire.GRPC, wire.Web} {
		conn, err := wire.Dial(t.Context(), transport, address)
		if err != nil {
			t.Fatal(err)
		}
		for range calls {
			began := time.Now()
			if err := unary(t.Context(), conn, "latency"); err != nil {
				if errors.Is(err, io.ErrUnexpectedEOF) {
					err = fmt.Errorf("the connection was not kept: %w", err)
				}
				t.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		conn.Close()
	}
	slices.Sort(took)
	return latencies{took[len(took)/2], took[len(took)*99/100]}
}
