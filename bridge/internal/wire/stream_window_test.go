package wire

import (
	"bytes"
	"io"
	"net"
	"slices"
	"testing"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// TestWindowFollowsWhatIsTaken: of what grpc-go lets it send, a backend gets what the client has
// taken, or the rest of a large message that has its room and is the next one, and no more.
func TestWindowFollowsWhatIsTaken(t *testing.T) {
	const small, large = 1000 - prefixBytes, 200 << 10
	const first = maxDataBytes + prefixBytes // once the first window has come, and nothing is taken
	const ofLarge = large + prefixBytes + maxDataBytes - StreamWindow
	const known, scarce = true, true
	come := func(c *Conn, size uint32, n int) {
		for part := range slices.Chunk(append(prefixOf(size), make([]byte, n-prefixBytes)...), maxDataBytes) {
			c.arrive(1, part)
		}
	}
	smallOnes := func(n int) func(*Conn, *Place) {
		return func(c *Conn, _ *Place) {
			for part := range slices.Chunk(bytes.Repeat(append(prefixOf(small), make([]byte, small)...), n), maxDataBytes) {
				c.arrive(1, part)
			}
		}
	}
	taken := func(n int) func(*Conn, *Place) { return func(_ *Conn, p *Place) { p.Taken(n, n*small) } }
	part := func(c *Conn, _ *Place) { come(c, large, StreamWindow) }
	back := func(n ...uint32) func(*Conn, *Place) {
		return func(c *Conn, _ *Place) {
			for _, n := range n {
				_, _ = c.Write(windowUpdate(1, int64(n)))
			}
		}
	}
	for name, c := range map[string]struct {
		known, scarce bool
		steps         []func(*Conn, *Place)
		got           []uint32
	}{
		"nothing is taken":                       {known, false, []func(*Conn, *Place){smallOnes(66), back(StreamWindow)}, []uint32{first}},
		"many small ones are taken":              {known, false, []func(*Conn, *Place){smallOnes(66), taken(66)}, []uint32{first, MaxStreamWindow - (StreamWindow + first - 66_000)}},
		"so many that it may go on":              {known, false, []func(*Conn, *Place){smallOnes(66), taken(66), back(GRPCWindow/4, GRPCWindow/4), smallOnes(200), taken(196), taken(1), taken(3)}, []uint32{first, MaxStreamWindow - (StreamWindow + first - 66_000), 197_000}},
		"memory is scarce":                       {known, scarce, []func(*Conn, *Place){smallOnes(66), taken(66)}, []uint32{first, 66_000}},
		"few small ones are taken":               {known, false, []func(*Conn, *Place){smallOnes(60), taken(60)}, []uint32{first, 60_000}},
		"fewer":                                  {known, false, []func(*Conn, *Place){smallOnes(10), taken(10)}, nil},
		"the beginning of the largest small one": {known, false, []func(*Conn, *Place){func(c *Conn, _ *Place) { come(c, StreamWindow, prefixBytes) }}, nil},
		"of an unknown call":                     {!known, false, []func(*Conn, *Place){smallOnes(66), back(GRPCWindow / 4)}, []uint32{GRPCWindow - StreamWindow - maxWithheld}},
		"a part of a large one":                  {known, false, []func(*Conn, *Place){part, back(StreamWindow)}, []uint32{ofLarge}},
		"a large one behind a small one":         {known, false, []func(*Conn, *Place){smallOnes(1), part, taken(1)}, []uint32{first, ofLarge + 1000 - first}},
		"a large one that is received":           {known, false, []func(*Conn, *Place){func(c *Conn, _ *Place) { come(c, large, large+prefixBytes) }, func(_ *Conn, p *Place) { p.Received(large) }}, []uint32{ofLarge, baseAhead - maxDataBytes}},
		"a large one that is taken":              {known, false, []func(*Conn, *Place){func(c *Conn, _ *Place) { come(c, large, large+prefixBytes) }, func(_ *Conn, p *Place) { p.Taken(1, large) }}, []uint32{ofLarge, baseAhead - maxDataBytes}},
		"one larger than grpc-go's window":       {known, false, []func(*Conn, *Place){func(c *Conn, _ *Place) { come(c, 1<<20, prefixBytes) }, back(1000, 1<<20)}, []uint32{1<<20 + prefixBytes + maxDataBytes - StreamWindow}},
	} {
		t.Run(name, func(t *testing.T) {
			a := memory.New(64<<20, 0)
			if c.scarce {
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
			p := newPlace(held, nil)
			if c.known {
				expectNow(t, conn, p)
			}
			beginStream(t, conn)
			for _, step := range c.steps {
				step(conn, p)
				poll(t, func() string {
					conn.writeMu.Lock() // what isn't ready any more is written before it's unlocked
					defer conn.writeMu.Unlock()
					if conn.isReady.Load() {
						return "what the stream gets isn't sent"
					}
					return ""
				})
			}
			_ = conn.Close()
			if got := <-got; !slices.Equal(got, c.got) {
				t.Errorf("the backend gets %d, want %d", got, c.got)
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
	expectNow(t, conn, newPlace(held, nil))
	beginStream(t, conn)
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
