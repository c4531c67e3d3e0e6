package upstream

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A frameBackend is the upstream's end of HTTP/2, frame by frame, so that it can
// misbehave as no library would. The script runs for each call that begins.
type frameBackend struct {
	address  string
	settings []http2.Setting
	script   func(c *frameConn, stream uint32)
	resets   chan uint32 // streams that are reset; nil: nobody asks

	ln      net.Listener
	mu      sync.Mutex
	conns   map[net.Conn]struct{} // nil: stopped
	serving sync.WaitGroup
}

func startFrames(t testing.TB, script func(c *frameConn, stream uint32), settings ...http2.Setting) *frameBackend {
	t.Helper()
	return startFramesOn(t, listen(t, "127.0.0.1:0"), script, settings...)
}

func startFramesOn(t testing.TB, ln net.Listener, script func(c *frameConn, stream uint32), settings ...http2.Setting) *frameBackend {
	t.Helper()
	b := &frameBackend{settings: settings, script: script, ln: ln, conns: make(map[net.Conn]struct{})}
	b.address = b.ln.Addr().String()
	b.serving.Go(b.accept)
	t.Cleanup(func() {
		_ = b.ln.Close() // only accept uses it
		b.mu.Lock()
		for c := range b.conns {
			_ = c.Close() // its goroutine may have closed it
		}
		b.conns = nil
		b.mu.Unlock()
		b.serving.Wait()
	})
	return b
}

func (b *frameBackend) accept() {
	for {
		conn, err := b.ln.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		if b.conns == nil {
			_ = conn.Close() // stopped meanwhile
		} else {
			b.conns[conn] = struct{}{}
			b.serving.Go(func() { b.serve(conn) })
		}
		b.mu.Unlock()
	}
}

func (b *frameBackend) serve(conn net.Conn) {
	defer conn.Close()
	c := &frameConn{Conn: conn}
	c.framer = http2.NewFramer(&c.out, conn)
	c.hpack = hpack.NewEncoder(&c.block)
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	_ = c.framer.WriteSettings(b.settings...) // to memory, as all of these
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.flush() == nil {
		c.mu.Unlock()
		f, err := c.framer.ReadFrame()
		c.mu.Lock()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = c.framer.WriteSettingsAck()
			}
		case *http2.HeadersFrame:
			b.script(c, f.StreamID)
		case *http2.RSTStreamFrame:
			if b.resets != nil {
				b.resets <- f.StreamID
			}
		}
	}
}

// A frameConn writes frames to memory; they leave when the script returns, or
// by flush.
type frameConn struct {
	net.Conn

	mu         sync.Mutex // held by scripts
	out, block bytes.Buffer
	framer     *http2.Framer
	hpack      *hpack.Encoder
}

func (c *frameConn) flush() error {
	_, err := c.Write(c.out.Bytes())
	c.out.Reset()
	return err
}

// headers writes names and values in turn.
func (c *frameConn) headers(stream uint32, end bool, fields ...string) {
	c.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: true})
	}
	rest := c.block.Bytes()
	first := rest[:min(len(rest), 16<<10)]
	rest = rest[len(first):]
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: end, EndHeaders: len(rest) == 0})
	for len(rest) > 0 {
		next := rest[:min(len(rest), 16<<10)]
		rest = rest[len(next):]
		_ = c.framer.WriteContinuation(stream, len(rest) == 0, next)
	}
}

// ok begins a gRPC answer.
func (c *frameConn) ok(stream uint32, fields ...string) {
	c.headers(stream, false, append([]string{":status", "200", "content-type", "application/grpc"}, fields...)...)
}

func (c *frameConn) data(stream uint32, end bool, b []byte) { _ = c.framer.WriteData(stream, end, b) }

// end writes trailers.
func (c *frameConn) end(stream uint32, fields ...string) { c.headers(stream, true, fields...) }

// An ending is what culvert made of a call.
type ending struct {
	outcome
	header   metadata.MD
	hasHead  bool
	messages [][]byte
	trailer  metadata.MD
}

// callUpstream makes one call as the pump does: a message and the half-close,
// then everything that comes.
func callUpstream(ctx context.Context, t testing.TB, u *Upstream, md metadata.MD) (e ending) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errFinished)
	up, err := openCall(ctx, u, Request{Method: testMethod, Metadata: md})
	if err != nil {
		e.outcome = judge(err)
		return e
	}
	if err := up.Send(mem.BufferSlice{mem.SliceBuffer("hello")}); err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("send: %v", err)
	}
	up.CloseSend()
	e.header, e.hasHead = up.Header()
	for {
		m, err := up.Recv()
		if err == nil {
			e.messages = append(e.messages, m.Materialize())
			m.Free()
			continue
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		e.outcome, e.trailer = judge(err), up.Trailer()
		return e
	}
}

