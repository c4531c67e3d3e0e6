package h2

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// fuzzed serves what the fuzzer sends: it answers with what it reads, with
// trailers, in all the ways there are.
func fuzzed(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	switch len(r.URL.Path) % 4 {
	case 0:
		_ = r.Body.Close() // never fails
	case 1:
		_, _ = io.Copy(w, r.Body) // whatever comes of it
	case 2:
		_ = rc.Flush()
		_, _ = w.Write(make([]byte, 50_000)) // whatever comes of it
	default:
		panic(http.ErrAbortHandler)
	}
	w.Header().Set(http.TrailerPrefix+"grpc-status", "0")
}

// FuzzConn sends any bytes behind the preface. The connection must end when
// its client goes, with all that it started.
func FuzzConn(f *testing.F) {
	seed := func(write func(p *peer)) {
		p := newPeer(f, nopConn{})
		p.must(p.framer.WriteSettings())
		write(p)
		f.Add(bytes.Clone(p.out.Bytes()))
	}
	seed(func(*peer) {})
	seed(func(p *peer) { p.headers(1, true) })
	seed(func(p *peer) { p.headers(1, false); p.data(1, false, "abc"); p.data(1, true, "def") })
	seed(func(p *peer) { p.headers(1, false, "trailer", "x-a"); p.raw(1, true, "x-a", "b") })
	seed(func(p *peer) {
		p.headers(1, false)
		p.must(p.framer.WriteRSTStream(1, http2.ErrCodeCancel))
		p.data(1, true, "x")
	})
	seed(func(p *peer) {
		p.must(p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3}))
		p.raw(1, true, ":method", "GET", ":scheme", "http", ":path", "/2")
		p.must(p.framer.WriteWindowUpdate(1, 70_000))
		p.must(p.framer.WritePing(false, [8]byte{1}))
		p.must(p.framer.WriteGoAway(0, http2.ErrCodeNo, nil))
	})
	seed(func(p *peer) {
		b := string(p.fields(post...))
		p.frame(http2.FrameHeaders, http2.FlagHeadersPadded|http2.FlagHeadersPriority, 1, "\x01"+word(0)+"\x10"+b[:2]+"\x00")
		p.frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, b[2:])
		p.frame(http2.FrameData, http2.FlagDataPadded|http2.FlagDataEndStream, 1, "\x02abc\x00\x00")
		p.frame(http2.FramePriority, 0, 3, word(1)+"\x10")
		p.frame(0xbe, 0xef, 1, "unknown")
	})
	hs := newHTTPServer(http.HandlerFunc(fuzzed))
	hs.HTTP2.MaxConcurrentStreams = 3
	f.Fuzz(func(t *testing.T, in []byte) {
		client, conn := net.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			newServer().serve(hs, conn, nil, hs.Handler, true)
		}()
		go func() { _, _ = io.Copy(io.Discard, client) }()    // ends with the connection
		_ = client.SetWriteDeadline(time.Now().Add(patience)) // never fails
		_, _ = client.Write(in)                               // it may be closed meanwhile
		_ = client.Close()                                    // the other end may be closed
		select {
		case <-ended:
		case <-time.After(patience):
			panic("the connection doesn't end") // with all goroutines
		}
	})
}

// nopConn is the connection of a peer that only writes down.
type nopConn struct{ net.Conn }

func (nopConn) Close() error { return nil }
