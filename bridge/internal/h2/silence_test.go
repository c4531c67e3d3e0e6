package h2

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// TestPingBehindData: a client that was sent data since it was last heard may be
// reading that. Behind little it has 45 s to answer; behind much it is given up when it has
// taken nothing for too long.
func TestPingBehindData(t *testing.T) {
	const patience = 2 * time.Minute
	var ends []End
	hooks := Hooks{Rules: with(func(r *Rules) { r.SlowConsumer = patience }), Ended: func(_ net.Conn, why End) { ends = append(ends, why) }}
	var causes []error
	bytes := 33 << 10
	answer := func(w http.ResponseWriter, r *http.Request) {
		<-time.After(15 * time.Second)
		_, _ = w.Write(make([]byte, bytes))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		causes = append(causes, context.Cause(r.Context()))
	}
	inHookedBubble(t, hooks, answer, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.hello()
		p.headers(1, true)
		p.flush()
		wantCame(t, p.elapse(20*time.Second), "HEADERS", "DATA", "DATA", "DATA", "PING alive")
		wantCame(t, p.elapse(30*time.Second))
		p.must(p.framer.WritePing(true, keepAlivePing)) // it has read all
		p.flush()
		wantCame(t, p.elapse(20*time.Second), "PING alive")
		wantCame(t, p.elapse(10*time.Second), "GOAWAY NO_ERROR for all", "PING goodbye", "GOAWAY NO_ERROR", "DATA")
		p.elapse(goodbyeTime)
		p.wantClosed(80*time.Second + goodbyeTime)
	})
	inHookedBubble(t, hooks, answer, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.hello()
		p.headers(1, true)
		p.flush()
		wantCame(t, p.elapse(20*time.Second), "HEADERS", "DATA", "DATA", "DATA", "PING alive")
		wantCame(t, p.elapse(patience-1))
		wantCame(t, p.elapse(1), "GOAWAY NO_ERROR for all", "PING goodbye", "GOAWAY NO_ERROR", "DATA")
		p.elapse(goodbyeTime)
		p.wantClosed(20*time.Second + patience + goodbyeTime)
	})
	bytes = 9
	inHookedBubble(t, hooks, answer, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.hello()
		p.headers(1, true)
		p.flush()
		wantCame(t, p.elapse(20*time.Second), "HEADERS", "DATA", "PING alive")
		wantCame(t, p.elapse(25*time.Second-1))
		wantCame(t, p.elapse(1), "GOAWAY NO_ERROR for all", "PING goodbye", "GOAWAY NO_ERROR", "DATA")
		p.elapse(goodbyeTime)
		p.wantClosed(45*time.Second + goodbyeTime)
	})
	if want := []End{EndSilent, EndSlow, EndSilent}; !slices.Equal(ends, want) {
		t.Errorf("the connections ended as %q, want %q", ends, want)
	}
	if len(causes) != 3 || !errors.Is(causes[0], socket.ErrNoPong) || !errors.Is(causes[1], socket.ErrStalled) || !errors.Is(causes[2], socket.ErrNoPong) {
		t.Errorf("the requests' contexts ended with %v", causes)
	}
}

// TestPingBehindAClosedWindow: data that waits for a window is on its way, too.
func TestPingBehindAClosedWindow(t *testing.T) {
	const patience = 2 * time.Minute
	var ends []End
	hooks := Hooks{Rules: with(func(r *Rules) { r.SlowConsumer = patience }), Ended: func(_ net.Conn, why End) { ends = append(ends, why) }}
	answer := func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(make([]byte, 100_000)) // more than the window of 65,535 bytes
		<-r.Context().Done()
	}
	inHookedBubble(t, hooks, answer, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.hello()
		p.headers(1, true)
		p.flush()
		p.elapse(10 * time.Second)
		p.must(p.framer.WritePing(false, [8]byte{1})) // it has read all, and stands still from here on
		p.flush()
		wantCame(t, p.elapse(20*time.Second), "PING \x01", "PING alive")
		wantCame(t, p.elapse(patience-1))
		wantCame(t, p.elapse(1), "GOAWAY NO_ERROR for all", "PING goodbye", "GOAWAY NO_ERROR")
		p.elapse(goodbyeTime)
		p.wantClosed(30*time.Second + patience + goodbyeTime)
	})
	if want := []End{EndSlow}; !slices.Equal(ends, want) {
		t.Errorf("the connection ended as %q, want %q", ends, want)
	}
}

// A hold keeps a connection's reader from reading: as when this process stands
// still, or has too much else to do.
type hold struct {
	on    atomic.Bool
	began chan struct{} // one place: a read waits
	over  chan struct{}
}

type heldConn struct {
	net.Conn
	*hold
}

func (c heldConn) NetConn() net.Conn { return c.Conn }

func (c heldConn) Read(p []byte) (int, error) {
	if c.on.Load() {
		select {
		case c.began <- struct{}{}:
		default:
		}
		<-c.over
	}
	return c.Conn.Read(p)
}

type heldListener struct {
	net.Listener
	*hold
}

func (l heldListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return heldConn{c, l.hold}, nil
}