// Limits that are small where a test goes over them.
var testMessages = report.SizeLimit{Bytes: 64 << 10, Key: report.KeyMessageBytes}

const testHeaderBytes = 8 << 10

func upstreamTo(t testing.TB, b report.Backend) *Upstream {
	t.Helper()
	budget := memory.New(1<<30, 0)
	u, err := New(b, testMessages, testHeaderBytes, budget, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		poll(t, func() string { // grpc-go may still be closing a connection that the backend has ended
			if used := budget.Used(); used != 0 {
				return fmt.Sprintf("%d bytes are counted", used)
			}
			return ""
		})
	})
	return u
}

func reset(code http2.ErrCode) func(*frameConn, uint32) {
	return func(c *frameConn, id uint32) { _ = c.framer.WriteRSTStream(id, code) }
}

// page is an answer of what isn't gRPC.
func page(code, contentType, body string) func(*frameConn, uint32) {
	return func(c *frameConn, id uint32) {
		c.headers(id, false, ":status", code, "content-type", contentType)
		c.data(id, true, []byte(body))
	}
}

// brokenPage is the beginning of a page, and what comes in place of the rest.
func brokenPage(code string, bytes int, then func(*frameConn, uint32)) func(*frameConn, uint32) {
	return func(c *frameConn, id uint32) {
		c.headers(id, false, ":status", code, "content-type", "text/html")
		c.data(id, false, pattern(bytes))
		then(c, id)
	}
}

// cutOff ends the connection behind what was written.
func cutOff(c *frameConn, _ uint32) {
	_ = c.flush()
	_ = c.Conn.(*net.TCPConn).CloseWrite()
}

// answer is a gRPC answer of one data frame and trailers of OK.
func answer(data []byte, fields ...string) func(*frameConn, uint32) {
	return func(c *frameConn, id uint32) {
		c.ok(id, fields...)
		rest := data
		for len(rest) > 16<<10 {
			c.data(id, false, rest[:16<<10])
			rest = rest[16<<10:]
		}
		c.data(id, false, rest)
		c.end(id, "grpc-status", "0")
	}
}

// early is an answer whose data comes before its header.
func early(data []byte, fields ...string) func(*frameConn, uint32) {
	return func(c *frameConn, id uint32) {
		c.data(id, false, data)
		c.ok(id, fields...)
		c.end(id, "grpc-status", "0")
	}
}

// then begins an answer with messages in gzip, and ends it otherwise than with trailers.
func then(data []byte, end func(*frameConn, uint32)) func(*frameConn, uint32) {
	return func(c *frameConn, id uint32) {
		c.ok(id, "grpc-encoding", "gzip")
		c.data(id, false, data)
		end(c, id)
	}
}

const html = "<html>a gateway's secret page</html>"

