package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestTextsOfGRPC checks that grpc-go still words its statuses as localStatuses
// has them: real backends provoke each row, and the log shows grpc-go's text.
func TestTextsOfGRPC(t *testing.T) {
	large := metadata.Pairs("x-a", strings.Repeat("a", 5<<10))
	smallHeaders := http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 4 << 10}
	provoked := map[string]bool{}
	for _, c := range []struct {
		text     string // of the row
		script   func(*frameConn, uint32)
		settings []http2.Setting
		md       metadata.MD // of a second call
	}{
		{text: "grpc: received message larger than max (", script: answer(framed(0, pattern(64<<10+1)))},
		{text: "grpc: received message after decompression larger than max ", script: answer(framed(1, gzipped(make([]byte, 8<<20))), "grpc-encoding", "gzip")},
		{text: "unexpected EOF", script: answer(framed(0, []byte("hello"))[:7])},
		{text: "grpc: failed to decompress", script: answer(framed(1, []byte("hello")), "grpc-encoding", "gzip")},
		{text: "grpc: failed to read decompressed data", script: answer(framed(1, gzipped(pattern(5000))[:200]), "grpc-encoding", "gzip")},
		{text: "grpc: Decompressor is not installed", script: answer(framed(1, []byte("hello")), "grpc-encoding", "br")},
		{text: "grpc: compressed flag set with identity or empty encoding", script: answer(framed(1, []byte("hello")))},
		{text: "grpc: received unexpected payload format", script: answer(framed(2, []byte("hello")))},
		{text: "transport: malformed grpc-status: ", script: func(c *frameConn, id uint32) {
			c.ok(id)
			c.end(id, "grpc-status", "OK")
		}},
		{text: "transport: malformed http-status", script: page("abc", "text/html", "")},
		{text: "server closed the stream without sending trailers", script: func(c *frameConn, id uint32) {
			c.ok(id)
			c.data(id, true, framed(0, []byte("one")))
		}},
		{text: "a HEADERS frame cannot appear in the middle of a stream", script: func(c *frameConn, id uint32) {
			c.ok(id)
			c.headers(id, false, "x-a", "1")
		}},
		{text: "peer header list size exceeded limit", script: func(c *frameConn, id uint32) {
			c.ok(id, slices.Repeat([]string{"x-a", strings.Repeat("a", 100)}, 400)...)
			c.end(id, "grpc-status", "0")
		}},
		{text: "header list size to send violates the maximum size", script: answer(framed(0, nil)), settings: []http2.Setting{smallHeaders}, md: large},
		{text: httpStatus, script: page("502", "text/html", "")},
		{text: "malformed header: missing HTTP", script: func(c *frameConn, id uint32) { c.headers(id, true, "x-a", "1") }},
		{text: "protocol error: informational header", script: func(c *frameConn, id uint32) { c.headers(id, true, ":status", "100") }},
		{text: rstRefused, script: reset(http2.ErrCodeRefusedStream)},
		{text: "stream terminated by RST_STREAM", script: reset(http2.ErrCodeInternal)},
		{text: "the connection is draining", script: func(c *frameConn, _ uint32) {
			_ = c.framer.WriteGoAway(0, http2.ErrCodeNo, nil) // the call isn't among those it goes on with
		}},
	} {
		u := upstreamTo(t, report.Backend{Target: startFrames(t, c.script, c.settings...).address})
		e := callUpstream(within(t, patience), t, u, nil)
		if c.md != nil { // the backend's settings are known by now
			e = callUpstream(within(t, patience), t, u, c.md)
		}
		got := e.cause
		if _, text, ok := strings.Cut(got, "desc = "); ok { // the cause may be the whole status
			got = text
		}
		i := slices.IndexFunc(localStatuses, func(l localStatus) bool { return strings.HasPrefix(got, l.text) })
		if i < 0 || localStatuses[i].text != c.text {
			t.Errorf("grpc-go says %q, want %q", got, c.text)
			continue
		}
		provoked[c.text] = true
	}
	arrived := make(chan struct{}) // before that, grpc-go has other words for the end
	u, err := New(report.Backend{Target: startFrames(t, func(*frameConn, uint32) { close(arrived) }).address}, testMessages, testHeaderBytes, memory.New(1<<20, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close() // it is closed
	call, err := openCall(within(t, patience), u, Request{Method: testMethod})
	if err != nil {
		t.Fatal(err)
	}
	<-arrived
	_ = u.Close() // the call shows it
	_, err = call.Recv()
	const closing = "grpc: the client connection is closing"
	if e := judge(err); e.origin != report.OriginCulvert || !strings.HasSuffix(e.cause, closing) {
		t.Errorf("when the upstream is closed, a call ends with %v of %s (%s)", e.status, e.origin, e.cause)
	}
	provoked[closing] = true
	for _, l := range localStatuses {
		if !provoked[l.text] {
			t.Errorf("nothing provokes %q", l.text)
		}
	}
}

// TestCausesOfLostConnections: the log has what culvert has read last, with the backend's
// goodbye.
func TestCausesOfLostConnections(t *testing.T) {
	restarting := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
		_ = c.framer.WriteGoAway(id, http2.ErrCodeNo, []byte("restarting \"it\""))
		_ = c.framer.WriteGoAway(id, http2.ErrCodeInternal, nil) // the first counts
		_ = c.flush()
		_ = c.Close()
	}).address})
	const begin, end = "error reading from server: ", `, received prior goaway: code: NO_ERROR, debug data: "restarting \"it\""`
	if e := callUpstream(within(t, patience), t, restarting, nil); !strings.HasPrefix(e.cause, begin) || !strings.HasSuffix(e.cause, end) {
		t.Errorf("a connection that ends after GOAWAY: the cause is %q, want %q and %q in it", e.cause, begin, end)
	}
	cut := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
		c.ok(id)
		_ = c.flush()
		_, _ = c.Write([]byte{0, 0, 8})
		_ = c.Conn.(*net.TCPConn).CloseWrite()
	}).address})
	if e := callUpstream(within(t, patience), t, cut, nil); e.cause != begin+io.ErrUnexpectedEOF.Error() {
		t.Errorf("a connection that ends inside a frame: the cause is %q", e.cause)
	}
}

