package bridge

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// TestTunnelWhileDraining is refused before the upgrade, so that its client
// goes elsewhere.
func TestTunnelWhileDraining(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere})
	address := serve(t, s)
	exchange(t, address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n") // it serves
	s.refusing.Store(true)
	_, res, err := websocket.Dial(within(t, patience), "ws://"+address, &websocket.DialOptions{Subprotocols: []string{tunnelName}})
	if err == nil || res == nil || res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("got %v, %v; want 503 that says when to come back", res, err)
	}
}

func TestHandshakesOverTheLimit(t *testing.T) {
	obs := newObserver()
	s := newServer(t, Config{Backend: nowhere, Observer: obs, Limits: Limits{HandshakesPerSecond: 1}})
	address := serve(t, s)
	ctx := within(t, patience)
	var refused *http.Response
	for range 20 {
		ws, res, err := websocket.Dial(ctx, "ws://"+address, &websocket.DialOptions{Subprotocols: []string{tunnelName}})
		if err != nil {
			refused = res
			break
		}
		_ = ws.CloseNow() // its time is over
	}
	if refused == nil || refused.StatusCode != http.StatusTooManyRequests || refused.Header.Get("Retry-After") == "" {
		t.Errorf("of 20 tunnels at once one is answered %v, want 429 that says when to come back", refused)
	}
	if r := await(t, "the refusal", obs.refused); r.Key != report.KeyHandshakes {
		t.Errorf("the Observer is told of %+v", r)
	}
}

// TestNoTunnelInsideATunnel: the inner server speaks HTTP/2 and nothing else.
func TestNoTunnelInsideATunnel(t *testing.T) {
	address := serve(t, newServer(t, Config{Backend: nowhere}))
	ws, _, err := websocket.Dial(within(t, patience), "ws://"+address, &websocket.DialOptions{Subprotocols: []string{tunnelName}})
	if err != nil {
		t.Fatal(err)
	}
	conn := websocket.NetConn(context.Background(), ws, websocket.MessageBinary)
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: h2ts\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience)) // a test that hangs fails
	answer, err := io.ReadAll(conn)
	if got := websocket.CloseStatus(err); got != websocket.StatusProtocolError {
		t.Errorf("the tunnel ended with %v, want %v", err, websocket.StatusProtocolError)
	}
	if bytes.Contains(answer, []byte("101")) || bytes.Contains(answer, []byte("HTTP/1.1 2")) {
		t.Errorf("HTTP/1.1 inside a tunnel is answered %q", answer)
	}
}

// TestCallsOnOneTunnelDoNotStopEachOther: one that nobody reads holds up no
// other on its connection.
func TestCallsOnOneTunnelDoNotStopEachOther(t *testing.T) {
	backend := startBackend(t, echo)
	s := newServer(t, Config{Backend: Backend{Target: backend}})
	cc := dialTunnel(t, serve(t, s), nil, grpc.WithStaticStreamWindowSize(64<<10)) // others grow when a connection is slow
	ctx, cancel := context.WithCancel(within(t, patience))
	defer cancel()
	full := make(chan error, 5)
	for range 5 {
		stuck := open(ctx, t, cc, testMethod)
		go func() {
			var err error
			for range 64 { // more than all windows hold
				if err = stuck.SendMsg(pattern(64 << 10)); err != nil {
					break
				}
			}
			full <- err
		}()
	}
	for range 20 {
		if err := unary(ctx, cc, testMethod); err != nil {
			t.Fatalf("beside calls that nobody reads: %v", err)
		}
	}
	select {
	case err := <-full:
		t.Errorf("a call that nobody reads took 4 MiB, or ended: %v", err)
	default:
	}
	if err := unary(ctx, cc, "/grpc.channelz.v1.Channelz/GetServers"); status.Code(err) != codes.Unimplemented {
		t.Errorf("what shows insides: %v", err)
	}
}

// A pipes accepts one end of each pipe. Unlike bufconn's, a deadline that its owner has
// taken back doesn't end a read.
type pipes struct{ conns chan net.Conn }

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error   { close(p.conns); return nil }
func (p pipes) Addr() net.Addr { return new(net.TCPAddr) }

