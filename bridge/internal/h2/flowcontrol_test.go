package h2

import (
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"golang.org/x/net/http2"
)

// TestWindowOpensAsTheHandlerReads, and not before.
func TestWindowOpensAsTheHandlerReads(t *testing.T) {
	read := make(chan int)
	p := dialPeer(t, serve(t, func(_ http.ResponseWriter, r *http.Request) {
		for n := range read {
			if _, err := io.ReadFull(r.Body, make([]byte, n)); err != nil {
				t.Error(err)
			}
		}
	}))
	p.headers(1, false)
	for range 4 {
		p.data(1, false, strings.Repeat("a", 16<<10-1))
	}
	p.must(p.framer.WritePing(false, [8]byte{1}))
	p.flush()
	for {
		f := p.next()
		if _, ok := f.(*http2.PingFrame); ok {
			break
		}
		if u, ok := f.(*http2.WindowUpdateFrame); ok && u.StreamID == 1 {
			t.Fatal("the window opens before anything was read")
		}
	}
	read <- 40_000
	for {
		if u, ok := p.next().(*http2.WindowUpdateFrame); ok && u.StreamID == 1 {
			if u.Increment < 16<<10 || u.Increment > 40_000 {
				t.Errorf("after 40000 bytes were read the window opens by %d", u.Increment)
			}
			break
		}
	}
	close(read)
	p.await(1)
}

// TestStreamsThatReadALittle give that back, all together: with a window each
// that is as large as the connection's, what they kept would be all of it.
func TestStreamsThatReadALittle(t *testing.T) {
	const window, streams, each = 1 << 20, 5, 200_000
	p := dialPeer(t, serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // until the client goes
	}, func(hs *http.Server) {
		hs.HTTP2.MaxReceiveBufferPerStream, hs.HTTP2.MaxReceiveBufferPerConnection = window, window
	}))
	for i := range uint32(streams) {
		p.headers(2*i+1, false)
		for range each / 10_000 {
			p.data(2*i+1, false, strings.Repeat("a", 10_000))
		}
	}
	p.flush()
	for opened := 0; opened < streams*each-maxOwed; {
		if u, ok := p.next().(*http2.WindowUpdateFrame); ok && u.StreamID == 0 {
			opened += int(u.Increment)
		}
	}
}

// TestStreamsThatNobodyReads stop no other: the connection's window holds them
// all.
func TestStreamsThatNobodyReads(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/alive" {
			echo(w, r)
			return
		}
		stuck(w, r)
	})
	p := dialPeer(t, address)
	for i := range uint32(99) {
		p.headers(2*i+1, false)
		for range 4 {
			p.data(2*i+1, false, strings.Repeat("a", 16<<10-1))
		}
	}
	p.raw(999, false, ":method", "POST", ":scheme", "http", ":path", "/alive")
	p.data(999, true, strings.Repeat("b", 60_000)[:16<<10])
	p.flush()
	if r := p.await(999); len(r.body) != 16<<10 {
		t.Errorf("beside 99 stuck streams came %d bytes", len(r.body))
	}
}

// TestSendingHeedsTheWindows of the stream and of the connection, small ones,
// too, and their changes.
func TestSendingHeedsTheWindows(t *testing.T) {
	p := dialPeer(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("a", 200_000)) // looked at by the client
	}), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	p.headers(1, true)
	p.flush()
	got := 0
	take := func(want int) {
		t.Helper()
		for got < want {
			if f, ok := p.next().(*http2.DataFrame); ok {
				got += len(f.Data())
			}
		}
		p.must(p.framer.WritePing(false, [8]byte{2}))
		p.flush()
		for {
			f := p.next()
			if d, ok := f.(*http2.DataFrame); ok {
				got += len(d.Data())
			}
			if _, ok := f.(*http2.PingFrame); ok {
				break
			}
		}
		if got != want {
			t.Fatalf("%d bytes came, the windows allow %d", got, want)
		}
	}
	take(10)
	p.must(p.framer.WriteWindowUpdate(1, 5))
	p.flush()
	take(15)
	p.must(p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})) // now it is -10
	p.must(p.framer.WriteWindowUpdate(1, 10))
	p.flush()
	if _, ok := p.next().(*http2.SettingsFrame); !ok {
		t.Fatal("SETTINGS are not acknowledged")
	}
	take(15)
	p.must(p.framer.WriteWindowUpdate(1, 200_000))
	p.flush()
	take(defaultWindow) // the connection's
	p.must(p.framer.WriteWindowUpdate(0, 1<<20))
	p.flush()
	for got < 200_000 {
		if f, ok := p.next().(*http2.DataFrame); ok {
			got += len(f.Data())
		}
	}
}