// misbehaving is what backends do in place of an answer, and how their calls end.
var misbehaving = []struct {
	name   string
	script func(*frameConn, uint32)
	code   codes.Code
	reason report.Reason
}{
	// RST_STREAM, by gRPC's own table of codes.
	{"RST NO_ERROR", reset(http2.ErrCodeNo), codes.Internal, report.ReasonUpstreamReset},
	{"RST PROTOCOL_ERROR", reset(http2.ErrCodeProtocol), codes.Internal, report.ReasonUpstreamReset},
	{"RST INTERNAL_ERROR", reset(http2.ErrCodeInternal), codes.Internal, report.ReasonUpstreamReset},
	{"RST FLOW_CONTROL_ERROR", reset(http2.ErrCodeFlowControl), codes.ResourceExhausted, report.ReasonUpstreamReset},
	{"RST SETTINGS_TIMEOUT", reset(http2.ErrCodeSettingsTimeout), codes.Internal, report.ReasonUpstreamReset},
	{"RST STREAM_CLOSED", reset(http2.ErrCodeStreamClosed), codes.Internal, report.ReasonUpstreamReset},
	{"RST FRAME_SIZE_ERROR", reset(http2.ErrCodeFrameSize), codes.Internal, report.ReasonUpstreamReset},
	{"RST REFUSED_STREAM", reset(http2.ErrCodeRefusedStream), codes.Unavailable, report.ReasonUpstreamReset},
	{"RST CANCEL", reset(http2.ErrCodeCancel), codes.Canceled, report.ReasonUpstreamReset},
	{"RST COMPRESSION_ERROR", reset(http2.ErrCodeCompression), codes.Internal, report.ReasonUpstreamReset},
	{"RST CONNECT_ERROR", reset(http2.ErrCodeConnect), codes.Internal, report.ReasonUpstreamReset},
	{"RST ENHANCE_YOUR_CALM", reset(http2.ErrCodeEnhanceYourCalm), codes.ResourceExhausted, report.ReasonUpstreamReset},
	{"RST INADEQUATE_SECURITY", reset(http2.ErrCodeInadequateSecurity), codes.PermissionDenied, report.ReasonUpstreamReset},
	{"RST HTTP_1_1_REQUIRED", reset(http2.ErrCodeHTTP11Required), codes.Internal, report.ReasonUpstreamReset},
	{"RST of an unknown code", reset(0xff), codes.Unknown, report.ReasonUpstreamReset},
	{"RST of an unknown code like REFUSED_STREAM", reset(1<<31 | http2.ErrCodeRefusedStream), codes.Unknown, report.ReasonUpstreamReset},
	{"RST of 5 bytes", func(c *frameConn, id uint32) {
		_ = c.framer.WriteRawFrame(http2.FrameRSTStream, 0, id, make([]byte, 5))
	}, codes.Unavailable, report.ReasonUpstreamReset},
	{"RST after a message", func(c *frameConn, id uint32) {
		c.ok(id)
		c.data(id, false, framed(0, []byte("one")))
		_ = c.framer.WriteRSTStream(id, http2.ErrCodeInternal)
	}, codes.Internal, report.ReasonUpstreamReset},

	// Ends without a status.
	{"END_STREAM on data", func(c *frameConn, id uint32) {
		c.ok(id)
		c.data(id, true, framed(0, []byte("one")))
	}, codes.Internal, report.ReasonMissingTrailers},
	{"END_STREAM on empty data", func(c *frameConn, id uint32) {
		c.ok(id)
		c.data(id, true, nil)
	}, codes.Internal, report.ReasonMissingTrailers},

	{"trailers without a status", func(c *frameConn, id uint32) {
		c.ok(id)
		c.end(id, "x-t", "1")
	}, codes.Unknown, report.ReasonMissingTrailers},
	{"trailers with a message alone", func(c *frameConn, id uint32) {
		c.ok(id)
		c.end(id, "grpc-message", "a secret")
	}, codes.Unknown, report.ReasonMissingTrailers},
	{"a header alone", func(c *frameConn, id uint32) {
		c.end(id, ":status", "200", "content-type", "application/grpc")
	}, codes.Unknown, report.ReasonMissingTrailers},
	{"a header of 503 alone", func(c *frameConn, id uint32) {
		c.end(id, ":status", "503", "content-type", "application/grpc")
	}, codes.Unavailable, report.ReasonMissingTrailers},
	{"403 and trailers without a status", func(c *frameConn, id uint32) {
		c.headers(id, false, ":status", "403", "content-type", "application/grpc")
		c.end(id, "x-t", "1")
	}, codes.PermissionDenied, report.ReasonMissingTrailers},
	{"503 and END_STREAM on data", func(c *frameConn, id uint32) {
		c.headers(id, false, ":status", "503", "content-type", "application/grpc")
		c.data(id, true, nil)
	}, codes.Unavailable, report.ReasonMissingTrailers},

	// The connection's end.
	{"connection closed", func(c *frameConn, _ uint32) { _ = c.Close() }, codes.Unavailable, report.ReasonUpstreamReset},
	{"connection closed after a message", func(c *frameConn, id uint32) {
		c.ok(id)
		c.data(id, false, framed(0, []byte("one")))
		_ = c.flush()
		_ = c.Close()
	}, codes.Unavailable, report.ReasonUpstreamReset},
	{"connection closed inside a message", func(c *frameConn, id uint32) {
		c.ok(id)
		c.data(id, false, framed(0, []byte("one"))[:6])
		_ = c.flush()
		_ = c.Close()
	}, codes.Unavailable, report.ReasonUpstreamReset},
	{"GOAWAY that leaves the call out", func(c *frameConn, _ uint32) {
		_ = c.framer.WriteGoAway(0, http2.ErrCodeNo, nil)
	}, codes.Unavailable, report.ReasonUpstreamReset},
	{"GOAWAY and then the end", func(c *frameConn, id uint32) {
		c.ok(id)
		_ = c.framer.WriteGoAway(id, http2.ErrCodeNo, nil)
		_ = c.flush()
		_ = c.Close()
	}, codes.Unavailable, report.ReasonUpstreamReset},
	{"garbage instead of frames", func(c *frameConn, _ uint32) {
		_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"))
		_ = c.Close()
	}, codes.Unavailable, report.ReasonUpstreamReset},

	// Answers that aren't gRPC, by the HTTP status.
	{"html 200", page("200", "text/html", html), codes.Unknown, report.ReasonUpstreamNotGRPC},
	{"html 302", page("302", "text/html", html), codes.Unknown, report.ReasonUpstreamNotGRPC},
	{"html 400", page("400", "text/html", html), codes.Internal, report.ReasonUpstreamNotGRPC},
	{"html 401", page("401", "text/html", html), codes.Unauthenticated, report.ReasonUpstreamNotGRPC},
	{"html 403", page("403", "text/html", html), codes.PermissionDenied, report.ReasonUpstreamNotGRPC},
	{"html 404", page("404", "text/html", html), codes.Unimplemented, report.ReasonUpstreamNotGRPC},
	{"html 429", page("429", "text/html", html), codes.Unavailable, report.ReasonUpstreamNotGRPC},
	{"html 431", page("431", "text/html", html), codes.Unknown, report.ReasonUpstreamNotGRPC},
	{"html 500", page("500", "text/html", html), codes.Unknown, report.ReasonUpstreamNotGRPC},
	{"html 502", page("502", "text/html", html), codes.Unavailable, report.ReasonUpstreamNotGRPC},
	{"html 503", page("503", "text/html", html), codes.Unavailable, report.ReasonUpstreamNotGRPC},
	{"html 504", page("504", "text/html", html), codes.Unavailable, report.ReasonUpstreamNotGRPC},
	{"html of 1 MiB", page("502", "text/html", strings.Repeat(html, 400)), codes.Unavailable, report.ReasonUpstreamNotGRPC},
	{"html 502, then REFUSED_STREAM", brokenPage("502", 10, reset(http2.ErrCodeRefusedStream)), codes.Unavailable, report.ReasonUpstreamNotGRPC},
	{"html 502 of 2 KiB, then REFUSED_STREAM", brokenPage("502", 2<<10, reset(http2.ErrCodeRefusedStream)), codes.Unavailable, report.ReasonUpstreamNotGRPC},
	{"html 502, then GOAWAY", brokenPage("502", 10, leaveOut), codes.Unavailable, report.ReasonUpstreamNotGRPC},
	{"html 502 of 2 KiB, then GOAWAY", brokenPage("502", 2<<10, leaveOut), codes.Unavailable, report.ReasonUpstreamNotGRPC},
	{"html 404, then INTERNAL_ERROR", brokenPage("404", 10, reset(http2.ErrCodeInternal)), codes.Unimplemented, report.ReasonUpstreamNotGRPC},
	{"html 404, then the connection's end", brokenPage("404", 10, cutOff), codes.Unimplemented, report.ReasonUpstreamNotGRPC},
	{"html 404 of 2 KiB, then the connection's end", brokenPage("404", 2<<10, cutOff), codes.Unimplemented, report.ReasonUpstreamNotGRPC},
	{"502 without a body", func(c *frameConn, id uint32) { c.headers(id, true, ":status", "502") }, codes.Unavailable, report.ReasonUpstreamNotGRPC},
	{"200 of gRPC-Web", page("200", "application/grpc-web", "\x80\x00\x00\x00\x0fgrpc-status: 0\n"), codes.Unknown, report.ReasonUpstreamNotGRPC},
	{"no content type", func(c *frameConn, id uint32) { c.headers(id, true, ":status", "200") }, codes.Unknown, report.ReasonUpstreamNotGRPC},
	{"no status of HTTP", func(c *frameConn, id uint32) { c.headers(id, true, "x-a", "1") }, codes.Internal, report.ReasonUpstreamNotGRPC},
	{"a status of HTTP that is no number", page("abc", "text/html", html), codes.Internal, report.ReasonUpstreamNotGRPC},
	{"100 and the end", func(c *frameConn, id uint32) { c.headers(id, true, ":status", "100") }, codes.Internal, report.ReasonUpstreamNotGRPC},

	// Statuses and metadata that can't be read.
	{"a status that is no number", func(c *frameConn, id uint32) {
		c.ok(id)
		c.end(id, "grpc-status", "OK")
	}, codes.Unknown, report.ReasonUpstreamReset},
	{"a status of 12 digits", func(c *frameConn, id uint32) {
		c.ok(id)
		c.end(id, "grpc-status", "123456789012")
	}, codes.Unknown, report.ReasonUpstreamReset},
	{"an empty status", func(c *frameConn, id uint32) {
		c.ok(id)
		c.end(id, "grpc-status", "")
	}, codes.Unknown, report.ReasonUpstreamReset},
	{"headers in the middle", func(c *frameConn, id uint32) {
		c.ok(id)
		c.headers(id, false, "x-a", "1")
	}, codes.Internal, report.ReasonUpstreamReset},
	{"a name in upper case", func(c *frameConn, id uint32) { c.ok(id, "X-A", "1") }, codes.Internal, report.ReasonUpstreamReset},

	// Messages that can't be read, with trailers of OK behind them.
	{"half a prefix", answer([]byte{0, 0, 0}), codes.Internal, report.ReasonUpstreamReset},
	{"a prefix alone", answer(framed(0, []byte("hello"))[:5]), codes.Internal, report.ReasonUpstreamReset},
	{"half a message", answer(framed(0, []byte("hello"))[:7]), codes.Internal, report.ReasonUpstreamReset},
	{"a reserved flag", answer(framed(2, []byte("hello"))), codes.Internal, report.ReasonUpstreamReset},
	{"compressed without a coding", answer(framed(1, gzipped([]byte("hello")))), codes.Internal, report.ReasonUpstreamReset},
	{"compressed with identity", answer(framed(1, []byte("hello")), "grpc-encoding", "identity"), codes.Internal, report.ReasonUpstreamReset},
	{"compressed with an unknown coding", answer(framed(1, []byte("hello")), "grpc-encoding", "br"), codes.Internal, report.ReasonUpstreamReset},
	{"not gzip", answer(framed(1, []byte("hello")), "grpc-encoding", "gzip"), codes.Internal, report.ReasonUpstreamReset},
	{"broken gzip", answer(framed(1, flip(gzipped(pattern(5000)), 200)), "grpc-encoding", "gzip"), codes.Internal, report.ReasonUpstreamReset},
	{"half a gzip", answer(framed(1, gzipped(pattern(5000))[:200]), "grpc-encoding", "gzip"), codes.Internal, report.ReasonUpstreamReset},
	{"not gzip, then a reset", then(framed(1, []byte("hello")), reset(http2.ErrCodeNo)), codes.Internal, report.ReasonUpstreamReset},
	{"not gzip, then a header", then(framed(1, []byte("hello")), func(c *frameConn, id uint32) { c.ok(id) }), codes.Internal, report.ReasonUpstreamReset},
	{"not gzip, then END_STREAM", then(framed(1, []byte("hello")), func(c *frameConn, id uint32) { c.data(id, true, nil) }), codes.Internal, report.ReasonUpstreamReset},
	{"not gzip, then a reserved flag", then(framed(1, []byte("hello")), func(c *frameConn, id uint32) { c.data(id, true, framed(2, nil)) }), codes.Internal, report.ReasonUpstreamReset},
	{"not gzip behind a reserved flag", then(framed(2, nil), func(c *frameConn, id uint32) { c.data(id, true, framed(1, []byte("hello"))) }), codes.Internal, report.ReasonUpstreamReset},
	{"gzip, then a reset", then(framed(1, gzipped([]byte("hello"))), reset(http2.ErrCodeInternal)), codes.Internal, report.ReasonUpstreamReset},
	{"a bomb, then a reset", then(framed(1, gzipped(make([]byte, 1<<20))), reset(http2.ErrCodeNo)), codes.ResourceExhausted, report.ReasonResponseTooLarge},
	{"a reserved flag before the header", early(framed(2, []byte("hello"))), codes.Internal, report.ReasonUpstreamReset},
	{"a reserved flag before trailers alone", func(c *frameConn, id uint32) {
		c.data(id, false, framed(2, nil))
		c.end(id, ":status", "200", "content-type", "application/grpc", "grpc-status", "0")
	}, codes.Internal, report.ReasonUpstreamReset},
	{"compressed before a header without a coding", early(framed(1, gzipped([]byte("hello")))), codes.Internal, report.ReasonUpstreamReset},
	{"compressed before a header with an unknown coding", early(framed(1, []byte("hello")), "grpc-encoding", "br"), codes.Internal, report.ReasonUpstreamReset},
	{"not gzip before the header", early(framed(1, []byte("hello")), "grpc-encoding", "gzip"), codes.Internal, report.ReasonUpstreamReset},
	{"over the limit before the header", early(framed(0, pattern(64<<10+1))[:100]), codes.ResourceExhausted, report.ReasonResponseTooLarge},
	{"over the limit", answer(framed(0, pattern(64<<10+1))), codes.ResourceExhausted, report.ReasonResponseTooLarge},
	{"4 GiB announced", answer([]byte{0, 0xff, 0xff, 0xff, 0xff, 0}), codes.ResourceExhausted, report.ReasonResponseTooLarge},
	{"a bomb", answer(framed(1, gzipped(make([]byte, 8<<20))), "grpc-encoding", "gzip"), codes.ResourceExhausted, report.ReasonResponseTooLarge},
}