// TestCauseOfNoAddress: a question that waits for a connection says why there is none.
func TestCauseOfNoAddress(t *testing.T) {
	names := startNameServer(t)
	names.fail(dnsmessage.RCodeNameError, false)
	unnamed := upstreamTo(t, report.Backend{Target: names.target("443")})
	callUpstream(within(t, patience), t, unnamed, nil) // returns when the lookup has failed
	ctx := within(t, 50*time.Millisecond)
	if _, err := unnamed.Services(ctx); err == nil || err.Error() != "server reflection: backend.test: no such host" {
		t.Errorf("a wait for a backend without an address: got %v, want that there is no such host", err)
	}
}

// TestPicksOfGRPCDontWaitForEachOther checks that grpc-go holds no lock while Pick
// waits: a call that waits for a place holds up no other call. Real time runs here,
// because a bubble would hang.
func TestPicksOfGRPCDontWaitForEachOther(t *testing.T) {
	silent := startFrames(t, func(*frameConn, uint32) {}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
	u := upstreamTo(t, report.Backend{Target: silent.address, MaxConnections: 1, QueueTimeout: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	open := func(ctx context.Context) error {
		_, err := openCall(ctx, u, Request{Method: testMethod})
		return err
	}
	if err := open(ctx); err != nil { // it has the only place
		t.Fatal(err)
	}
	waiting.Go(func() { _ = open(ctx) }) // ends with cancel
	stacks := make([]byte, 1<<20)
	poll(t, func() string {
		if !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "(*pool).wait(") {
			return "no call waits for a place"
		}
		return ""
	})
	late, stop := context.WithTimeout(ctx, time.Millisecond)
	defer stop()
	ended := make(chan error, 1)
	waiting.Go(func() { ended <- open(late) })
	if err := await(t, "the end of a call behind one that waits", ended); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ends with %v, want %v", err, context.DeadlineExceeded)
	}
}