// TestTrailersPassAFullConnectionWindow: they need none.
func TestTrailersPassAFullConnectionWindow(t *testing.T) {
	full := make(chan struct{})
	p := dialPeer(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/alive" {
			<-full
			return
		}
		_, _ = w.Write(make([]byte, 100_000)) // it waits
	}), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	p.headers(1, true)
	p.flush()
	for got := 0; got < defaultWindow; {
		if f, ok := p.next().(*http2.DataFrame); ok {
			got += len(f.Data())
		}
	}
	close(full)
	p.wantAlive(3)
}

// TestStreamsTakeTurns: a large answer doesn't hold up a small one.
func TestStreamsTakeTurns(t *testing.T) {
	p := dialPeer(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		err := error(nil)
		for err == nil && r.URL.Path == "/large" { // until the test ends
			_, err = w.Write(make([]byte, 100_000))
		}
		_, _ = w.Write(make([]byte, 1000)) // looked at by the client
	}), http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
	p.must(p.framer.WriteWindowUpdate(0, 1<<30))
	p.raw(1, true, ":method", "GET", ":scheme", "http", ":path", "/large")
	p.flush()
	large := 0
	asked, answered := false, false
	for large < 128<<20 && !answered { // more than sockets hold
		f, ok := p.next().(*http2.DataFrame)
		if !ok {
			continue
		}
		if f.StreamID == 1 {
			large += len(f.Data())
		} else {
			answered = true
		}
		if !asked && large > 256<<10 {
			asked = true
			p.raw(3, true, ":method", "GET", ":scheme", "http", ":path", "/small")
			p.flush()
		}
	}
	if !answered {
		t.Error("the small answer waited for the whole large one")
	}
}

// TestClientThatReadsNothing has little kept for it, whatever its windows are,
// and frees its handlers when it goes.
func TestClientThatReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams = 50
		var taken atomic.Int64
		ended := make(chan error, streams)
		pipes := newPipes()
		serveOn(t, pipes, func(w http.ResponseWriter, _ *http.Request) {
			message := make([]byte, 10_000)
			for {
				if _, err := w.Write(message); err != nil {
					ended <- err
					return
				}
				taken.Add(int64(len(message)))
			}
		})
		p := newGreedyPeer(t, pipes)
		for i := range uint32(streams) {
			p.headers(2*i+1, true)
		}
		p.flush()
		synctest.Wait() // all handlers are stuck
		if got := taken.Load(); got > 2*(maxOutput+maxFrameBytes) {
			t.Errorf("of a client that reads nothing %d bytes are kept, want %d at most", got, 2*(maxOutput+maxFrameBytes))
		}
		if len(ended) > 0 {
			t.Errorf("a write ended with %v", <-ended)
		}
		_ = p.conn.Close() // it is gone
		for range streams {
			if err := <-ended; !errors.Is(err, errConnClosed) {
				t.Errorf("a write ended with %v, want %v", err, errConnClosed)
			}
		}
	})
}

// TestGoodbyeToASlowClient waits for it to take the last answers.
func TestGoodbyeToASlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const answer = maxOutput / 2
		pipes := newPipes()
		serveOn(t, pipes, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, answer)) // to a client that is there
		})
		p := newPeer(t, pipes.dial())
		p.out.WriteString(http2.ClientPreface)
		p.must(p.framer.WriteSettings())
		p.headers(1, true)
		p.must(p.framer.WriteGoAway(0, http2.ErrCodeNo, nil))
		p.flush()
		<-time.After(5 * goodbyeTime)
		for got := 0; got < answer; {
			if f, ok := p.next().(*http2.DataFrame); ok {
				got += len(f.Data())
			}
		}
	})
}