// TestBackendsThatMisbehave holds the table of what grpc-go makes itself to
// backends that really do it. None of these may pass for the backend's own
// word, and none for OK.
func TestBackendsThatMisbehave(t *testing.T) {
	for _, c := range misbehaving {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			u := upstreamTo(t, report.Backend{Target: startFrames(t, c.script).address})
			e := callUpstream(within(t, patience), t, u, nil)
			if e.status.Code() != c.code || e.reason != c.reason || e.origin != report.OriginCulvert {
				t.Fatalf("got %v, %s of %s (%s); want %v, %s of culvert", e.status.Code(), e.reason, e.origin, e.cause, c.code, c.reason)
			}
			info := errorInfo(t, e.status)
			if info.GetReason() != string(c.reason) {
				t.Errorf("the client is told %v, want %s", info, c.reason)
			}
			if got := fmt.Sprint(e.status.Message(), info); strings.Contains(got, "html") || strings.Contains(got, "127.0.0.1") || strings.Contains(got, "secret") {
				t.Errorf("the client is told the inside: %s", got)
			}
			if e.cause == "" {
				t.Error("the log has no cause")
			}
			if e.reason == report.ReasonUpstreamNotGRPC && len(e.cause) > 4<<10 {
				t.Errorf("the log's cause has %d bytes", len(e.cause))
			}
		})
	}
}