// TestWaitingBytesAreReadFirst: SETTINGS and pongs that have come in time count,
// although nobody got to read them in time.
func TestWaitingBytesAreReadFirst(t *testing.T) {
	for name, c := range map[string]struct {
		first string // bytes that the reader still gets
		rest  func(p *peer)
		late  time.Duration // when the reader goes on
	}{
		"SETTINGS": {"\x00", func(p *peer) { p.out.WriteString("\x00\x00\x04\x00\x00\x00\x00\x00") }, settingsTime + 500*time.Millisecond},
		"pong": {"\x00\x00\x00\x04\x00\x00\x00\x00\x00", func(p *peer) {
			p.wantPing(keepAlivePing)
			p.must(p.framer.WritePing(true, keepAlivePing))
		}, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &hold{began: make(chan struct{}, 1), over: make(chan struct{})}
			ln := listen(t)
			ends := make(chan End, 1)
			hooks := Hooks{Ended: func(_ net.Conn, why End) { ends <- why }}
			serveWith(t, heldListener{ln, h}, hooks, stuck, func(hs *http.Server) {
				hs.HTTP2.SendPingTimeout, hs.HTTP2.PingTimeout = 2*time.Second, 2*time.Second // in which a busy machine answers
			})
			var d net.Dialer
			conn, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			p := newPeer(t, conn)
			_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
			p.out.WriteString(http2.ClientPreface)
			p.flush()
			if f, ok := p.next().(*http2.SettingsFrame); !ok {
				t.Fatalf("%v came, want SETTINGS", f)
			}
			h.on.Store(true)
			p.out.WriteString(c.first)
			p.flush()
			<-h.began
			c.rest(p)
			p.flush()
			<-time.After(c.late)
			h.on.Store(false)
			close(h.over)
			p.must(p.framer.WritePing(false, [8]byte{1}))
			p.flush()
			p.wantPing([8]byte{1})
			select {
			case why := <-ends:
				t.Errorf("the connection has ended: %q", why)
			default:
			}
		})
	}
}

// A feedConn calls feed when the reader is asked whether anything is left to read.
type feedConn struct {
	net.Conn
	feed func(net.Conn)
}

func (c feedConn) NetConn() net.Conn { return c.Conn }

func (c feedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.feed(c.Conn)
	}
	return n, err
}

type feedListener struct {
	net.Listener
	feed func(net.Conn)
}

func (l feedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return feedConn{c, l.feed}, nil
}

// TestDoubtsEnd: a client that has a byte of its header waiting each time the
// reader looks isn't waited for without end.
func TestDoubtsEnd(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	begun := make(chan *peer, 1) // whose header has begun
	rest := make(chan byte, 2*maxDoubts)
	var p *peer
	feed := func(server net.Conn) {
		if p == nil {
			select {
			case p = <-begun:
			default:
				return // still the preface, on a busy machine
			}
		}
		select {
		case b := <-rest:
			_, _ = p.conn.Write([]byte{b}) // culvert may have closed
		default:
			t.Error("culvert is still waiting for the header")
			_ = p.conn.Close()
		}
		missing := func() string {
			if !socket.Readable(server) {
				return "the byte isn't there to be read"
			}
			return ""
		}
		if problem := parts.PollFor(patience, missing); problem != "" {
			t.Error(problem)
		}
	}
	serveWith(t, feedListener{ln, feed}, Hooks{}, stuck, func(hs *http.Server) { hs.ReadHeaderTimeout = 500 * time.Millisecond })
	client := dialPeer(t, ln.Addr().String())
	client.headers(1, true)
	frame := bytes.Clone(client.out.Bytes())
	client.out.Reset()
	client.out.Write(frame[:frameHeaderBytes+1])
	for _, b := range frame[frameHeaderBytes+1:][:cap(rest)] {
		rest <- b
	}
	begun <- client
	client.flush()
	for {
		if f, ok := client.next().(*http2.GoAwayFrame); ok {
			if f.ErrCode != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("GOAWAY %v came, want ENHANCE_YOUR_CALM", f.ErrCode)
			}
			break
		}
	}
	if asked := cap(rest) - len(rest); asked != maxDoubts {
		t.Errorf("the reader was asked %d times, want %d", asked, maxDoubts)
	}
}

// wantPing reads to a PING, or an answer to one, with the data.
func (p *peer) wantPing(data [8]byte) {
	p.t.Helper()
	for {
		switch f := p.next().(type) {
		case *http2.PingFrame:
			if f.Data == data {
				return
			}
		case *http2.GoAwayFrame:
			p.t.Fatalf("GOAWAY %v came, want PING %q", f.ErrCode, data)
		}
	}
}

// TestClientThatOnlySpeaks: a client that takes nothing of what its last stream
// left is cut, although it goes on sending.
func TestClientThatOnlySpeaks(t *testing.T) {
	ln := listen(t)
	ends := make(chan End, 1)
	hooks := Hooks{
		Rules: with(func(r *Rules) { r.Idle, r.Age, r.SlowConsumer = 300*time.Millisecond, time.Second, time.Second }),
		Ended: func(_ net.Conn, why End) { ends <- why },
	}
	filled := make(chan struct{})
	serveWith(t, ln, hooks, func(w http.ResponseWriter, _ *http.Request) {
		full := sync.OnceFunc(func() { close(filled) })
		wrote := time.AfterFunc(time.Second, full)
		for piece := make([]byte, 64<<10); ; wrote.Reset(time.Second) {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	})
	p := dialPeer(t, ln.Addr().String(), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	p.must(p.framer.WriteWindowUpdate(0, 1<<30))
	p.headers(1, true)
	p.flush()
	<-filled
	p.must(p.framer.WriteRSTStream(1, http2.ErrCodeCancel))
	p.flush()
	speak := time.NewTicker(100 * time.Millisecond)
	defer speak.Stop()
	for late := time.After(patience); ; {
		select {
		case why := <-ends:
			if why != EndSlow {
				t.Errorf("it ended as %q, want %q", why, EndSlow)
			}
			return
		case <-speak.C:
			_ = http2.NewFramer(p.conn, nil).WriteWindowUpdate(0, 1) // it may be over
		case <-late:
			t.Fatal("the connection is still there")
		}
	}
}
