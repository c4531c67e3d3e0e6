package h2

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"
)

// TestEachHeaderBlockHasItsOwnTime: each read ends inside a block for longer
// than one block may take, and each block is whole soon. The time of the last
// one counts from its own beginning.
func TestEachHeaderBlockHasItsOwnTime(t *testing.T) {
	const tempo = 250 * time.Millisecond
	inBubble(t, func(http.ResponseWriter, *http.Request) {}, func(t *testing.T, hs *http.Server, p *bubblePeer) {
		p.hello()
		p.elapse(0)
		var unsent []byte
		var want []string // nothing for the first part
		for id := uint32(1); time.Since(p.begun) < 2*hs.ReadHeaderTimeout; id += 2 {
			p.headers(id, true)
			frame := bytes.Clone(p.out.Bytes())
			p.out.Reset()
			p.out.Write(unsent)
			p.out.Write(frame[:frameHeaderBytes+1])
			p.flush()
			wantCame(t, p.elapse(tempo), want...)
			unsent, want = frame[frameHeaderBytes+1:], []string{"HEADERS"}
		}
		wantCame(t, p.elapse(hs.ReadHeaderTimeout-tempo-1))
		wantCame(t, p.elapse(1), "GOAWAY ENHANCE_YOUR_CALM")
	})
}

// TestHeadersOfAStreamThatWasResetAreDecoded: what follows them refers to the
// table that they filled.
func TestHeadersOfAStreamThatWasResetAreDecoded(t *testing.T) {
	p := dialPeer(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/alive" {
			_, _ = io.WriteString(w, r.Header.Get("X-Kept")) // the client is there
			return
		}
		stuck(w, r)
	}))
	p.headers(1, false)
	p.must(p.framer.WriteWindowUpdate(1, 0))
	p.raw(1, true, "x-kept", "in the table")
	p.raw(3, true, ":method", "GET", ":scheme", "http", ":path", "/alive", "x-kept", "in the table")
	p.flush()
	if r := p.await(3); r.body != "in the table" {
		t.Errorf("the next request is answered %v", r)
	}
}
