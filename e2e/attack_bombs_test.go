package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A bomb is little on the wire and much behind it.
type bomb struct {
	name  string
	begin func(net.Conn) error
	bytes string
	look  func(conn net.Conn, enough func(string) bool) (string, error)
	want  string // as a hostileCase's; "": how it ends is others' to say
	ends  string // what the log says of the connection; "": nothing
}

// bombBytes is what each of them would expand to. A stream's window takes it
// packed.
const bombBytes = 48 * mib

// zeros is so much in gzip's form: about a thousandth.
var zeros = sync.OnceValue(func() string {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		panic(err)
	}
	chunk := make([]byte, mib)
	for range bombBytes / mib {
		_, _ = z.Write(chunk) // to memory
	}
	_ = z.Close() // to memory
	return b.String()
})

// crumbs is a header of the largest cookie that a table holds, and as many
// references to it as make up the rest: each request costs its sender 600 bytes.
func crumbs(name string) string {
	const table = 4096
	value := strings.Repeat("a", table-32-len(name))
	var out strings.Builder
	out.WriteString(h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, fields(":method", "POST", ":scheme", "http", ":path", wire.Bidi, "content-type", "application/grpc", name, value)))
	for n := range uint32(99) {
		block := fields(":method", "POST", ":scheme", "http", ":path", wire.Bidi) + strings.Repeat("\xbe", 600) // the newest entry
		out.WriteString(h2(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 2*n+3, block))
	}
	return out.String()
}

// fragments is a binary message in frames of an ordinary size.
func fragments(payload string) string {
	var out strings.Builder
	op := byte(opBinary)
	for len(payload) > 16*kib {
		out.WriteString(socketFrame(op, payload[:16*kib]))
		op, payload = opContinue, payload[16*kib:]
	}
	out.WriteString(socketFrame(fin|op, payload))
	return out.String()
}

func bombs() []bomb {
	message := prefixed(1, uint32(len(zeros())), zeros())
	return []bomb{
		{"a message", nil, webPost(wire.Unary, webType+"Grpc-Encoding: gzip\r\n", message), lookHTTP1, "200 ResourceExhausted REQUEST_TOO_LARGE, kept | 200 ResourceExhausted REQUEST_TOO_LARGE, closed", ""},
		{"a message of native gRPC", beginHTTP2, headers(1, false, wire.Unary, "grpc-encoding", "gzip") + inFrames(1, message) + h2(http2.FramePing, 0, 0, areYouThere), lookHTTP2, "1: 200 ResourceExhausted REQUEST_TOO_LARGE, alive", ""},
		{"a message on a WebSocket", beginWebSocket, binaryFrame(websocketHead+"grpc-encoding: gzip\r\n") + fragments("\x00"+message), lookWebSocket, "headers, ResourceExhausted REQUEST_TOO_LARGE, close 1000", ""},
		{"a body of empty messages", nil, webPost(wire.ClientStream, webType+"Content-Encoding: gzip\r\n", zeros()), lookHTTP1, webRefused, ""},
		{"text that is none", nil, webPost(wire.ClientStream, webTextType+"Content-Encoding: gzip\r\n", zeros()), lookHTTP1, webRefused, ""},
		{"a header's references", beginHTTP2, crumbs("x-a"), nil, "", ""},
		{"a cookie in crumbs", beginHTTP2, crumbs("cookie"), nil, "", ""},
		{"a compressed WebSocket frame", beginWebSocket, socketFrame(fin|0x40|opBinary, "\xaa\x56\x4a"), lookWebSocket, "close 1002", "protocol"},
	}
}

// What is little on the wire and much behind it costs its sender its call or its
// connection, and culvert no memory; others are served meanwhile. It doesn't run
// beside other tests.
func TestBombs(t *testing.T) {
	const each, most = 20, 96 * mib
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{
		// All of them expand as far as they may.
		config: "limits: {message_bytes: 1MiB, buffered_bytes: 32MiB, decompressed_bytes_per_second: 0, address: {decompressed_bytes_per_second: 0}}\n",
		args:   []string{"--log-level", "debug"},
	})
	warm(t, c)
	descriptors := c.descriptors(t)
	for _, bomb := range bombs() {
		t.Run(strings.ReplaceAll(bomb.name, " ", "_"), func(t *testing.T) {
			before := c.rss(t)
			c.resetPeak(t)
			stop := unharmed(t, c.address)
			var all sync.WaitGroup
			for range each {
				all.Go(func() { bomb.throw(t, c) })
			}
			all.Wait()
			stop()
			grown := c.peak(t) - before
			t.Logf("%d of %d KiB: culvert grew by %d KiB", each, len(bomb.bytes)/kib, grown/kib)
			if grown > most {
				t.Errorf("culvert grew by %d MiB, want up to %d", grown/mib, most/mib)
			}
		})
	}
	b.idle(t, attackTime)
	if err := eventually(attackTime, func() error { return sameDescriptors(t, c, descriptors) }); err != nil {
		t.Error(err)
	}
}

func (b bomb) throw(t *testing.T, c *culvert) {
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	patience := floodTime
	if b.look != nil {
		patience = attackTime
	}
	_ = conn.SetDeadline(time.Now().Add(patience)) // just opened
	if b.begin != nil {
		if err := b.begin(conn); err != nil {
			t.Error(err)
			return
		}
	}
	var sending sync.WaitGroup
	sending.Go(func() { _, _ = io.WriteString(conn, b.bytes) }) // not all of it may be taken
	defer sending.Wait()
	defer conn.Close() // frees the sender
	if b.look == nil {
		_, _ = io.Copy(io.Discard, conn) // until its time is over, or culvert's patience
		return
	}
	wanted := func(got string) bool {
		for want := range strings.SplitSeq(b.want, " | ") {
			if got == want {
				return true
			}
		}
		return false
	}
	if got, err := b.look(conn, wanted); !wanted(got) {
		t.Errorf("got %q (%v), want %q", got, err, b.want)
	}
	if b.ends != "" {
		c.wantConnEnded(t, conn, b.ends)
	}
}

// No WebSocket compresses: its extensions are offered by every browser, and not
// taken.
func TestNoWebSocketIsCompressed(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	for path, subprotocol := range map[string]string{wire.Bidi: "grpc-websockets", "/": "h2ts"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.address+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
			"Sec-WebSocket-Protocol": subprotocol, "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
		} {
			req.Header.Set(name, value)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close() // the connection
		if got := fmt.Sprint(resp.StatusCode, resp.Header["Sec-Websocket-Extensions"]); got != "101 []" {
			t.Errorf("%s: the upgrade was answered %s", subprotocol, got)
		}
	}
}
