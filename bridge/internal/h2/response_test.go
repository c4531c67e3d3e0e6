package h2

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// get makes a request of a GET on stream 1 and returns what came of it.
func get(t *testing.T, handler http.HandlerFunc) *reply {
	t.Helper()
	p := dialPeer(t, serve(t, handler))
	p.raw(1, true, ":method", "GET", ":scheme", "http", ":authority", "localhost", ":path", "/")
	p.flush()
	return p.await(1)
}

// TestHeader: names in lower case, values that can't be sent and what is about
// connections left out, what the handler doesn't say said for it.
func TestHeader(t *testing.T) {
	r := get(t, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("X-Upper", "a")
		h["x-lower"] = []string{"b", "c"}
		h["X-Bad"] = []string{"a\r\nb", "good"}
		h["bad name"] = []string{"x"}
		h["Keep-Alive"] = []string{"x"}
		h["Transfer-Encoding"] = []string{"chunked"}
		_, _ = io.WriteString(w, "<html>") // the client's end is looked at
	})
	if got := r.header; r.status() != "200" || !slices.Equal(got["x-lower"], []string{"b", "c"}) || !slices.Equal(got["x-upper"], []string{"a"}) ||
		!slices.Equal(got["x-bad"], []string{"good"}) || got["keep-alive"] != nil || got["transfer-encoding"] != nil || got["bad name"] != nil {
		t.Errorf("the header is %v", got)
	}
	if got := r.header; !slices.Equal(got["content-type"], []string{"text/html; charset=utf-8"}) || !slices.Equal(got["content-length"], []string{"6"}) || got["date"] == nil {
		t.Errorf("type, length and date are %v", got)
	}
	if r.frames != 1 || r.body != "<html>" {
		t.Errorf("the body %q came in %d frames, want one", r.body, r.frames)
	}
}

// TestHeaderThatAHandlerSilenced: nil means that nothing is said.
func TestHeaderThatAHandlerSilenced(t *testing.T) {
	r := get(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Date"], w.Header()["Content-Length"], w.Header()["Content-Type"] = nil, nil, nil
		_, _ = io.WriteString(w, "x") // the client's end is looked at
	})
	if len(r.header) != 1 {
		t.Errorf("the header is %v, want the status alone", r.header)
	}
}

// TestHeaderIsThatOfItsTime: what a handler sets behind WriteHeader isn't in it.
func TestHeaderIsThatOfItsTime(t *testing.T) {
	r := get(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-A", "before")
		w.WriteHeader(http.StatusTeapot)
		w.Header().Set("X-A", "after")
		w.Header().Set("X-B", "after")
		w.WriteHeader(http.StatusOK) // too late
	})
	if got := r.header; r.status() != "418" || !slices.Equal(got["x-a"], []string{"before"}) || got["x-b"] != nil {
		t.Errorf("the header is %v", got)
	}
}

// TestTrailers: those that were announced and those with the prefix, sorted,
// and none that can't be one.
func TestTrailers(t *testing.T) {
	r := get(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Announced, Content-Length")
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "body") // the client's end is looked at
		w.Header().Set("X-Announced", "a")
		w.Header().Set("X-Other", "b")
		w.Header().Set("Content-Length", "9")
		w.Header()[http.TrailerPrefix+"grpc-status"] = []string{"0"}
		w.Header()[http.TrailerPrefix+"X-Upper"] = []string{"c", "d"}
		w.Header()[http.TrailerPrefix+"Transfer-Encoding"] = []string{"e"}
	})
	if got := r.trailer; len(got) != 3 || got["x-announced"][0] != "a" || got["grpc-status"][0] != "0" || !slices.Equal(got["x-upper"], []string{"c", "d"}) {
		t.Errorf("the trailers are %v", got)
	}
	if r.body != "body" {
		t.Errorf("the body is %q", r.body)
	}
}

// TestMessageIsOneFrame: prefix, payload and Flush.
func TestMessageIsOneFrame(t *testing.T) {
	for _, size := range []int{0, 1, 100, 507, 508, 4000, 4091, 4092, 10_000, maxFrameBytes - 5} {
		r := get(t, func(w http.ResponseWriter, _ *http.Request) {
			rc := http.NewResponseController(w)
			for _, b := range []string{"12345", strings.Repeat("x", size)} {
				if _, err := io.WriteString(w, b); err != nil {
					t.Error(err)
				}
			}
			if err := rc.Flush(); err != nil {
				t.Error(err)
			}
			w.Header().Set(http.TrailerPrefix+"grpc-status", "0")
		})
		if r.frames != 1 || len(r.body) != 5+size || field(r.trailer, "grpc-status") != "0" {
			t.Errorf("a message of %d bytes came in %d frames, %d bytes, trailers %v", size, r.frames, len(r.body), r.trailer)
		}
	}
}