// TestWhetherItWasSent: a call that certainly never reached the backend may be
// repeated, and the client is told so.
func TestWhetherItWasSent(t *testing.T) {
	for _, c := range []struct {
		name   string
		script func(*frameConn, uint32)
		want   string
	}{
		{"RST REFUSED_STREAM", reset(http2.ErrCodeRefusedStream), "no"},
		{"GOAWAY that leaves the call out", func(c *frameConn, _ uint32) { _ = c.framer.WriteGoAway(0, http2.ErrCodeNo, nil) }, "no"},
		{"connection closed", func(c *frameConn, _ uint32) { _ = c.Close() }, "maybe"},
		{"connection closed after the header", func(c *frameConn, id uint32) {
			c.ok(id)
			_ = c.flush()
			_ = c.Close()
		}, "maybe"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			u := upstreamTo(t, report.Backend{Target: startFrames(t, c.script).address})
			e := callUpstream(within(t, patience), t, u, nil)
			if got := errorInfo(t, e.status).GetMetadata()["sent"]; got != c.want || e.status.Code() != codes.Unavailable {
				t.Errorf("got %v, sent=%s (%s); want UNAVAILABLE, sent=%s", e.status.Code(), got, e.cause, c.want)
			}
		})
	}
}

// TestMessagesBeforeTheBreakArrive: what came whole is passed on, and then
// comes the break.
func TestMessagesBeforeTheBreakArrive(t *testing.T) {
	u := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
		c.ok(id, "x-a", "1")
		c.data(id, false, append(framed(0, []byte("one")), framed(1, gzipped([]byte("two")))...))
		c.data(id, false, framed(0, []byte("three"))[:6])
		c.end(id, "grpc-status", "0")
	}).address})
	e := callUpstream(within(t, patience), t, u, nil)
	// The second isn't readable without a coding, so the first is all.
	if len(e.messages) != 1 || string(e.messages[0]) != "one" || e.status.Code() != codes.Internal {
		t.Errorf("got %q and %v, want one message and INTERNAL", e.messages, e.status)
	}
	if !e.hasHead || e.header.Get("x-a")[0] != "1" {
		t.Errorf("got the header %v, want x-a: 1", e.header)
	}
}

