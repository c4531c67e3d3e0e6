package h2

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// A sum counts what is unread, and what was sent in parts.
type sum struct {
	atomic.Int64
	parts atomic.Int64
	most  atomic.Int64 // more is dropped; 0: nothing is

	blocked atomic.Bool
}

func (s *sum) Unread(n int) bool { return s.Add(int64(n)) <= s.most.Load() || s.most.Load() == 0 }
func (s *sum) SentPart(n int)    { s.parts.Add(int64(n)) }
func (s *sum) Blocked(b bool)    { s.blocked.Store(b) }

// TestWholeBody: a body's length is known once its end has come, without its padding.
func TestWholeBody(t *testing.T) {
	ask, lengths := make(chan bool), make(chan int64)
	p := dialPeer(t, serve(t, func(_ http.ResponseWriter, r *http.Request) {
		for range ask {
			lengths <- Whole(r)
		}
	}))
	defer close(ask)
	whole := func(want int64) {
		t.Helper()
		p.awaitServer()
		ask <- true
		if got := await(t, "the handler", lengths); got != want {
			t.Errorf("the body has %d bytes, want %d", got, want)
		}
	}
	p.headers(1, false)
	whole(-1)
	p.data(1, false, "abc")
	whole(-1)
	p.must(p.framer.WriteDataPadded(1, true, []byte("de"), make([]byte, 7)))
	whole(5)
	if got := Whole(httptest.NewRequest(http.MethodPost, "/", strings.NewReader("abc"))); got != -1 {
		t.Errorf("a body of another server has %d bytes, want -1: not known", got)
	}
}

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
		p.awaitServer()
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

// TestPartsOfAnAnswerAreTold: a client that takes an answer a few bytes at a time gets on.
// Until the last byte the answer waits for the client.
func TestPartsOfAnAnswerAreTold(t *testing.T) {
	var told sum
	blocked := make(chan bool, 1)
	p := dialPeer(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		CountBody(r, &told)
		_, _ = w.Write(make([]byte, 1000)) // the client may be gone
		_ = http.NewResponseController(w).Flush()
		blocked <- told.blocked.Load()
	}))
	p.must(p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 300}))
	p.headers(1, false)
	p.flush()
	for got := 0; got < 1000; {
		if f, ok := p.next().(*http2.DataFrame); ok {
			got += len(f.Data())
			if want := int64(min(got, 900)); told.parts.Load() != want {
				t.Errorf("behind %d bytes %d are told as parts, want %d", got, told.parts.Load(), want)
			}
			if got < 900 {
				parts.Poll(t, func() string { // a part is sent before the wait begins
					if !told.blocked.Load() {
						return fmt.Sprintf("behind %d bytes the answer doesn't wait for the client", got)
					}
					return ""
				})
			}
			p.must(p.framer.WriteWindowUpdate(1, 300))
			p.flush()
		}
	}
	if await(t, "the handler", blocked) {
		t.Error("behind its end the answer waits for the client")
	}
}

// TestUnwantedBodyIsDropped: what the counter doesn't want is held no more, and the other
// streams of the connection go on.
func TestUnwantedBodyIsDropped(t *testing.T) {
	var unread sum
	unread.most.Store(20_000)
	counts := make(chan bool)
	failed := make(chan error, 1)
	p := dialPeer(t, serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("other") == "" {
			CountBody(r, &unread)
			counts <- true
			<-counts
		}
		_, err := io.Copy(io.Discard, r.Body)
		failed <- err
	}))
	p.headers(1, false)
	p.flush()
	await(t, "the handler", counts)
	for range 3 {
		p.data(1, false, strings.Repeat("a", 10_000))
	}
	p.flush()
	p.headers(3, false, "other", "one")
	p.data(3, true, strings.Repeat("a", 10_000))
	p.flush()
	if err := await(t, "the other's end", failed); err != nil {
		t.Errorf("another stream of the connection ends with %v", err)
	}
	if got := unread.Load(); got != 0 {
		t.Errorf("%d bytes are held of what nobody wants", got)
	}
	counts <- true
	if err := await(t, "the reader's end", failed); err == nil {
		t.Error("the reader isn't told that its body was dropped")
	}
}
