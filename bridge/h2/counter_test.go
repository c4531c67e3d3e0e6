package h2

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// A sum counts what is unread.
type sum struct{ atomic.Int64 }

func (s *sum) Unread(n int) { s.Add(int64(n)) }

// TestUnreadBodyIsCounted from when it comes until it is read, and nothing of it once
// the handler has ended.
func TestUnreadBodyIsCounted(t *testing.T) {
	var unread sum
	counts, read, end := make(chan bool), make(chan int), make(chan bool)
	p := dialPeer(t, serve(t, func(_ http.ResponseWriter, r *http.Request) {
		CountBody(r, &unread)
		counts <- true
		for n := range read {
			if _, err := io.ReadFull(r.Body, make([]byte, n)); err != nil {
				t.Error(err)
			}
			end <- true
		}
	}))
	came := func(want int64) {
		t.Helper()
		p.must(p.framer.WritePing(false, [8]byte{1})) // answered behind what came before it
		p.flush()
		for {
			if f, ok := p.next().(*http2.PingFrame); ok && f.IsAck() {
				break
			}
		}
		if got := unread.Load(); got != want {
			t.Errorf("%d bytes are counted as unread, want %d", got, want)
		}
	}
	p.headers(1, false)
	p.data(1, false, strings.Repeat("a", 10_000))
	p.flush()
	await(t, "the handler", counts)
	p.data(1, false, strings.Repeat("a", 10_000))
	came(20_000)
	read <- 20_000
	<-end
	p.data(1, false, strings.Repeat("a", 5_000))
	came(5_000)
	read <- 1_000
	<-end
	close(read)
	p.await(1)
	p.data(1, false, strings.Repeat("a", 5_000)) // the handler has ended
	came(0)
}