// wordsOfGRPC are beginnings of statuses that grpc-go makes itself.
var wordsOfGRPC = map[string]codes.Code{
	"grpc: received message larger than max (65537 vs. 65536)":         codes.ResourceExhausted,
	"grpc: received message after decompression larger than max 65536": codes.ResourceExhausted,
	"unexpected EOF": codes.Internal,
	"grpc: failed to decompress the message: EOF":                      codes.Internal,
	"grpc: Decompressor is not installed":                              codes.Internal,
	"grpc: compressed flag set with identity or empty encoding":        codes.Internal,
	"grpc: received unexpected payload format":                         codes.Internal,
	"transport: malformed grpc-status: ":                               codes.Unknown,
	"transport: malformed http-status":                                 codes.Internal,
	"server closed the stream without sending trailers":                codes.Internal,
	"a HEADERS frame cannot appear in the middle of a stream":          codes.Internal,
	"peer header list size exceeded limit":                             codes.Internal,
	"header list size to send violates the maximum size":               codes.Internal,
	"unexpected HTTP status code received from server: 502":            codes.Unavailable,
	"malformed header: missing HTTP content-type":                      codes.Internal,
	"protocol error: informational header":                             codes.Internal,
	"stream terminated by RST_STREAM with error code: REFUSED_STREAM":  codes.Unavailable,
	"stream terminated by RST_STREAM with error code: INTERNAL_ERROR":  codes.Internal,
	"the connection is draining":                                       codes.Unavailable,
	"the stream is rejected because server is draining the connection": codes.Unavailable,
	"grpc: the client connection is closing":                           codes.Canceled,
	"keepalive ping failed to receive ACK within timeout":              codes.Unavailable,
	"connection error: desc = \"error reading from server: EOF\"":      codes.Unavailable,
}

