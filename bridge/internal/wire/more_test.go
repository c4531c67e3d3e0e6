package wire

import (
	"bytes"
	"io"
	"net"
	"slices"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// TestStreamOfSmallMessagesGetsMore: of what grpc-go lets it send, a backend gets what a stream of
// small messages needs, the rest of a large message that has its room, and no more.
func TestStreamOfSmallMessagesGetsMore(t *testing.T) {
	const small, large = 1000, 200 << 10
	const atArrival = MaxStreamWindow - StreamWindow - maxWithheld
	part := prefixOf(large)
	part = append(part, make([]byte, StreamWindow-prefixBytes)...)
	many := bytes.Repeat(append(prefixOf(small-prefixBytes), make([]byte, small-prefixBytes)...), 66) // 66,000 bytes
	for name, c := range map[string]struct {
		known, pressed bool
		come           []byte
		back           []uint32 // from grpc-go
		got            []uint32
	}{
		"small ones":                    {known: true, come: many, back: []uint32{65_000}, got: []uint32{atArrival, 65_000 + maxWithheld}},
		"small ones, later":             {known: true, come: many, back: []uint32{65_000, 66_000, 66_000}, got: []uint32{atArrival, 65_000 + maxWithheld, 132_000}},
		"small ones, but few":           {known: true, come: many[:60_000], back: []uint32{60_000}, got: []uint32{atArrival, 60_000}},
		"small ones, and fewer":         {known: true, come: many[:StreamWindow/2], back: []uint32{1}, got: []uint32{1 + atArrival}},
		"small ones, memory is scarce":  {known: true, pressed: true, come: many, back: []uint32{65_000}, got: []uint32{atArrival, 65_000}},
		"small ones of an unknown call": {come: many, back: []uint32{65_000}, got: []uint32{atArrival, 65_000}},
		"a large one":                   {known: true, come: part, back: []uint32{StreamWindow}, got: []uint32{large - StreamWindow + prefixBytes}},
		"the rest of a large one":       {known: true, come: part, back: []uint32{StreamWindow, StreamWindow, StreamWindow}, got: []uint32{large - StreamWindow + prefixBytes, 2*StreamWindow - (large - StreamWindow + prefixBytes) + atArrival, StreamWindow}},
		"one larger than all":           {known: true, come: prefixOf(1 << 20), back: []uint32{1000, 1 << 20}, got: []uint32{1000 + atArrival, 1 << 20}},
	} {
		t.Run(name, func(t *testing.T) {
			a := memory.New(64<<20, 0)
			if c.pressed {
				w, _ := a.Ask(nil, memory.Small, 64<<20, func() {})
				defer a.Drop(w)
				w, _ = a.Ask(nil, memory.Small, 1, func() {})
				defer a.Drop(w)
			}
			near, far := net.Pipe()
			conn := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
			got := make(chan []uint32, 1)
			go func() { got <- updates(t, far) }()
			held := a.NewEntry()
			defer held.Settle()
			if c.known {
				expectNow(t, conn, newPlace(held, nil))
			}
			var sent, block bytes.Buffer
			_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: idHeader, Value: "one"}) // to memory
			sent.WriteString(http2.ClientPreface)
			client := http2.NewFramer(&sent, nil)
			_ = client.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: MaxStreamWindow})
			_ = client.WriteWindowUpdate(0, 1)
			_ = client.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
			write := func() {
				t.Helper()
				if _, err := conn.Write(sent.Bytes()); err != nil {
					t.Fatal(err)
				}
				sent.Reset()
			}
			write()
			for come := range slices.Chunk(c.come, 16<<10) {
				conn.arrive(1, come)
			}
			poll(t, func() string {
				if conn.isReady.Load() {
					return "what the stream gets on arrival isn't sent"
				}
				return ""
			})
			for _, n := range c.back {
				_ = client.WriteWindowUpdate(1, n)
				write()
			}
			_ = conn.Close()
			if got := <-got; !slices.Equal(got, c.got) {
				t.Errorf("of %d, which grpc-go gives back, the backend gets %d, want %d", c.back, got, c.got)
			}
		})
	}
}

// TestNothingIsAskedAfterClose: what arrives while grpc-go closes the connection asks for no
// room, which nobody would give back.
func TestNothingIsAskedAfterClose(t *testing.T) {
	a := memory.New(1<<20, 0)
	near, far := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, far) }()
	conn := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
	held := a.NewEntry()
	defer held.Settle()
	beginStream(t, conn, newPlace(held, nil))
	others := a.NewEntry()
	defer others.Settle()
	others.Add(memory.Reply, 1<<20)
	_ = conn.Close()
	conn.arrive(1, append(prefixOf(200<<10), make([]byte, StreamWindow-1000)...))
	if a.Pressed() || held.Waiting() {
		t.Error("a closed connection waits for room")
	}
}

// updates reads what a backend gets, up to the end, and returns the updates of the window
// of the stream 1.
func updates(t *testing.T, conn net.Conn) (got []uint32) {
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		t.Error(err)
	}
	window := uint32(0)
	for backend := http2.NewFramer(nil, conn); ; {
		f, err := backend.ReadFrame()
		if err != nil {
			return got
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			window, _ = f.Value(http2.SettingInitialWindowSize)
		case *http2.HeadersFrame:
			if window != StreamWindow {
				t.Errorf("the stream begins with a window of %d, want %d", window, StreamWindow)
			}
		case *http2.WindowUpdateFrame:
			if f.StreamID == 1 {
				got = append(got, f.Increment)
			}
		}
	}
}
