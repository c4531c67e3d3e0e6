package bridge

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestStandardHTTP2: StandardHTTP2 decides who serves HTTP/2, wherever a
// connection comes in. net/http announces MAX_FRAME_SIZE, and bridge/internal/h2 doesn't.
func TestStandardHTTP2(t *testing.T) {
	ca := parts.NewAuthority(t)
	for _, standard := range []bool{false, true} {
		s := newServer(t, Config{Backend: nowhere, StandardHTTP2: standard})
		hs := &http.Server{}
		s.ConfigureHTTP(hs)
		plain := serve(t, s)
		secured := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{TLS: &tls.Config{Certificates: []tls.Certificate{ca.Server(t)}, NextProtos: []string{"h2", "http/1.1"}}})
		for where, c := range map[string]net.Conn{
			"h2c":      tcpTo(t, plain),
			"TLS":      tls.Client(tcpTo(t, secured), &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1", NextProtos: []string{"h2"}}),
			"tunnel":   tunnelTo(t, plain),
			"embedder": tcpTo(t, parts.Serve(t, hs)),
		} {
			settings := awaitFrame[*http2.SettingsFrame](t, framesOf(t, c))
			if _, got := settings.Value(http2.SettingMaxFrameSize); got != standard {
				t.Errorf("%s: served by net/http: %v, want %v: %v", where, got, standard, settings)
			}
		}
	}
}

func tcpTo(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(within(t, patience), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tunnelTo opens a tunnel to the address.
func tunnelTo(t *testing.T, address string) net.Conn {
	t.Helper()
	ws, _, err := websocket.Dial(within(t, patience), "ws://"+address, &websocket.DialOptions{Subprotocols: []string{tunnelName}})
	if err != nil {
		t.Fatal(err)
	}
	return websocket.NetConn(t.Context(), ws, websocket.MessageBinary)
}

// framesOf begins HTTP/2 by hand.
func framesOf(t *testing.T, c net.Conn) *http2.Framer {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
	t.Cleanup(func() { _ = c.Close() })         // the server may have
	f := http2.NewFramer(c, c)
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return f
}

// awaitFrame reads to a frame of the type.
func awaitFrame[F http2.Frame](t *testing.T, f *http2.Framer) F {
	t.Helper()
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("%v instead of %T", err, *new(F))
		}
		if frame, ok := frame.(F); ok {
			return frame
		}
	}
}

// begin begins a call on stream 1.
func begin(t *testing.T, f *http2.Framer, whole bool) {
	t.Helper()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":authority", "127.0.0.1"},
		{":path", testMethod},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
	} {
		_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}) // to memory
	}
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: whole, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
}

// TestStandardHTTP2KeepsAListenersStreams: also net/http announces a listener's
// own number.
func TestStandardHTTP2KeepsAListenersStreams(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere, StandardHTTP2: true})
	address := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{CallsPerConnection: 7})
	settings := awaitFrame[*http2.SettingsFrame](t, framesOf(t, tcpTo(t, address)))
	if got, _ := settings.Value(http2.SettingMaxConcurrentStreams); got != 7 {
		t.Errorf("%d streams are announced, want 7", got)
	}
}

// TestStandardHTTP2EndsOldConnections: the answer to the first call after a
// connection's age has a GOAWAY with it, in a tunnel, too.
func TestStandardHTTP2EndsOldConnections(t *testing.T) {
	backend := startBackend(t, echo)
	s := newServer(t, Config{Backend: Backend{Target: backend}, StandardHTTP2: true, Limits: Limits{ConnectionMaxAge: time.Nanosecond}})
	address := serve(t, s)
	for name, c := range map[string]net.Conn{"h2c": tcpTo(t, address), "tunnel": tunnelTo(t, address)} {
		f := framesOf(t, c)
		awaitFrame[*http2.SettingsFrame](t, f)
		begin(t, f, true)
		if goaway := awaitFrame[*http2.GoAwayFrame](t, f); goaway.ErrCode != http2.ErrCodeNo {
			t.Errorf("%s: goodbye with %v, want NO_ERROR", name, goaway.ErrCode)
		}
	}
}

// TestStandardHTTP2TellsNoEnd: net/http ends a connection and doesn't tell why.
// culvert makes up no reason.
func TestStandardHTTP2TellsNoEnd(t *testing.T) {
	began := make(chan struct{})
	backend := startBackend(t, func(ss grpc.ServerStream) error { close(began); return hold(ss) })
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: backend}, Observer: obs, StandardHTTP2: true})
	address := serve(t, s)
	f := framesOf(t, tcpTo(t, address))
	begin(t, f, false)
	await(t, "the call", began)
	if err := f.WriteRawFrame(http2.FrameData, 0, 0, nil); err != nil { // DATA on stream 0 is a connection error
		t.Fatal(err)
	}
	awaitFrame[*http2.GoAwayFrame](t, f)
	if got := await(t, "the end", obs.conns); got.Ended != report.EndedOrderly {
		t.Errorf("ended as %q, want no reason", got.Ended)
	}
}
