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
	read  bool // what comes back; else it is left lying
}

func again(frame string) func(int) string { return func(int) string { return frame } }

// floodsHTTP2: RFC 9113 §10.5, and what has been found since.
var floodsHTTP2 = []flood{
	{name: "calls that are reset at once", times: 10_000, read: true, frame: func(n int) string {
		return headers(uint32(2*n+1), false, wire.Bidi) + h2(http2.FrameRSTStream, 0, uint32(2*n+1), word(8))
	}},
	{name: "calls that are reset at once, unread", times: 10_000, frame: func(n int) string {
		return headers(uint32(2*n+1), false, wire.Bidi) + h2(http2.FrameRSTStream, 0, uint32(2*n+1), word(8))
	}},
	{name: "calls that the server resets", times: 10_000, read: true, frame: func(n int) string {
		return headers(uint32(2*n+1), false, wire.Bidi) + h2(http2.FrameWindowUpdate, 0, uint32(2*n+1), word(0))
	}},
	{name: "calls that are refused", times: 10_000, frame: func(n int) string {
		return request(uint32(2*n+1), true, ":method", "POST", ":scheme", "http", ":path", "/nothing", ":authority", "127.0.0.1")
	}},
	{name: "pings", times: 200_000, frame: again(h2(http2.FramePing, 0, 0, "12345678"))},
	{name: "settings", times: 200_000, frame: again(h2(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 65535)))},
	{name: "empty DATA", first: deaf, times: 200_000, read: true, frame: again(data(1, false, ""))},
	{name: "DATA of padding", first: deaf, times: 2_000, read: true, frame: again(h2(http2.FrameData, http2.FlagDataPadded, 1, "\xff"+strings.Repeat("\x00", 255)))},
	{name: "DATA of a byte", first: begun, times: 100_000, read: true, frame: again(data(1, false, "\x00"))},
	{name: "windows that grow by one", first: deaf, times: 200_000, read: true, frame: again(h2(http2.FrameWindowUpdate, 0, 1, word(1)))},
	{name: "priorities", times: 200_000, read: true, frame: func(n int) string {
		return h2(http2.FramePriority, 0, uint32(2*(n%5000)+1), word(uint32(2*(n%4999)+100_001))+"\x10")
	}},
	{name: "continuations of a header", first: h2(http2.FrameHeaders, 0, 1, fields(":method", "POST")), times: 20_000, read: true, frame: again(h2(http2.FrameContinuation, 0, 1, fields("x-a", "b")))},
	{name: "references to one field", first: h2(http2.FrameHeaders, 0, 1, fields(":method", "POST", ":scheme", "http", ":path", wire.Bidi, "x-a", strings.Repeat("a", 4000))), times: 100, read: true, frame: again(h2(http2.FrameContinuation, 0, 1, strings.Repeat("\xbe", 16000)))},
	{name: "unknown frames", times: 200_000, read: true, frame: again(h2(0xbe, 0xef, 1, "12345678"))},
	{name: "answers that are not read", times: 40, frame: func(n int) string {
		return headers(uint32(2*n+1), false, wire.ServerStream, probe.ScriptKey, probe.Script{Replies: 1 << 20, ReplyBytes: 64 << 10}.String()) +
			data(uint32(2*n+1), true, string(oracleOne)) + h2(http2.FrameWindowUpdate, 0, uint32(2*n+1), word(1<<30))
	}},
}

