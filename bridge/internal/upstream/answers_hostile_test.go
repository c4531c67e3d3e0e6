package upstream

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// An oddBackend is a backend that answers each call as the call's x-kind says, in odd ways. It
// keeps its places, its windows and its table of headers.
type oddBackend struct {
	mu    sync.Mutex
	conns []*oddConn
}

// An oddConn is one connection to it.
type oddConn struct {
	writing sync.Mutex // held for a header block
	framer  *http2.Framer
	block   bytes.Buffer
	hpack   *hpack.Encoder

	mu      sync.Mutex
	opened  int               // streams
	open    map[uint32]string // their kinds
	broken  string            // the first thing that a client may not do
	window  int
	streams map[uint32]int // their windows
	initial int            // window of a stream
	moved   *sync.Cond
}

const oddPlaces = 8

func (b *oddBackend) serve(conn net.Conn) {
	defer conn.Close()
	c := &oddConn{framer: http2.NewFramer(conn, conn), open: make(map[uint32]string), window: 65535, initial: 65535, streams: make(map[uint32]int)}
	c.moved = sync.NewCond(&c.mu)
	c.hpack = hpack.NewEncoder(&c.block)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	b.mu.Lock()
	b.conns = append(b.conns, c)
	b.mu.Unlock()
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	c.write(func() {
		_ = c.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: oddPlaces})
	})
	var answers sync.WaitGroup
	defer answers.Wait()
	defer c.stop()
	for {
		f, err := c.framer.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.write(func() { _ = c.framer.WriteSettingsAck() })
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				c.write(func() { _ = c.framer.WritePing(true, f.Data) })
			}
		}
		if id, kind := c.note(f); kind != "" {
			answers.Go(func() { c.answer(id, kind) })
		}
	}
}

// note notes a frame, and returns the stream that it begins.
func (c *oddConn) note(f http2.Frame) (id uint32, kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.moved.Broadcast()
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if window, ok := f.Value(http2.SettingInitialWindowSize); ok {
			c.initial = int(window)
		}
	case *http2.WindowUpdateFrame:
		if _, open := c.streams[f.StreamID]; open {
			c.streams[f.StreamID] += int(f.Increment)
		} else if f.StreamID == 0 {
			c.window += int(f.Increment)
		}
	case *http2.MetaHeadersFrame:
		for _, field := range f.Fields {
			if field.Name == "x-kind" {
				kind = field.Value
			}
		}
		id = f.StreamID
		c.opened++
		c.open[id], c.streams[id] = kind, c.initial
		if len(c.open) > oddPlaces && c.broken == "" {
			c.broken = fmt.Sprintf("%d streams are open: %v", len(c.open), c.open)
		}
	case *http2.RSTStreamFrame:
		delete(c.open, f.StreamID)
	}
	return id, kind
}

// stop ends waits for windows.
func (c *oddConn) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.open)
	c.moved.Broadcast()
}

func (c *oddConn) write(do func()) {
	c.writing.Lock()
	defer c.writing.Unlock()
	do()
}

// end notes that the stream has ended for the backend.
func (c *oddConn) end(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, id)
}

// headers writes a block whose fragments have at most this many bytes.
func (c *oddConn) headers(id uint32, end bool, piece int, pad uint8, fields ...string) {
	if end {
		c.end(id) // before the client can know
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.block.Reset()
	if slices.Contains(fields, "x-t") { // golang.org/x/net takes one update in a block
		c.hpack.SetMaxDynamicTableSize(id % 300 * (id % 40))
	}
	for i := 0; i < len(fields); i += 2 {
		_ = c.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	rest := c.block.Bytes()
	n := min(piece, len(rest))
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: rest[:n], EndStream: end, EndHeaders: n == len(rest), PadLength: pad})
	for rest = rest[n:]; len(rest) > 0; rest = rest[n:] {
		n = min(piece, len(rest))
		_ = c.framer.WriteContinuation(id, n == len(rest), rest[:n])
	}
}

// data writes DATA within the windows, unless the stream ends meanwhile.
func (c *oddConn) data(id uint32, b []byte, pad int) {
	for len(b) > 0 {
		n := min(len(b), 8<<10)
		if !c.take(id, n+pad+1) {
			return
		}
		c.write(func() { _ = c.framer.WriteDataPadded(id, false, b[:n], make([]byte, pad)) })
		b = b[n:]
	}
}

