package e2e

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A flood is many frames that each cost the sender next to nothing.
type flood struct {
	name  string
	first string
	frame func(n int) string
	times int
	read  bool   // what comes back; else it is left lying
	ends  string // what the log says of the connection; "": it may go on, or hold its sender back
}

func again(frame string) func(int) string { return func(int) string { return frame } }

// floodsHTTP2: RFC 9113 §10.5, and what has been found since.
var floodsHTTP2 = []flood{
	{name: "calls that are reset at once", times: 50_000, read: true, ends: "flood", frame: func(n int) string { // CVE-2023-44487
		return headers(uint32(2*n+1), false, wire.Bidi) + h2(http2.FrameRSTStream, 0, uint32(2*n+1), word(8))
	}},
	{name: "calls that are reset at once, unread", times: 50_000, ends: "flood", frame: func(n int) string {
		return headers(uint32(2*n+1), false, wire.Bidi) + h2(http2.FrameRSTStream, 0, uint32(2*n+1), word(8))
	}},
	{name: "calls that the server resets", times: 50_000, read: true, ends: "flood", frame: func(n int) string { // CVE-2025-8671
		return headers(uint32(2*n+1), false, wire.Bidi) + h2(http2.FrameWindowUpdate, 0, uint32(2*n+1), word(0))
	}},
	{name: "calls with bytes behind their end", times: 50_000, read: true, ends: "flood", frame: func(n int) string {
		return headers(uint32(2*n+1), true, wire.Bidi) + data(uint32(2*n+1), true, "a message")
	}},
	{name: "calls over the limit", times: 50_000, read: true, ends: "flood", frame: func(n int) string {
		return headers(uint32(2*n+1), false, wire.Bidi)
	}},
	{name: "calls that are refused", times: 10_000, frame: func(n int) string {
		return request(uint32(2*n+1), true, ":method", "POST", ":scheme", "http", ":path", "/nothing", ":authority", "127.0.0.1")
	}},
	{name: "pings", times: 200_000, ends: "flood", frame: again(h2(http2.FramePing, 0, 0, "12345678"))},
	{name: "pings, read", times: 200_000, read: true, ends: "flood", frame: again(h2(http2.FramePing, 0, 0, "12345678"))},
	{name: "settings", times: 200_000, ends: "flood", frame: again(h2(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 65535)))},
	{name: "settings with a little data", first: begun, times: 200_000, read: true, ends: "flood", frame: func(n int) string {
		if n%5000 == 0 {
			return data(1, false, emptyFrame)
		}
		return h2(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 65535))
	}},
	{name: "empty DATA", first: deaf, times: 200_000, read: true, ends: "flood", frame: again(data(1, false, ""))},
	{name: "DATA of padding", first: deaf, times: 200_000, read: true, ends: "flood", frame: again(h2(http2.FrameData, http2.FlagDataPadded, 1, "\xff"+strings.Repeat("\x00", 255)))},
	{name: "DATA of a byte", first: begun, times: 200_000, read: true, ends: "flood", frame: again(data(1, false, "\x00"))},
	{name: "DATA behind a refusal", first: headers(1, false, "/nothing"), times: 2000, read: true, frame: again(data(1, false, strings.Repeat("\x00", 16000)))},
	{name: "DATA of a byte behind a refusal", first: headers(1, false, "/nothing"), times: 200_000, read: true, ends: "flood", frame: again(data(1, false, "\x00"))},
	{name: "windows that grow by one", first: deaf, times: 200_000, read: true, ends: "flood", frame: again(h2(http2.FrameWindowUpdate, 0, 1, word(1)))},
	{name: "windows that let a byte through", first: dribbled, times: 200_000, read: true, ends: "flood", frame: again(h2(http2.FrameWindowUpdate, 0, 1, word(1)))},
	{name: "priorities", times: 200_000, read: true, ends: "flood", frame: func(n int) string {
		return h2(http2.FramePriority, 0, uint32(2*(n%5000)+1), word(uint32(2*(n%4999)+100_001))+"\x10")
	}},
	{name: "resets of what has ended", first: headers(1, true, "/nothing"), times: 200_000, read: true, ends: "flood", frame: again(h2(http2.FrameRSTStream, 0, 1, word(8)))},
	{name: "goodbyes", first: begun, times: 200_000, read: true, ends: "flood", frame: again(h2(http2.FrameGoAway, 0, 0, word(0)+word(0)))},
	{name: "continuations of a header", first: h2(http2.FrameHeaders, 0, 1, fields(":method", "POST")), times: 20_000, read: true, ends: "flood", frame: again(h2(http2.FrameContinuation, 0, 1, fields("x-a", "b")))},
	{name: "continuations of nothing", first: h2(http2.FrameHeaders, 0, 1, fields(":method", "POST")), times: 20_000, read: true, ends: "flood", frame: again(h2(http2.FrameContinuation, 0, 1, ""))},
	{name: "references to one field", first: h2(http2.FrameHeaders, 0, 1, fields(":method", "POST", ":scheme", "http", ":path", wire.Bidi, "x-a", strings.Repeat("a", 4000))), times: 100, read: true, ends: "flood", frame: again(h2(http2.FrameContinuation, 0, 1, strings.Repeat("\xbe", 16000)))},
	{name: "unknown frames", times: 200_000, read: true, ends: "flood", frame: again(h2(0xbe, 0xef, 1, "12345678"))},
	{name: "answers that are not read", times: 40, frame: func(n int) string {
		return headers(uint32(2*n+1), false, wire.ServerStream, probe.ScriptKey, probe.Script{Replies: 1 << 20, ReplyBytes: 64 << 10}.String()) +
			data(uint32(2*n+1), true, string(oracleOne)) + h2(http2.FrameWindowUpdate, 0, uint32(2*n+1), word(1<<30))
	}},
}

