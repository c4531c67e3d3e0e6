package h2

import (
	"io"
	"net/http"
	"testing"
	"time"
)

// TestSmallBoxesStaySmall: a frame of data takes the frames before it along to a large box.
func TestSmallBoxesStaySmall(t *testing.T) {
	var c conn
	small := c.frames()
	small.b = append(make([]byte, 0, smallBox), "before"...)
	if f := c.framesFor(smallBox - len("before") - frameHeaderBytes); f != small {
		t.Error("data that fits into the box has left it")
	}
	large := c.framesFor(smallBox)
	if large == small || c.out.box != large || string(large.b) != "before" {
		t.Errorf("the large box has %q, want a box of its own with the frames before", large.b)
	}
	if cap(small.b) > smallBox || len(small.b) > 0 {
		t.Errorf("the small box has %d of %d bytes, want an empty one", len(small.b), cap(small.b))
	}
	large.b = append(large.b, make([]byte, smallBox)...)
	if f := c.framesFor(maxOutput); f != large {
		t.Error("data has left a large box")
	}
}

// TestPingThatComesWithDataIsAnsweredWithIt: what the handler makes of the
// data takes the answer along; else it leaves after a moment, by itself.
func TestPingThatComesWithDataIsAnsweredWithIt(t *testing.T) {
	var ready chan struct{} // of the bubble
	handler := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 4)) // the client sends as much
		<-ready
		_, _ = io.WriteString(w, "answer")        // to a client that is there
		_ = http.NewResponseController(w).Flush() // to a client that is there
		_, _ = io.Copy(io.Discard, r.Body)        // until the client goes
	}
	ping := [8]byte{'b', 'd', 'p'}
	inBubble(t, handler, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		ready = make(chan struct{})
		p.hello()
		p.elapse(time.Second)

		p.must(p.framer.WritePing(false, ping))
		p.flush()
		wantCame(t, p.elapse(0), "PING bdp") // alone, so at once

		p.headers(1, false)
		p.data(1, false, "data")
		p.must(p.framer.WritePing(false, ping))
		p.flush()
		wantCame(t, p.elapse(answerDelay-time.Nanosecond))
		wantCame(t, p.elapse(time.Nanosecond), "PING bdp")

		p.data(1, false, "data")
		p.must(p.framer.WritePing(false, ping))
		p.flush()
		wantCame(t, p.elapse(0))
		close(ready)
		wantCame(t, p.elapse(0), "PING bdp", "HEADERS", "DATA")
		wantCame(t, p.elapse(time.Second)) // and nothing twice

		p.data(1, false, "data") // the handler reads it and waits for more
		p.must(p.framer.WritePing(false, ping))
		p.flush()
		wantCame(t, p.elapse(answerDelay-time.Nanosecond))
		wantCame(t, p.elapse(time.Nanosecond), "PING bdp")
	})
}
