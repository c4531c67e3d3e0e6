package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/internal/flood"
	"github.com/culvert-grpc/culvert/internal/socket"
)

type conn struct {
	hs       *http.Server
	nc       net.Conn
	handler  http.Handler
	tooLarge http.HandlerFunc // for a header over the limit
	ctx      context.Context  // the connection's own: its end cancels every request
	cancel   context.CancelCauseFunc
	remote   string
	tls      *tls.ConnectionState
	settings settings
	try      func([]byte) (int, error) // writes as much as it can without waiting; nil: nothing does

	// Only the reader uses these.
	in      input
	block   headerBlock
	names   nameCache
	greeted bool // the client's first SETTINGS came
	unacked int  // SETTINGS of ours without an acknowledgement
	blocks  int  // complete header blocks so far
	watched int  // what blocks was when clock.block was set

	goroutines sync.WaitGroup // handlers, the writer, ticks; none is added once closed

	hookMu sync.Mutex // held during ConnState, so that its calls come in order
	busy   bool       // the last state given to ConnState

	mu sync.Mutex

	streams   map[uint32]*stream
	lastID    uint32 // the highest that a client has begun
	taken     uint32 // the highest that is served
	ended     endedStreams
	handlers  int       // running handlers, also those of streams that are over
	lingering int       // streams whose handlers have ended before the request
	left      int       // streams whose answers wait for the client behind their handlers
	unstarted []*stream // streams that wait for a handler's place
	recv      inflow

	out     output
	send    outflow
	initial int64 // the window of a new stream

	goodbye goodbye
	onEnd   func(net.Conn, End)      // Hooks.Ended; nil: not set, or already called
	onPanic func(net.Conn, any)      // Hooks.Panicked; may be nil
	onLeft  func(net.Conn, int) bool // Hooks.Left; may be nil
	useless flood.Allowance          // frames that carried nothing
	wasted  flood.Allowance          // streams that achieved nothing
	closed  bool                     // everything has ended

	clock clock

	pulse      socket.Pulse
	rest       socket.Pulse // for the data that the last stream left unread
	sent       uint64       // bytes of DATA and header blocks sent
	sentBefore uint64       // those before the client was last heard
	asked      uint64       // the value of sent when our last keep-alive ping was queued
	seen       uint64       // the value of sent at the last ping that the client has answered: it has read that much
}

func newConn(ctx context.Context, hs *http.Server, nc net.Conn, h http.Handler, hooks Hooks) *conn {
	c := &conn{
		hs: hs, nc: nc, handler: h,
		remote:   nc.RemoteAddr().String(),
		settings: settingsOf(hs, nc, hooks.Rules),
		onEnd:    hooks.Ended,
		onLeft:   hooks.Left,
		onPanic:  hooks.Panicked,
		tooLarge: hooks.TooLarge,
		try:      socket.TryWriter(nc),
		streams:  make(map[uint32]*stream),
		send:     defaultWindow,
		initial:  defaultWindow,
		unacked:  1,
	}
	c.pulse = socket.Pulse{Conn: nc, Patience: c.settings.SlowConsumer}
	c.rest = socket.Pulse{Conn: nc, Patience: c.settings.SlowConsumer}
	if c.tooLarge == nil {
		c.tooLarge = headerTooLarge
	}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	c.recv = newInflow(c.settings.Window)
	c.block.init(c.settings.headerList)
	c.out.init()
	c.out.write = c.write
	f := c.frames()
	f.b = appendSettings(f.b,
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.settings.Streams)},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.settings.headerList)},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(c.settings.streamWindow)})
	if more := c.settings.Window - defaultWindow; more > 0 {
		f.b = appendWord(f.b, http2.FrameWindowUpdate, 0, uint32(more))
	}
	now := time.Now()
	c.clock = clock{read: now, idle: now, preface: now.Add(c.settings.headerTime)}
	if c.settings.Age > 0 {
		c.clock.age = now.Add(c.settings.Age)
	}
	return c
}

// serve runs the connection until it is over and everything that it started has ended.
func (c *conn) serve(sawPreface bool) {
	defer c.end()
	defer c.catch()
	c.greet()
	if c.tls != nil && !goodTLS(c.tls) {
		c.failed(connError{http2.ErrCodeInadequateSecurity, "HTTP/2 needs TLS 1.2 or newer, and a cipher suite that RFC 9113 allows"})
	}
	if !sawPreface && !c.readPreface() {
		return
	}
	c.awaitSettings()
	c.tell(http.StateActive)
	c.tell(http.StateIdle)
	c.readFrames()
}

func (c *conn) greet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arm()
	c.releaseToFlush()
}