// dribbled is a call with much to say to a client that has no window.
var dribbled = h2(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 0)) +
	headers(1, false, wire.ServerStream, probe.ScriptKey, probe.Script{Replies: 1 << 20, ReplyBytes: 64 << 10}.String()) +
	data(1, true, string(oracleOne))

var floodsWebSocket = []flood{
	{name: "pings", times: 200_000, ends: "flood", frame: again(socketFrame(fin|opPing, "12345678"))},
	{name: "pings of 125 bytes", times: 50_000, ends: "flood", frame: again(socketFrame(fin|opPing, strings.Repeat("a", 125)))},
	{name: "pongs", times: 200_000, read: true, ends: "flood", frame: again(socketFrame(fin|opPong, ""))},
	{name: "fragments of nothing", first: binaryFrame(websocketHead) + socketFrame(opBinary, "\x00"), times: 200_000, read: true, ends: "flood", frame: again(socketFrame(opContinue, ""))},
	{name: "fragments of a byte", first: binaryFrame(websocketHead) + socketFrame(opBinary, "\x00"), times: 200_000, read: true, ends: "flood", frame: again(socketFrame(opContinue, "\x00"))},
	{name: "fragments of nothing before the metadata", first: socketFrame(opBinary, ""), times: 200_000, read: true, ends: "flood", frame: again(socketFrame(opContinue, ""))},
	{name: "messages of nothing but a marker", first: binaryFrame(websocketHead), times: 200_000, read: true, ends: "flood", frame: again(binaryFrame("\x00"))},
	{name: "empty frames", first: binaryFrame(websocketHead + probe.ScriptKey + ": " + probe.Script{Read: probe.ReadNone, Hang: true}.String() + "\r\n"), times: 100_000, read: true, frame: again(binaryFrame("\x00" + emptyFrame))},
}

// floodsHTTP1 are requests without end: net/http's bounds and culvert's.
// Where messages pass, the backend reads all of them: else its answer may come
// before the abuse is noticed, and nobody looks any more.
var floodsHTTP1 = []flood{
	{name: "lines of a header", first: "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", times: 200_000, read: true, ends: "protocol", frame: again("X-A: b\r\n")},
	{name: "a line of a header", first: "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ", times: 20_000, read: true, ends: "protocol", frame: again(strings.Repeat("a", 1000))},
	{name: "a first line", first: "GET /", times: 20_000, read: true, ends: "protocol", frame: again(strings.Repeat("a", 1000))},
	{name: "an extension of a chunk", first: webChunks("5;a="), times: 20_000, read: true, ends: "protocol", frame: again(strings.Repeat("a", 1000))},
	{name: "extensions of chunks", first: strings.Replace(webChunks(""), wire.Unary, wire.ClientStream, 1), times: 200_000, read: true, ends: "protocol", frame: again("5;" + strings.Repeat("a", 200) + "\r\n" + emptyFrame + "\r\n")},
	{name: "trailers", first: webChunks("5\r\n" + emptyFrame + "\r\n0\r\n"), times: 200_000, read: true, frame: again("X-A: b\r\n")},
	{name: "junk behind a request", first: webPost(wire.Unary, webType, emptyFrame), times: 20_000, read: true, ends: "protocol", frame: again(strings.Repeat("\x00junk\r\n", 100))},
}