// TestBackendsOwnWordsPass: a status that came in trailers passes untouched,
// whatever its words, also grpc-go's own.
func TestBackendsOwnWordsPass(t *testing.T) {
	var own []*status.Status
	for text, code := range wordsOfGRPC {
		own = append(own, status.New(code, text), status.New(code, text+" or so"))
		with, err := status.New(code, text).WithDetails(&errdetails.ErrorInfo{Reason: "OWN", Domain: "backend"})
		if err != nil {
			t.Fatal(err)
		}
		own = append(own, with)
	}
	own = append(own,
		status.New(codes.Unavailable, "the backend's own backend is down"),
		status.New(codes.Canceled, "context canceled"),
		status.New(codes.DeadlineExceeded, "context deadline exceeded"),
		status.New(codes.Internal, "unexpected EOF while reading the config"),
		status.New(codes.Unavailable, "unexpected EOF"),
		status.New(codes.ResourceExhausted, "grpc: received message larger than max (5 vs. 4)"), // not culvert's limit
		status.New(codes.Unknown, ""),
		status.New(codes.Code(17), "a code of its own"),
		status.New(codes.OK, ""),
	)
	var next *status.Status
	address := startBackend(t, func(ss grpc.ServerStream) error {
		ss.SetTrailer(metadata.Pairs("x-t", "1"))
		return next.Err()
	})
	u := upstreamTo(t, report.Backend{Target: address})
	for _, next = range own {
		e := callUpstream(within(t, patience), t, u, nil)
		if e.origin != report.OriginUpstream || e.status.Code() != next.Code() || e.status.Message() != next.Message() || len(e.status.Details()) != len(next.Details()) {
			t.Errorf("%v became %v of %s (%s)", next, e.status, e.origin, e.reason)
		}
		if got := e.trailer.Get("x-t"); len(got) != 1 {
			t.Errorf("%v: got the trailer %v, want x-t in it", next, e.trailer)
		}
	}
}

// TestBackendsOwnSizeLimitPasses: a backend that has announced a compressed answer
// refuses a request over its own limit in grpc-go's words.
func TestBackendsOwnSizeLimitPasses(t *testing.T) {
	own := status.New(codes.ResourceExhausted, "grpc: received message after decompression larger than max 4")
	address := startBackend(t, func(ss grpc.ServerStream) error {
		if err := errors.Join(grpc.SetSendCompressor(ss.Context(), "gzip"), ss.SendHeader(nil)); err != nil {
			t.Error(err)
		}
		return own.Err()
	})
	e := callUpstream(within(t, patience), t, upstreamTo(t, report.Backend{Target: address}), nil)
	if e.origin != report.OriginUpstream || e.status.Message() != own.Message() {
		t.Errorf("%v became %v of %s (%s)", own, e.status, e.origin, e.reason)
	}
}

// TestTrailersWithoutAStatusAreNoOK, and neither is a status below zero.
func TestTrailersWithoutAStatusAreNoOK(t *testing.T) {
	for _, c := range []struct {
		fields []string
		want   codes.Code
	}{
		{[]string{"x-t", "1"}, codes.Unknown},
		{[]string{"grpc-message", "fine"}, codes.Unknown},
		{[]string{"grpc-status", "-1"}, codes.Code(1<<32 - 1)},
		{[]string{"grpc-status", "99"}, codes.Code(99)},
	} {
		u := upstreamTo(t, report.Backend{Target: startFrames(t, func(fc *frameConn, id uint32) {
			fc.ok(id)
			fc.data(id, false, framed(0, []byte("one")))
			fc.end(id, c.fields...)
		}).address})
		if e := callUpstream(within(t, patience), t, u, nil); e.status.Code() != c.want {
			t.Errorf("%q: got %v, want %v", c.fields, e.status, c.want)
		}
	}
}

