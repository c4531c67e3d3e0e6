package h2

import (
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// TestBrowserIsToldAtOnce that no more is wanted, while its page goes on
// sending, too.
func TestBrowserIsToldAtOnce(t *testing.T) {
	inBubble(t, refuse, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.hello()
		p.headers(1, false, "sec-fetch-site", "cross-site")
		p.flush()
		wantCame(t, p.elapse(0), "HEADERS", "RST_STREAM")
		for range 10 { // they were under way
			p.data(1, false, "a message")
		}
		p.headers(3, true)
		p.flush()
		wantCame(t, p.elapse(restSilence), "HEADERS")
	})
}

// TestResetOfABrowserFollowsTheWholeAnswer, which takes many windows.
func TestResetOfABrowserFollowsTheWholeAnswer(t *testing.T) {
	body := strings.Repeat("much of it", 20<<10)
	p := dialPeer(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(body)) // to a client that is there
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "8")
	}), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	p.headers(1, false, "sec-fetch-site", "cross-site")
	p.flush()
	r := p.await(1)
	if !r.ended || r.wasReset || r.body != body || field(r.trailer, "grpc-status") != "8" {
		t.Fatalf("the answer has %d bytes and the trailers %v, ended: %v, reset: %v", len(r.body), r.trailer, r.ended, r.wasReset)
	}
	reset, ok := p.next().(*http2.RSTStreamFrame)
	if !ok || reset.StreamID != 1 || reset.ErrCode != http2.ErrCodeNo {
		t.Errorf("%v behind the answer, want RST_STREAM with NO_ERROR", reset)
	}
}

// TestBrowserWhoseRequestIsWholeIsNotReset.
func TestBrowserWhoseRequestIsWholeIsNotReset(t *testing.T) {
	inBubble(t, refuse, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.hello()
		p.headers(1, true, "sec-fetch-site", "same-origin")
		p.flush()
		wantCame(t, p.elapse(restSilence), "HEADERS")
	})
}