// TestResetOfWhatWaitsToBeSent keeps nothing of it, though the client goes on
// reading nothing: else it could pile up requests without end.
func TestResetOfWhatWaitsToBeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams = 20
		var requests [streams]weak.Pointer[http.Request]
		begun := 0
		pipes := newPipes()
		serveOn(t, pipes, func(w http.ResponseWriter, r *http.Request) {
			requests[begun] = weak.Make(r)
			begun++
			for {
				if _, err := w.Write(make([]byte, maxOutput)); err != nil {
					return
				}
			}
		})
		p := newGreedyPeer(t, pipes)
		for i := range uint32(streams) {
			p.headers(2*i+1, true)
			p.flush()
			synctest.Wait() // the handler is stuck
			if i > 0 {
				p.must(p.framer.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
				p.flush()
				synctest.Wait()
			}
		}
		runtime.GC()
		kept := 0
		for _, r := range requests[1:] {
			if r.Value() != nil {
				kept++
			}
		}
		if kept > 1 { // a register may hold the last
			t.Errorf("%d of %d requests that were reset are kept", kept, streams-1)
		}
	})
}

// TestResetDropsWhatIsQueued, frees the handler, and lets others go on.
func TestResetDropsWhatIsQueued(t *testing.T) {
	wrote := make(chan error, 1)
	p := dialPeer(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/alive" {
			return
		}
		_, err := w.Write(make([]byte, 1<<20))
		wrote <- err
	}))
	p.headers(1, true)
	p.flush()
	for got := 0; got < defaultWindow; {
		if f, ok := p.next().(*http2.DataFrame); ok {
			got += len(f.Data())
		}
	}
	p.must(p.framer.WriteRSTStream(1, http2.ErrCodeCancel))
	p.flush()
	if err := await(t, "the write's end", wrote); !errors.As(err, new(resetError)) {
		t.Errorf("the write ended with %v, want the reset", err)
	}
	p.must(p.framer.WriteWindowUpdate(0, 1<<20))
	p.raw(3, true, ":method", "GET", ":scheme", "http", ":path", "/alive")
	p.flush()
	for {
		f := p.next()
		if d, ok := f.(*http2.DataFrame); ok && d.StreamID == 1 && len(d.Data()) > 0 {
			t.Fatal("DATA of a stream that was reset")
		}
		if f.Header().StreamID == 3 {
			break
		}
	}
}

// TestManyWriters on one connection: each message comes whole, in its stream's
// order.
func TestManyWriters(t *testing.T) {
	const streams, messages = 40, 200
	p := dialPeer(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		for i := range messages {
			if _, err := io.WriteString(w, strings.Repeat(string(rune('a'+i%26)), 1+i*7%3000)); err != nil {
				t.Error(err)
			}
			if err := rc.Flush(); err != nil {
				t.Error(err)
			}
		}
	}), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100_000})
	var want strings.Builder
	for i := range messages {
		want.WriteString(strings.Repeat(string(rune('a'+i%26)), 1+i*7%3000))
	}
	for i := range uint32(streams) {
		p.headers(2*i+1, true)
	}
	p.flush()
	got := make(map[uint32]*strings.Builder)
	for ended := 0; ended < streams; {
		f, ok := p.next().(*http2.DataFrame)
		if !ok {
			continue
		}
		b := got[f.StreamID]
		if b == nil {
			b = new(strings.Builder)
			got[f.StreamID] = b
		}
		b.Write(f.Data())
		if n := uint32(len(f.Data())); n > 0 {
			p.must(p.framer.WriteWindowUpdate(0, n))
			p.must(p.framer.WriteWindowUpdate(f.StreamID, n))
			p.flush()
		}
		if f.StreamEnded() {
			ended++
		}
	}
	for id, b := range got {
		if b.String() != want.String() {
			t.Errorf("stream %d: %d bytes, want %d in order", id, b.Len(), want.Len())
		}
	}
}

// TestConnectionThatVanishes ends its requests, and serve waits for them.
func TestConnectionThatVanishes(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan struct{})
	p := dialPeer(t, serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		_, err := r.Body.Read(make([]byte, 1))
		if !errors.Is(err, errConnClosed) {
			t.Errorf("the body reads as %v, want %v", err, errConnClosed)
		}
		<-r.Context().Done()
		close(ended)
	}))
	p.headers(1, false)
	p.flush()
	await(t, "the handler", begun)
	_ = p.conn.(*net.TCPConn).SetLinger(0) // a reset
	_ = p.conn.Close()
	await(t, "the handler's end", ended)
}

// newGreedyPeer is a client that lets the server send as much as it likes.
func newGreedyPeer(t *testing.T, pipes *pipeListener) *peer {
	t.Helper()
	p := newPeer(t, pipes.dial())
	p.out.WriteString(http2.ClientPreface)
	p.must(p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow}))
	p.must(p.framer.WriteWindowUpdate(0, 1<<30))
	return p
}