// floodTime is how long a flood that culvert neither takes nor ends may last: it
// holds its sender back.
const floodTime = 2 * time.Second

// A flood costs its sender its connection, or its time, and the log counts it:
// others are served all along, and culvert holds no more than it does for
// anybody. It doesn't run beside other tests.
func TestFloods(t *testing.T) {
	b := startBackend(t, backendOptions{})
	t.Run("of", func(t *testing.T) { floodAll(t, b) }) // ends when all of them have
	b.idle(t, 30*time.Second)
}

func floodAll(t *testing.T, b *backend) {
	for _, family := range []struct {
		name   string
		floods []flood
		begin  func(net.Conn) error
		wrap   func([]byte) []byte
	}{
		{"HTTP-1.1", floodsHTTP1, nil, nil},
		{"HTTP-2", floodsHTTP2, beginHTTP2, nil},
		{"h2ts", floodsHTTP2, beginTunnel, tunnelMessage},
		{"grpc-websockets", floodsWebSocket, beginWebSocket, nil},
		{"h2ts, its WebSocket", floodsWebSocket[:3], beginTunnel, nil},
	} {
		t.Run(strings.ReplaceAll(family.name, " ", "_"), func(t *testing.T) {
			t.Parallel() // beside one another; other tests are kept out
			c := startCulvert(t, b.address, culvertOptions{args: []string{"--log-level", "debug"}})
			warm(t, c)
			descriptors := c.descriptors(t)
			for _, f := range family.floods {
				t.Run(strings.ReplaceAll(f.name, " ", "_"), func(t *testing.T) {
					before := c.rss(t)
					c.resetPeak(t)
					how := f.pour(t, c, family.begin, family.wrap)
					grown := c.peak(t) - before
					t.Logf("%s, culvert grew by %d KiB", how, grown/kib)
					if grown > 32*mib {
						t.Errorf("culvert grew by %d KiB", grown/kib)
					}
				})
			}
			if err := eventually(30*time.Second, func() error { return sameDescriptors(t, c, descriptors) }); err != nil {
				t.Error(err)
			}
			if !t.Failed() {
				wantGoroutines(t, c, goroutinesAtRest(t, b))
			}
		})
	}
}

// pour sends the flood until it is over, and says how it ended.
func (f flood) pour(t *testing.T, c *culvert, begin func(net.Conn) error, wrap func([]byte) []byte) string {
	t.Helper()
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stop := unharmed(t, c.address)
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(attackTime)) // just opened
	if begin != nil {
		if err := begin(conn); err != nil {
			t.Fatal(err)
		}
	}
	if f.ends == "" {
		_ = conn.SetDeadline(time.Now().Add(floodTime)) // open
	}
	var reading sync.WaitGroup
	if f.read {
		reading.Go(func() { _, _ = io.Copy(io.Discard, conn) }) // ends with the connection
	}
	n := f.send(conn, wrap)
	if f.ends != "" {
		c.wantConnEnded(t, conn, f.ends)
	}
	_ = conn.(*net.TCPConn).SetLinger(0) // or the kernel goes on with what is held back; closed by then
	conn.Close()
	reading.Wait()
	if n == f.times {
		return "all was taken"
	}
	return "it was ended, or held back"
}

// send returns how many frames went out before the connection took no more.
func (f flood) send(conn net.Conn, wrap func([]byte) []byte) int {
	out := []byte(f.first)
	for n := range f.times {
		out = append(out, f.frame(n)...)
		if len(out) < 16<<10 && n+1 < f.times {
			continue
		}
		if wrap != nil {
			out = wrap(out)
		}
		if _, err := conn.Write(out); err != nil {
			return n
		}
		out = out[:0]
	}
	return f.times
}