// TestTunnelIsPinged as a WebSocket, not as HTTP/2: the page of a browser that answers may
// be blocked or frozen. Its client is told why it is closed.
func TestTunnelIsPinged(t *testing.T) {
	const begin = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	const later = 5 * time.Second         // of SETTINGS
	const silent = later + 45*time.Second // the bound of a client that was sent something meanwhile: docs/reference/websockets.md
	const patient = time.Hour
	const shut = "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00" // SETTINGS_INITIAL_WINDOW_SIZE=0
	const get = "\x00\x00\x05\x01\x05\x00\x00\x00\x01\x82\x84\x86\x41\x00"      // GET / with an empty :authority
	for name, c := range map[string]struct {
		say     string
		answers bool // the WebSocket's pings
		at      time.Duration
		code    websocket.StatusCode
	}{
		"answers no ping":           {begin + settings, false, silent, websocket.StatusGoingAway},
		"answers no ping of HTTP/2": {begin + settings, true, patient, 0},
		"reads no answer":           {begin + shut + get, false, pingInterval + rules.SlowConsumerTimeout, websocket.StatusPolicyViolation},
		"sends no SETTINGS":         {begin, true, 2 * time.Second, websocket.StatusPolicyViolation},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Config{Backend: nowhere, Limits: Limits{ConnectionIdleTimeout: -1}})
				ln := pipes{make(chan net.Conn)}
				hs := &http.Server{}
				s.ConfigureHTTP(hs)
				var serving sync.WaitGroup
				serving.Go(func() { _ = hs.Serve(ln) }) // ends with Close
				defer serving.Wait()
				defer hs.Close()
				conn, far := net.Pipe()
				ln.conns <- far
				end := wstest.Open(t, conn, "/", tunnelName)
				end.Send(t, wstest.Binary, []byte(c.say))
				start, pinged := time.Now(), time.Duration(0)
				defer time.AfterFunc(later, func() { end.Send(t, wstest.Binary, []byte(settings)) }).Stop()
				if c.at == patient {
					defer time.AfterFunc(patient, func() { _ = conn.Close() }).Stop() // net.Pipe's has no error
				}
				for {
					op, _, payload, err := end.Next()
					if c.at == patient && time.Since(start) == patient {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					if op == wstest.Ping {
						pinged = time.Since(start)
						if c.answers {
							end.Send(t, wstest.Pong, payload)
						}
					}
					if op == wstest.Close {
						if got := websocket.StatusCode(binary.BigEndian.Uint16(payload)); got != c.code {
							t.Errorf("it is closed with %d, want %d", got, c.code)
						}
						break
					}
				}
				// After the goodbye of HTTP/2 culvert waits for the client to close.
				if took := time.Since(start); took < c.at || took > c.at+2*time.Second {
					t.Errorf("it is closed after %v, want %v", took, c.at)
				}
				if c.at == silent && pinged != pingInterval {
					t.Errorf("it is pinged after %v, want %v", pinged, pingInterval)
				}
			})
		})
	}
}

// TestTunnelBeginsWithSettings that wait for nothing, so that a client knows that its
// WebSocket carries data before it sends any.
func TestTunnelBeginsWithSettings(t *testing.T) {
	address := serve(t, newServer(t, Config{Backend: nowhere}))
	ctx := within(t, patience)
	ws, _, err := websocket.Dial(ctx, "ws://"+address, &websocket.DialOptions{Subprotocols: []string{tunnelName}})
	if err != nil {
		t.Fatal(err)
	}
	conn := websocket.NetConn(ctx, ws, websocket.MessageBinary)
	defer conn.Close()
	first, err := http2.NewFramer(nil, conn).ReadFrame()
	if settings, ok := first.(*http2.SettingsFrame); !ok || settings.IsAck() {
		t.Errorf("before the preface comes %v, %v; want SETTINGS", first, err)
	}
}

// TestTunnelOfTheDescription: the cases of the published description of h2ts
// (github.com/debdattabasu/h2ts, spec/protocol.md). The boundaries of messages mean nothing,
// a client may offer more subprotocols after h2ts, may call before the server's SETTINGS have
// come, and control frames belong to the WebSocket.
func TestTunnelOfTheDescription(t *testing.T) {
	address := serve(t, newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}}))
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, nil)
	var block bytes.Buffer
	fields := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", testMethod}, {":authority", "a"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		_ = fields.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}) // a Buffer takes all
	}
	_ = f.WriteSettings() // as above
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	_ = f.WriteData(1, true, []byte("\x00\x00\x00\x00\x05hello"))
	call := b.Bytes()

	each := func(frame func(i int) (op byte, final bool)) (sent []byte) {
		for i := range call {
			op, final := frame(i)
			one := wstest.Masked(op, call[i:i+1])
			if !final {
				one[0] &^= wstest.Fin
			}
			sent = append(append(sent, one...), wstest.Masked(wstest.Ping, []byte("ping"))...)
		}
		return sent
	}
	for name, sent := range map[string][]byte{
		"one message":             wstest.Masked(wstest.Binary, call),
		"a message for each byte": each(func(int) (byte, bool) { return wstest.Binary, true }),
		"a frame for each byte": each(func(i int) (op byte, final bool) {
			if i > 0 {
				return wstest.Continuation, i == len(call)-1
			}
			return wstest.Binary, false
		}),
		"empty messages between": append(wstest.Masked(wstest.Binary, nil), append(wstest.Masked(wstest.Binary, call[:20]), append(wstest.Masked(wstest.Binary, nil), wstest.Masked(wstest.Binary, call[20:])...)...)...),
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
			c := wstest.Open(t, conn, "/any/path", "h2ts, binary")
			if _, err := c.Write(sent); err != nil {
				t.Fatal(err)
			}
			in := http2.NewFramer(nil, &payloads{c: c})
			var got []byte
			for {
				frame, err := in.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				if data, ok := frame.(*http2.DataFrame); ok {
					got = append(got, data.Data()...)
				}
				if h, ok := frame.(*http2.HeadersFrame); ok && h.StreamEnded() {
					break
				}
			}
			if string(got) != "\x00\x00\x00\x00\x05hello" {
				t.Errorf("the reply is %q", got)
			}
		})
	}
}

// payloads are the binary payloads of a WebSocket, joined.
type payloads struct {
	c    *wstest.Client
	rest []byte
}

func (p *payloads) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		op, _, payload, err := p.c.Next()
		if err != nil {
			return 0, err
		}
		if op == wstest.Binary || op == wstest.Continuation {
			p.rest = payload
		}
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}