// awaitSettings bounds the time until the client's SETTINGS, which follow its preface.
func (c *conn) awaitSettings() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock.preface = time.Time{}
	c.clock.settings, c.clock.doubts = time.Now().Add(settingsTime), 0
	c.arm()
}

// catch ends a panic on a goroutine of the connection, and closes the connection. It must
// be deferred itself. mu isn't held.
func (c *conn) catch() {
	if v := recover(); v != nil {
		c.tellPanic(v)
		_ = c.nc.Close() // the reader notices the close, and ends the rest
	}
}

// tellPanic reports a panic that a deferred function has recovered.
func (c *conn) tellPanic(v any) {
	if c.onPanic != nil {
		c.onPanic(c.nc, v)
	} else {
		c.logf("h2: panic serving %s: %v\n%s", c.remote, v, debug.Stack())
	}
}

func (c *conn) readPreface() bool {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c, preface); err != nil {
		return false
	}
	if !bytes.Equal(preface, []byte(http2.ClientPreface)) {
		c.logf("h2: %s: the client's preface is invalid", c.remote)
		c.mu.Lock()
		c.goodbye.end = EndProtocol
		c.mu.Unlock()
		return false
	}
	return true
}

// end gives up the remaining streams, and waits for their handlers to notice.
func (c *conn) end() {
	c.closeAll()
	c.tellEnded()
	_ = c.nc.Close() // it is over either way; this frees a write
	c.cancel(nil)
	c.goroutines.Wait()
	c.in.release()
	c.mu.Lock() // server.shutdown may still look
	defer c.mu.Unlock()
	c.out.release()
	if c.goodbye.fault != nil {
		c.logf("h2: %s: %v", c.remote, c.goodbye.fault)
	}
}

func (c *conn) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.closeStreams()
	c.setAlarm(&c.clock.alarm, time.Time{}, nil)
	c.setAlarm(&c.out.later, time.Time{}, nil)
}

// closeStreams ends every stream with the connection. The caller holds mu.
func (c *conn) closeStreams() {
	for _, st := range c.streams {
		st.close(errConnClosed)
	}
	c.unstarted = nil
}

func (c *conn) tell(state http.ConnState) {
	if c.hs.ConnState != nil {
		c.hs.ConnState(c.nc, state)
	}
}

// tellEnded reports why this side ends the connection. It is called before each close,
// so that the hook can still reach the client.
func (c *conn) tellEnded() {
	c.mu.Lock()
	onEnd, why := c.onEnd, c.goodbye.end
	c.onEnd = nil
	c.mu.Unlock()
	if onEnd != nil {
		onEnd(c.nc, why)
	}
}

// tellBusy reports whether there are streams with something to do, if that changed.
func (c *conn) tellBusy() {
	if c.hs.ConnState == nil {
		return
	}
	c.hookMu.Lock()
	defer c.hookMu.Unlock()
	c.mu.Lock()
	busy := len(c.streams) > c.lingering+c.left
	c.mu.Unlock()
	switch {
	case busy == c.busy:
	case busy:
		c.tell(http.StateActive)
	default:
		c.tell(http.StateIdle)
	}
	c.busy = busy
}

func (c *conn) logf(format string, args ...any) {
	if c.hs.ErrorLog != nil {
		c.hs.ErrorLog.Printf(format, args...)
	} else {
		log.Printf(format, args...) //nolint:gosec // as net/http logs without an ErrorLog
	}
}

// goodTLS reports whether a connection meets RFC 9113 §9.2. For TLS 1.2, the RFC
// forbids suites without forward secrecy or authenticated encryption.
func goodTLS(state *tls.ConnectionState) bool {
	if state.Version != tls.VersionTLS12 {
		return state.Version > tls.VersionTLS12
	}
	switch state.CipherSuite {
	case tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256:
		return true
	}
	return false
}

// endedStreams remembers how the last streams ended: frames for them may still be under
// way.
type endedStreams struct {
	last [64]endedStream
	next int
}

type endedStream struct {
	id uint32
	by ender
}

// ender is the side that ended a stream.
type ender byte

const (
	endUnknown ender = iota // long ago, or it never began
	endBoth                 // both sides ended it properly
	endReset                // the client reset it
	endCut                  // this side reset it: the client may not know yet
)

func (e *endedStreams) add(id uint32, by ender) {
	for i := range e.last {
		if e.last[i].id == id {
			e.last[i].by = by
			return
		}
	}
	e.last[e.next%len(e.last)] = endedStream{id, by}
	e.next++
}

func (e *endedStreams) of(id uint32) ender {
	for _, s := range e.last {
		if s.id == id {
			return s.by
		}
	}
	return endUnknown
}