// TestWrites of any size come whole and in order.
func TestWrites(t *testing.T) {
	want := string(pattern(1 << 20))
	r := get(t, func(w http.ResponseWriter, _ *http.Request) {
		for rest, n := want, 1; rest != ""; n = n*3 + 1 {
			n = min(n, len(rest))
			if got, err := io.WriteString(w, rest[:n]); got != n || err != nil {
				t.Errorf("wrote %d of %d: %v", got, n, err)
				return
			}
			rest = rest[n:]
		}
	})
	if r.body != want {
		t.Errorf("%d bytes came as %d others", len(want), len(r.body))
	}
}

// TestHead has the header of GET and no body.
func TestHead(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"short": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "12345") }, // looked at by the client
		"flushed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "12345")
		},
	} {
		p := dialPeer(t, serve(t, handler))
		p.raw(1, true, ":method", "HEAD", ":scheme", "http", ":path", "/")
		p.flush()
		if r := p.await(1); field(r.header, "content-length") != "5" || r.body != "" || r.frames != 0 {
			t.Errorf("%s: HEAD is answered %v, %v", name, r, r.header)
		}
	}
}

// TestAnswersWithoutContent end with the header.
func TestAnswersWithoutContent(t *testing.T) {
	r := get(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
		if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrBodyNotAllowed) {
			t.Errorf("a body with 204: %v", err)
		}
	})
	if r.status() != "204" || r.frames != 0 || r.header["content-length"] != nil {
		t.Errorf("204 came as %v, %v, %d frames", r, r.header, r.frames)
	}
}

func TestContentLengthOfAHandlerHolds(t *testing.T) {
	r := get(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "3")
		if _, err := w.Write([]byte("1234")); err == nil {
			t.Error("more than the Content-Length can be written")
		}
		_, _ = w.Write(nil) // not even the error is new
	})
	if !r.wasReset {
		t.Errorf("less than the Content-Length passes for all: %v", r)
	}
}

// TestInformation comes before the header.
func TestInformation(t *testing.T) {
	client := h2c(t)
	address := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
	})
	req, err := http.NewRequestWithContext(within(t, patience), http.MethodGet, "http://"+address, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil || res.StatusCode != http.StatusOK || res.Header.Get("Link") != "" {
		t.Fatalf("got %v, %v", res, err)
	}
	_ = res.Body.Close() // it is empty
}

// TestExpect: the client is asked for the body when the handler reads it, and
// not if it doesn't.
func TestExpect(t *testing.T) {
	p := dialPeer(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Expect") != "" {
			t.Error("the handler sees Expect")
		}
		if r.URL.Path == "/read" {
			_, _ = io.Copy(w, r.Body) // the client's end is looked at
		}
	}))
	p.raw(1, false, ":method", "POST", ":scheme", "http", ":path", "/read", "expect", "100-continue")
	p.flush()
	for {
		f, ok := p.next().(*http2.MetaHeadersFrame)
		if !ok {
			continue
		}
		if got := f.PseudoValue("status"); got != "100" || f.StreamEnded() {
			t.Fatalf("first comes %s, want 100", got)
		}
		break
	}
	p.data(1, true, "body")
	p.flush()
	if r := p.await(1); r.status() != "200" || r.body != "body" {
		t.Errorf("then comes %v", r)
	}
	p.raw(3, false, ":method", "POST", ":scheme", "http", ":path", "/", "expect", "100-continue")
	p.flush()
	if r := p.await(3); r.status() != "200" || !r.ended {
		t.Errorf("a body that nobody wants is asked for: %v, %v", r, r.header)
	}
	p.raw(5, true, ":method", "POST", ":scheme", "http", ":path", "/read", "expect", "100-continue")
	p.flush()
	if f, ok := p.next().(*http2.MetaHeadersFrame); !ok || f.PseudoValue("status") != "200" {
		t.Errorf("without a body to ask for comes %v, want the answer", f)
	}
}

// TestPanics reset the stream, and are logged unless they are ErrAbortHandler.
func TestPanics(t *testing.T) {
	for name, v := range map[string]any{"aborted": http.ErrAbortHandler, "broken": "a bug"} {
		p := dialPeer(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/alive" {
				return
			}
			_, _ = io.WriteString(w, "never sent") // it is kept
			panic(v)
		}))
		p.headers(1, true)
		p.flush()
		if r := p.await(1); !r.wasReset || r.reset != http2.ErrCodeInternal || r.body != "" {
			t.Errorf("%s: the stream ended as %v", name, r)
		}
		p.wantAlive(3)
	}
}

