package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// Helpers that several packages share, by short names.
const patience = parts.Patience

var within = parts.Within

func listen(t testing.TB) net.Listener {
	t.Helper()
	return parts.Listen(t, "127.0.0.1:0")
}

// newHTTPServer returns a server as bridge has it, not yet serving.
func newHTTPServer(handler http.Handler) *http.Server {
	hs := &http.Server{
		Handler:           handler,
		Protocols:         new(http.Protocols),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(io.Discard, "", 0),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          100,
			MaxReceiveBufferPerStream:     64 << 10,
			MaxReceiveBufferPerConnection: 100*64<<10 + 1<<20,
			SendPingTimeout:               20 * time.Second,
			PingTimeout:                   10 * time.Second,
		},
	}
	hs.Protocols.SetHTTP1(true)
	hs.Protocols.SetHTTP2(true)
	hs.Protocols.SetUnencryptedHTTP2(true)
	return hs
}

// serve serves the handler on loopback until the test ends, and returns the
// address. adjust changes the server before.
func serve(t testing.TB, handler http.HandlerFunc, adjust ...func(*http.Server)) string {
	t.Helper()
	ln := listen(t)
	serveOn(t, ln, handler, adjust...)
	return ln.Addr().String()
}

// with returns a Hooks.Rules that changes those of newHTTPServer.
func with(change func(*Rules)) func(net.Conn) Rules {
	rules := settingsOf(newHTTPServer(nil), nil, nil).Rules
	change(&rules)
	return func(net.Conn) Rules { return rules }
}

// serveHooked is serve with hooks.
func serveHooked(t testing.TB, hooks Hooks, handler http.HandlerFunc) string {
	t.Helper()
	ln := listen(t)
	serveWith(t, ln, hooks, handler)
	return ln.Addr().String()
}

func serveOn(t testing.TB, ln net.Listener, handler http.HandlerFunc, adjust ...func(*http.Server)) *http.Server {
	t.Helper()
	return serveWith(t, ln, Hooks{}, handler, adjust...)
}

func serveWith(t testing.TB, ln net.Listener, hooks Hooks, handler http.HandlerFunc, adjust ...func(*http.Server)) *http.Server {
	t.Helper()
	hs := newHTTPServer(handler)
	for _, f := range adjust {
		f(hs)
	}
	var conns sync.WaitGroup // each until its last handler has returned
	state := hs.ConnState
	hs.ConnState = func(c net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			conns.Add(1)
		case http.StateClosed:
			conns.Done()
		}
		if state != nil {
			state(c, s)
		}
	}
	Configure(hs, hooks)
	var serving sync.WaitGroup
	serving.Go(func() { _ = hs.Serve(ln) }) // ends with Close
	t.Cleanup(func() {
		_ = hs.Close() // the listener may be closed already
		serving.Wait()
		conns.Wait()
	})
	return hs
}

// pipeListener hands out the server's ends of pipes, for tests in a bubble.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// A peer is a client that holds its end of the wire itself.
type peer struct {
	t      testing.TB
	conn   net.Conn
	framer *http2.Framer
	out    bytes.Buffer
	block  bytes.Buffer
	enc    *hpack.Encoder
}

// dialPeer returns a peer whose SETTINGS are exchanged.
func dialPeer(t testing.TB, address string, settings ...http2.Setting) *peer {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, conn)
	_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
	p.greet(settings...)
	return p
}

func newPeer(t testing.TB, conn net.Conn) *peer {
	p := &peer{t: t, conn: conn}
	t.Cleanup(func() { _ = conn.Close() }) // a test may have
	p.framer = http2.NewFramer(&p.out, conn)
	p.framer.AllowIllegalWrites = true
	p.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.enc = hpack.NewEncoder(&p.block)
	return p
}

// greet exchanges SETTINGS.
func (p *peer) greet(settings ...http2.Setting) {
	p.t.Helper()
	p.out.WriteString(http2.ClientPreface)
	p.must(p.framer.WriteSettings(settings...))
	p.flush()
	acked, got := false, false
	for !acked || !got {
		f := p.next()
		s, ok := f.(*http2.SettingsFrame)
		switch {
		case ok && s.IsAck():
			acked = true
		case ok:
			got = true
			p.must(p.framer.WriteSettingsAck())
			p.flush()
		default:
			if _, ok := f.(*http2.WindowUpdateFrame); !ok {
				p.t.Fatalf("%v while SETTINGS are exchanged", f)
			}
		}
	}
}

func (p *peer) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// awaitServer waits until the server has processed all frames before.
func (p *peer) awaitServer() {
	p.t.Helper()
	p.must(p.framer.WritePing(false, [8]byte{1})) // its answer comes behind them
	p.flush()
	for {
		if f, ok := p.next().(*http2.PingFrame); ok && f.IsAck() {
			return
		}
	}
}

// flush sends what was written.
func (p *peer) flush() {
	p.t.Helper()
	_, err := p.conn.Write(p.out.Bytes())
	p.out.Reset()
	p.must(err)
}

// next returns the next frame.
func (p *peer) next() http2.Frame {
	p.t.Helper()
	f, err := p.framer.ReadFrame()
	if err != nil {
		p.t.Fatalf("no frame but %v", err)
	}
	return f
}