var floodsWebSocket = []flood{
	{name: "pings", times: 200_000, frame: again(socketFrame(fin|opPing, "12345678"))},
	{name: "pings of 125 bytes", times: 50_000, frame: again(socketFrame(fin|opPing, strings.Repeat("a", 125)))},
	{name: "pongs", times: 200_000, read: true, frame: again(socketFrame(fin|opPong, ""))},
	{name: "fragments of nothing", first: binaryFrame(websocketHead) + socketFrame(opBinary, "\x00"), times: 200_000, read: true, frame: again(socketFrame(opContinue, ""))},
	{name: "fragments of nothing before the metadata", first: socketFrame(opBinary, ""), times: 200_000, read: true, frame: again(socketFrame(opContinue, ""))},
	{name: "messages of nothing but a marker", first: binaryFrame(websocketHead), times: 200_000, read: true, frame: again(binaryFrame("\x00"))},
	{name: "empty frames", first: binaryFrame(websocketHead + probe.ScriptKey + ": " + probe.Script{Read: probe.ReadNone, Hang: true}.String() + "\r\n"), times: 100_000, read: true, frame: again(binaryFrame("\x00" + emptyFrame))},
}

// floodTime is how long a flood that culvert neither takes nor ends may last: it
// holds its sender back.
const floodTime = 2 * time.Second

// A flood costs its sender its connection, or its time: others are served all
// along, and culvert holds no more than it does for anybody.
func TestFloods(t *testing.T) {
	b := startBackend(t, backendOptions{})
	for _, family := range []struct {
		name   string
		floods []flood
		begin  func(net.Conn) error
		wrap   func([]byte) []byte
		other  wire.Transport
	}{
		{"HTTP-2", floodsHTTP2, beginHTTP2, nil, wire.GRPC},
		{"h2ts", floodsHTTP2, beginTunnel, tunnelMessage, wire.Tunnel},
		{"grpc-websockets", floodsWebSocket, beginWebSocket, nil, wire.WebSocket},
		{"h2ts, its WebSocket", floodsWebSocket[:3], beginTunnel, nil, wire.Tunnel},
	} {
		t.Run(strings.ReplaceAll(family.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			c := startCulvert(t, b.address, culvertOptions{})
			warm(t, c)
			descriptors := c.descriptors(t)
			for _, f := range family.floods {
				before := c.rss(t)
				c.resetPeak(t)
				how := f.pour(t, c.address, family.begin, family.wrap, func() {
					if err := works(t, family.other, c.address, hostileTime); err != nil {
						t.Errorf("%s: another's call meanwhile: %v", f.name, err)
					}
				})
				grown := c.peak(t) - before
				t.Logf("%s: %s, culvert grew by %d KiB", f.name, how, grown/kib)
				if grown > 24*mib {
					t.Errorf("%s: culvert grew by %d KiB", f.name, grown/kib)
				}
			}
			if err := eventually(15*time.Second, func() error { return sameDescriptors(t, c, descriptors) }); err != nil {
				t.Error(err)
			}
			if !t.Failed() {
				wantGoroutines(t, c, goroutinesAtRest(t, b))
			}
		})
	}
	b.idle(t, 10*time.Second)
}

// pour sends the flood until it is over, and says how it ended. meanwhile is
// called while it goes on.
func (f flood) pour(t *testing.T, address string, begin func(net.Conn) error, wrap func([]byte) []byte, meanwhile func()) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(hostileTime)) // just opened
	if err := begin(conn); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(floodTime)) // open
	var reading sync.WaitGroup
	if f.read {
		reading.Go(func() { _, _ = io.Copy(io.Discard, conn) }) // ends with the connection
	}
	sent := make(chan int, 1) // how many frames
	go func() {               // ends with the connection
		out := []byte(f.first)
		n := 0
		for ; n < f.times; n++ {
			out = append(out, f.frame(n)...)
			if len(out) < 16<<10 && n+1 < f.times {
				continue
			}
			if wrap != nil {
				out = wrap(out)
			}
			if _, err := conn.Write(out); err != nil {
				break
			}
			out = out[:0]
		}
		sent <- n
	}()
	meanwhile()
	n := <-sent
	meanwhile()
	_ = conn.(*net.TCPConn).SetLinger(0) // or the kernel goes on with what is held back; closed by then
	conn.Close()
	reading.Wait()
	if n == f.times {
		return "all was taken"
	}
	return "it was ended, or held back"
}