// TestTrailersOnlyAnswerHasNoHeader, and one with a header has it, though it
// be empty of the backend's own.
func TestTrailersOnlyAnswerHasNoHeader(t *testing.T) {
	u := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
		c.headers(id, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "5", "grpc-message", "no caf%C3%A9", "x-t", "1")
	}).address})
	e := callUpstream(within(t, patience), t, u, nil)
	if e.hasHead || e.origin != report.OriginUpstream || e.status.Code() != codes.NotFound || e.status.Message() != "no caf\u00e9" || len(e.trailer.Get("x-t")) != 1 {
		t.Errorf("got a header: %v, %v of %s, the trailer %v; want NOT_FOUND of the upstream alone", e.hasHead, e.status, e.origin, e.trailer)
	}
	u = upstreamTo(t, report.Backend{Target: startFrames(t, answer(framed(0, nil))).address})
	if e := callUpstream(within(t, patience), t, u, nil); !e.hasHead || e.origin != report.OriginUpstream || e.status.Code() != codes.OK || len(e.messages) != 1 {
		t.Errorf("got a header: %v, %v of %s, %d messages; want a header, one message and OK", e.hasHead, e.status, e.origin, len(e.messages))
	}
}

func TestRequestMetadataThatTheBackendRefuses(t *testing.T) {
	b := startFrames(t, answer(framed(0, nil)), http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 4 << 10})
	u := upstreamTo(t, report.Backend{Target: b.address})
	if e := callUpstream(within(t, patience), t, u, nil); e.status.Code() != codes.OK { // the settings are known now
		t.Fatalf("a small request: %v", e.status)
	}
	e := callUpstream(within(t, patience), t, u, metadata.Pairs("x-a", strings.Repeat("a", 5<<10)))
	if e.status.Code() != codes.ResourceExhausted || e.reason != report.ReasonMetadataTooLarge {
		t.Errorf("got %v, %s (%s); want RESOURCE_EXHAUSTED, %s", e.status, e.reason, e.cause, report.ReasonMetadataTooLarge)
	}
}

// TestEndOfTheCallsOwn: when the call's context ended, its cause is the end,
// not the words grpc-go finds for it.
func TestEndOfTheCallsOwn(t *testing.T) {
	silent := startFrames(t, func(*frameConn, uint32) {})
	u := upstreamTo(t, report.Backend{Target: silent.address})
	for _, cause := range []*report.Fault{report.New(report.ReasonClientGone, "gone"), report.New(report.ReasonDraining, "draining"), report.New(report.ReasonSlowConsumer, "slow")} {
		ctx, cancel := context.WithCancelCause(within(t, patience))
		up, err := openCall(ctx, u, Request{Method: testMethod})
		if err != nil {
			t.Fatal(err)
		}
		cancel(cause)
		_, err = up.Recv()
		if v := judge(err); v.reason != cause.Reason {
			t.Errorf("got %v of %s, want %s", v.status, v.reason, cause.Reason)
		}
	}
	ctx, stop := context.WithDeadlineCause(within(t, patience), time.Now().Add(50*time.Millisecond), errDeadline)
	defer stop()
	if e := callUpstream(ctx, t, u, nil); e.reason != report.ReasonDeadlineExceeded || e.origin != report.OriginCulvert {
		t.Errorf("got %v of %s for %s, want %s of culvert", e.status, e.origin, e.reason, report.ReasonDeadlineExceeded)
	}
}

// openCall opens a call whose waiting cancels what is derived from ctx.
func openCall(ctx context.Context, u *Upstream, r Request) (*Stream, error) {
	ctx, giveUp := context.WithCancelCause(ctx)
	return openWith(ctx, u, giveUp, r)
}

// openWith opens a call, with an id if it has none.
func openWith(ctx context.Context, u *Upstream, giveUp context.CancelCauseFunc, r Request) (*Stream, error) {
	if r.ID == "" {
		r.ID = rand.Text()
	}
	if r.Metadata[idHeader] == nil {
		r.Metadata = metadata.Join(r.Metadata, metadata.Pairs(idHeader, r.ID))
	}
	return u.Open(ctx, giveUp, r)
}
