package bridge

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestHeaderBeyondTwiceItsLimit is answered by HTTP/2 itself, 431; up to there
// the call has an answer of its own.
func TestHeaderBeyondTwiceItsLimit(t *testing.T) {
	const limit = 8 << 10
	s := newServer(t, Config{Backend: nowhere, Limits: Limits{HeaderBytes: limit}, AllowOrigins: []string{pageOfTest}})
	address := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{})
	for bytes, want := range map[int]string{limit * 3 / 2: "200", limit*2 + 400: "431"} {
		conn, err := new(net.Dialer).DialContext(within(t, patience), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		framer := http2.NewFramer(conn, conn)
		framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		var block strings.Builder
		enc := hpack.NewEncoder(&block)
		for _, f := range [][2]string{
			{":method", "POST"},
			{":scheme", "http"},
			{":authority", address},
			{":path", testMethod},
			{"content-type", "application/grpc"},
			{"te", "trailers"},
			{"origin", pageOfTest},
			{"x-large", strings.Repeat("a", bytes-32-7)},
		} {
			_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // to memory
		}
		_, err = io.WriteString(conn, http2.ClientPreface)
		err = errors.Join(err, framer.WriteSettings(),
			framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true}))
		if err != nil {
			t.Fatal(err)
		}
		for {
			f, err := framer.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if h, ok := f.(*http2.MetaHeadersFrame); ok {
				if got := h.PseudoValue("status"); got != want {
					t.Errorf("%d bytes of metadata are answered %s, want %s: %v", bytes, got, want, h.Fields)
				}
				allowed := slices.ContainsFunc(h.Fields, func(f hpack.HeaderField) bool {
					return f.Name == "access-control-allow-origin" && f.Value == pageOfTest
				})
				if !allowed {
					t.Errorf("%d bytes: the page may not read the answer: %v", bytes, h.Fields)
				}
				break
			}
		}
		_ = conn.Close() // read as far as it matters
	}
}