// take takes from the windows. It returns false if the stream has ended.
func (c *oddConn) take(id uint32, n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.window < n || c.streams[id] < n {
		if _, open := c.open[id]; !open {
			return false
		}
		c.moved.Wait()
	}
	c.window -= n
	c.streams[id] -= n
	return true
}

const oddLarge = 60 << 10

// odd are the kinds of answers: what the call ends with.
var odd = map[string]codes.Code{
	"plain": 0, "pieces": 0, "trailer pieces": 5, "page": 5, "page at once": 5, "padded": 0, "unreadable": 2, "reset after": 0,
	"lie": 13, "lie unnamed": 13, "flagged empty": 0, "contradiction": 7, "table": 0, "two trailers": 0, "page and trailers": 5,
	"early hints": 0, "hints in pieces": 0, "data first": 0, "no error": 13, "huge": 8, "large page": 5, "reset page": 5, "binary": 0,
}

func (c *oddConn) answer(id uint32, kind string) {
	ok := func(fields ...string) {
		c.headers(id, false, 16<<10, 0, append([]string{":status", "200", "content-type", "application/grpc", "x-n", fmt.Sprint(id % 7)}, fields...)...)
	}
	one := func() { c.data(id, framed(0, []byte("one")), 0) }
	end := func(fields ...string) { c.headers(id, true, 16<<10, 0, append(fields, "x-n", fmt.Sprint(id%5))...) }
	page := func(end bool) {
		c.headers(id, end, 16<<10, 0, ":status", "200", "content-type", "text/html", "grpc-status", "5", "x-n", fmt.Sprint(id%9))
	}
	switch kind {
	case "plain":
		ok()
		one()
		end("grpc-status", "0")
	case "binary":
		ok("x-a-bin", "AAEC,/w,?")
		one()
		end("grpc-status", "0", "x-a-bin", "AAEC,/w==")
	case "pieces":
		c.headers(id, false, 1, 0, ":status", "200", "content-type", "application/grpc", "x-a-bin", "AA,AQ", "x-n", "1")
		one()
		end("grpc-status", "0")
	case "trailer pieces":
		ok()
		one()
		c.headers(id, true, 1, 0, "grpc-status", " 5", "x-a-bin", "AAEC", "x-b-bin", "?", "grpc-message", "not here")
	case "page":
		page(false)
		c.data(id, make([]byte, 10<<10), 0)
	case "large page":
		page(false)
		c.data(id, make([]byte, oddLarge), 7) // until it is reset
	case "page at once":
		page(true)
	case "page and trailers":
		page(false)
		c.data(id, []byte("<html>"), 0)
		end("grpc-status", "0")
	case "reset page":
		page(false)
		c.write(func() { _ = c.framer.WriteRSTStream(id, http2.ErrCodeInternal) })
		c.end(id)
	case "padded":
		c.headers(id, false, 3, 200, ":status", "200", "content-type", "Application/gRPC", "x-n", "2")
		c.data(id, framed(0, pattern(oddLarge)), 255)
		c.headers(id, true, 5, 100, "grpc-status", "0")
	case "unreadable":
		ok()
		one()
		end("grpc-status", "5, 7")
	case "reset after":
		ok()
		one()
		end("grpc-status", "0")
		c.write(func() { _ = c.framer.WriteRSTStream(id, http2.ErrCodeNo) })
	case "lie":
		ok("grpc-encoding", "gzip")
		c.data(id, framed(1, []byte("this isn't gzip")), 0)
		end("grpc-status", "0")
	case "lie unnamed":
		ok()
		c.data(id, framed(1, []byte("this isn't gzip")), 0)
		end("grpc-status", "0")
	case "flagged empty":
		ok("grpc-encoding", "gzip")
		c.data(id, framed(1, nil), 0)
		end("grpc-status", "0")
	case "contradiction":
		ok()
		one()
		end("grpc-status", "7", "grpc-message", "no", "grpc-status-details-bin", "CAU=")
	case "table":
		ok("x-t", strings.Repeat("t", 100))
		one()
		end("grpc-status", "0")
	case "two trailers":
		ok()
		one()
		end("grpc-status", "0")
		end("grpc-status", "9")
	case "early hints":
		c.headers(id, false, 16<<10, 0, ":status", "103", "grpc-status", "9", "x-hint", "1")
		ok()
		one()
		end("grpc-status", "0")
	case "hints in pieces":
		c.headers(id, false, 1, 0, ":status", "103", "x-a-bin", "AA,AQ")
		ok()
		one()
		end("grpc-status", "0")
	case "goaway":
		c.write(func() { _ = c.framer.WriteGoAway(id, http2.ErrCodeNo, nil) })
		page(false)
		c.data(id, make([]byte, 1<<10), 0)
	case "stray continuation":
		ok("x-a-bin", "AA,AQ")
		c.write(func() { _ = c.framer.WriteContinuation(id, true, nil) })
	case "bad table":
		ok("x-a-bin", "AA,AQ")
		c.write(func() {
			_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0xff, 0xff, 0xff, 0x7f}, EndHeaders: true, EndStream: true})
		})
	case "endless block":
		c.write(func() {
			_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id})
			for c.framer.WriteContinuation(id, false, []byte{0, 1, 'x', 1, 'y'}) == nil {
			}
		})
	case "data first":
		one()
		ok()
		end("grpc-status", "0")
	case "no error":
		ok()
		c.write(func() { _ = c.framer.WriteRSTStream(id, http2.ErrCodeNo) })
		c.end(id)
	case "huge":
		ok(slices.Repeat([]string{"x-a", strings.Repeat("a", 100)}, 400)...)
		end("grpc-status", "0")
	case "long":
		ok()
		for range 40 {
			c.data(id, framed(0, pattern(oddLarge)), 0)
		}
		end("grpc-status", "0")
	}
}