// fields encodes a header block of names and values.
func (p *peer) fields(list ...string) []byte {
	p.block.Reset()
	for i := 0; i < len(list); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: list[i], Value: list[i+1]}) // to memory
	}
	return bytes.Clone(p.block.Bytes())
}

var post = []string{":method", "POST", ":scheme", "http", ":authority", "localhost", ":path", "/a.B/C"}

// headers writes a request's header of post and more.
func (p *peer) headers(id uint32, end bool, more ...string) {
	p.raw(id, end, append(append([]string{}, post...), more...)...)
}

// raw writes a header block.
func (p *peer) raw(id uint32, end bool, list ...string) {
	p.must(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.fields(list...), EndStream: end, EndHeaders: true}))
}

func (p *peer) data(id uint32, end bool, data string) {
	p.must(p.framer.WriteData(id, end, []byte(data)))
}

// A reply is what a stream came to.
type reply struct {
	header, trailer map[string][]string // names in lower case
	body            string
	frames          int // of DATA
	ended           bool
	reset           http2.ErrCode
	wasReset        bool
}

// status is what the header says.
func (r *reply) status() string { return field(r.header, ":status") }

// field is the first value of a name in lower case.
func field(fields map[string][]string, name string) string {
	if len(fields[name]) == 0 {
		return ""
	}
	return fields[name][0]
}

func (r *reply) String() string {
	s := fmt.Sprintf("%s %q", r.status(), r.body)
	if r.wasReset {
		s += " " + r.reset.String()
	}
	return s
}

// await reads until the stream has ended, and returns what came of it. Pings
// are answered, windows are opened again.
func (p *peer) await(id uint32) *reply {
	p.t.Helper()
	r := &reply{}
	for !r.ended && !r.wasReset {
		p.note(p.next(), id, r)
	}
	return r
}

// note takes in one frame.
func (p *peer) note(f http2.Frame, id uint32, r *reply) {
	p.t.Helper()
	switch f := f.(type) {
	case *http2.PingFrame:
		if !f.IsAck() {
			p.must(p.framer.WritePing(true, f.Data))
			p.flush()
		}
	case *http2.GoAwayFrame:
		if f.ErrCode != http2.ErrCodeNo {
			p.t.Fatalf("GOAWAY %v: %s", f.ErrCode, f.DebugData())
		}
	case *http2.MetaHeadersFrame:
		if f.StreamID != id {
			return
		}
		h := map[string][]string{}
		for _, field := range f.Fields {
			h[field.Name] = append(h[field.Name], field.Value)
		}
		if r.header == nil || strings.HasPrefix(r.header[":status"][0], "1") {
			r.header = h
		} else {
			r.trailer = h
		}
		r.ended = f.StreamEnded()
	case *http2.DataFrame:
		if n := uint32(len(f.Data())); n > 0 {
			p.must(p.framer.WriteWindowUpdate(0, n))
			if f.StreamID == id && !f.StreamEnded() {
				p.must(p.framer.WriteWindowUpdate(id, n))
			}
			p.flush()
		}
		if f.StreamID == id {
			r.body += string(f.Data())
			r.frames++
			r.ended = f.StreamEnded()
		}
	case *http2.RSTStreamFrame:
		if f.StreamID == id {
			r.wasReset, r.reset = true, f.ErrCode
		}
	}
}

// wantReset reads until the stream is reset, and compares the code.
func (p *peer) wantReset(id uint32, want http2.ErrCode) {
	p.t.Helper()
	if r := p.await(id); !r.wasReset || r.reset != want {
		p.t.Errorf("the stream ended as %v, want it reset with %v", r, want)
	}
}

// wantGoAway reads until GOAWAY, compares the code, and wants the connection
// closed then.
func (p *peer) wantGoAway(want http2.ErrCode) {
	p.t.Helper()
	for {
		f, err := p.framer.ReadFrame()
		if err != nil {
			p.t.Errorf("the connection ended with %v, want GOAWAY %v", err, want)
			return
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			if g.ErrCode != want {
				p.t.Errorf("GOAWAY %v (%s), want %v", g.ErrCode, g.DebugData(), want)
			}
			break
		}
	}
	p.wantClosed()
}

func (p *peer) wantClosed() {
	p.t.Helper()
	for {
		_, err := p.framer.ReadFrame()
		if err == nil || errors.As(err, new(http2.StreamError)) {
			continue
		}
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			p.t.Error("the connection stays open")
		}
		return
	}
}

// wantAlive shows that the connection serves on.
func (p *peer) wantAlive(id uint32) {
	p.t.Helper()
	p.raw(id, true, ":method", "GET", ":scheme", "http", ":authority", "localhost", ":path", "/alive")
	p.flush()
	if r := p.await(id); r.status() == "" {
		p.t.Errorf("the next request ended as %v", r)
	}
}

// echo answers with what it is sent, as it comes.
func echo(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	_ = rc.Flush() // the copy finds the error again
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
			if rc.Flush() != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// h2c returns net/http's client with prior knowledge.
func h2c(t testing.TB) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func await[T any](t testing.TB, what string, event <-chan T) T {
	t.Helper()
	return parts.Await(t, what, event)
}
