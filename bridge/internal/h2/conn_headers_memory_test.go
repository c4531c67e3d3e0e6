package h2

import (
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// TestHeaderBlocksAreNotKept: a connection frees what it read of a request's
// header. The blocks are as large as they may be: many fields of an octet each,
// and one field that comes in many frames.
func TestHeaderBlocksAreNotKept(t *testing.T) {
	const conns = 50
	for name, block := range map[string]func(p *peer, block string){
		"many fields": func(p *peer, block string) {
			const most = (16<<10 + 320) / (32 + 3 + 1) // as newHTTPServer limits them
			block += string(p.fields("x-a", "b"))      // now it is in the table
			p.frame(http2.FrameHeaders, 5, 1, block+strings.Repeat(string(p.fields("x-a", "b")), most-10))
		},
		"pieces of a field": func(p *peer, block string) {
			field := string(p.fields("x-a", strings.Repeat("\\", 10<<10)))
			p.frame(http2.FrameHeaders, http2.FlagHeadersEndStream, 1, block)
			for i := range 16 {
				from, to := i*len(field)/16, (i+1)*len(field)/16
				p.frame(http2.FrameContinuation, http2.Flags(i/15*4), 1, field[from:to])
			}
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			address := serve(t, func(http.ResponseWriter, *http.Request) {})
			open := func(send func(p *peer)) (perConn int) {
				clients := make([]net.Conn, conns) // alone: the peers hold much themselves
				before := liveHeap()
				for i := range clients {
					p := dialPeer(t, address)
					clients[i] = p.conn
					send(p)
					p.flush()
					if r := p.await(1); r.status() != "200" {
						t.Fatalf("the answer is %v", r)
					}
					p.shrinkInput()
				}
				after := liveHeap()
				for _, c := range clients {
					_ = c.Close() // read to its end
				}
				return (after - before) / conns
			}
			few := open(func(p *peer) { p.headers(1, true) })
			many := open(func(p *peer) { block(p, string(p.fields(post...))) })
			t.Logf("a connection holds %d bytes, %d after a large header", few, many)
			if many > few+8<<10 {
				t.Errorf("a connection holds %d bytes after a large header, and %d after a small one", many, few)
			}
		})
	}
}

// shrinkInput sends so many little frames that the server's buffer for input
// gets small again.
func (p *peer) shrinkInput() {
	p.t.Helper()
	for n := range quietReads + 1 {
		ping := [8]byte{byte(n)}
		p.must(p.framer.WritePing(false, ping))
		p.flush()
		for {
			if f, ok := p.next().(*http2.PingFrame); ok && f.IsAck() && f.Data == ping {
				break
			}
		}
	}
}

// liveHeap returns the bytes that are in use.
func liveHeap() int {
	for range 3 { // pools give up what they hold by the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