func (b *oddBackend) connections() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.conns)
}

func startOdd(t *testing.T) (*oddBackend, *Upstream) {
	t.Helper()
	b := new(oddBackend)
	ln := listen(t, "127.0.0.1:0")
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { b.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close() // only this uses it
		serving.Wait()
	})
	return b, upstreamTo(t, report.Backend{Target: ln.Addr().String()})
}

// TestAnswersThatEndTheConnection end their own call with a status, and the next one has
// another connection.
func TestAnswersThatEndTheConnection(t *testing.T) {
	for kind, want := range map[string]codes.Code{"goaway": codes.NotFound, "stray continuation": codes.Unavailable, "bad table": codes.Unavailable, "endless block": codes.Unavailable} {
		t.Run(kind, func(t *testing.T) {
			_, u := startOdd(t)
			for _, kind := range []string{kind, "plain", "binary", kind, "plain"} {
				e := callUpstream(within(t, patience), t, u, metadata.MD{"x-kind": {kind}})
				code, known := odd[kind]
				if !known {
					code = want
				}
				if e.status.Code() != code {
					t.Errorf("%s: %v (%s, %s), want %v", kind, e.status, e.reason, e.cause, code)
				}
			}
		})
	}
}

// TestOddAnswers: each has its status, one by one and many at once. No place and no window is
// lost, so that long streams flow after them.
func TestOddAnswers(t *testing.T) {
	b, u := startOdd(t)
	ctx := within(t, patience)
	check := func(kind string, want codes.Code) {
		e := callUpstream(ctx, t, u, metadata.MD{"x-kind": {kind}})
		if e.status.Code() != want {
			t.Errorf("%s: %v (%s, %s), want %v", kind, e.status, e.reason, e.cause, want)
		}
		if want == codes.OK && (len(e.messages) != 1) {
			t.Errorf("%s: %d messages", kind, len(e.messages))
		}
	}
	for kind, want := range odd {
		check(kind, want)
		check("plain", codes.OK)
	}
	if n := b.connections(); n != 1 {
		t.Errorf("%d connections for one call at a time", n)
	}
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			for range 3 {
				for kind, want := range odd {
					check(kind, want)
				}
			}
		})
	}
	calls.Wait()
	for range oddPlaces {
		calls.Go(func() {
			if e := callUpstream(ctx, t, u, metadata.MD{"x-kind": {"long"}}); e.status.Code() != codes.OK || len(e.messages) != 40 {
				t.Errorf("a long stream: %v, %d messages", e.status, len(e.messages))
			}
		})
	}
	calls.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	opened := 0
	for _, c := range b.conns {
		poll(t, func() string {
			c.mu.Lock()
			defer c.mu.Unlock()
			if len(c.open) > 0 {
				return fmt.Sprint("streams are open: ", c.open)
			}
			return ""
		})
		if c.broken != "" {
			t.Error(c.broken)
		}
		opened += c.opened
	}
	t.Logf("%d streams on %d connections", opened, len(b.conns))
}