// TestRequest is as net/http would have it.
func TestRequest(t *testing.T) {
	got := make(chan *http.Request, 1)
	p := dialPeer(t, serve(t, func(_ http.ResponseWriter, r *http.Request) { got <- r }))
	p.raw(1, true, ":method", "POST", ":scheme", "https", ":authority", "a.example:1", ":path", "/p/%41?q=1",
		"cookie", "a=1", "cookie", "b=2", "x-many", "1", "x-many", "2", "host", "other", "te", "trailers", "trailer", "X-T, Content-Length", "content-length", "0")
	p.flush()
	r := await(t, "the request", got)
	header := fmt.Sprint(r.Header)
	if want := "map[Content-Length:[0] Cookie:[a=1; b=2] Te:[trailers] X-Many:[1 2]]"; header != want {
		t.Errorf("the header is %s, want %s", header, want)
	}
	if r.Method != "POST" || r.Host != "a.example:1" || r.RequestURI != "/p/%41?q=1" || r.URL.Path != "/p/A" || r.URL.RawQuery != "q=1" || r.ProtoMajor != 2 || r.Proto != "HTTP/2.0" {
		t.Errorf("the request is %v", r)
	}
	if fmt.Sprint(r.Trailer) != "map[X-T:[]]" || r.ContentLength != 0 || r.Body == nil || r.TLS != nil || r.RemoteAddr != p.conn.LocalAddr().String() {
		t.Errorf("trailers %v, length %d, TLS %v, from %s", r.Trailer, r.ContentLength, r.TLS, r.RemoteAddr)
	}
	if r.Context().Value(http.ServerContextKey) == nil || r.Context().Value(http.LocalAddrContextKey) == nil {
		t.Error("the context lacks what net/http puts there")
	}
}

// TestReadDeadlineInThePast makes a read return, behind what has come, and
// leaves the answer alone.
func TestReadDeadlineInThePast(t *testing.T) {
	p := dialPeer(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if _, err := io.ReadFull(r.Body, make([]byte, 1)); err != nil {
			t.Error(err)
		}
		if err := rc.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Error(err)
		}
		rest, err := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %v", rest, errors.Is(err, os.ErrDeadlineExceeded)) // looked at by the client
	}))
	p.headers(1, false)
	p.data(1, false, "abc")
	p.flush()
	if r := p.await(1); r.body != "bc true" {
		t.Errorf("got %v, want the rest and the deadline", r)
	}
}

// TestCloseOfTheBody frees a read that waits.
func TestCloseOfTheBody(t *testing.T) {
	p := dialPeer(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		read := make(chan error)
		go func() {
			_, err := r.Body.Read(make([]byte, 1))
			read <- err
		}()
		_ = r.Body.Close() // never fails
		if err := <-read; err == nil {
			t.Error("a closed body can be read")
		}
		_, _ = io.WriteString(w, "done") // looked at by the client
	}))
	p.headers(1, false)
	p.flush()
	if r := p.await(1); r.body != "done" {
		t.Errorf("got %v", r)
	}
}

// TestBodyOfAStreamThatIsCut isn't cut short: what nobody had read is dropped,
// so its end doesn't come either.
func TestBodyOfAStreamThatIsCut(t *testing.T) {
	for name, cut := range map[string]func(p *peer){
		"by a reset":          func(p *peer) { p.must(p.framer.WriteRSTStream(1, http2.ErrCodeCancel)); p.flush() },
		"with its connection": func(p *peer) { _ = p.conn.Close() },
	} {
		read := make(chan error, 1)
		p := dialPeer(t, serve(t, func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			_, err := io.ReadAll(r.Body)
			read <- err
		}))
		p.headers(1, false)
		p.data(1, true, "all of it")
		p.flush()
		cut(p)
		if err := await(t, "the body's end", read); err == nil {
			t.Errorf("%s: a body without its bytes ends well", name)
		}
	}
}

// TestUseAfterTheEnd is an error, and harms nobody.
func TestUseAfterTheEnd(t *testing.T) {
	kept := make(chan http.ResponseWriter, 1)
	body := make(chan io.ReadCloser, 1)
	p := dialPeer(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/alive" {
			kept <- w
			body <- r.Body
		}
	}))
	p.headers(1, false)
	p.flush()
	p.await(1)
	p.wantAlive(3)
	w := <-kept
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("a write after the handler's end passes")
	}
	if err := http.NewResponseController(w).Flush(); err == nil {
		t.Error("a flush after the handler's end passes")
	}
	if _, err := (<-body).Read(make([]byte, 1)); err == nil {
		t.Error("a read after the handler's end passes")
	}
}
