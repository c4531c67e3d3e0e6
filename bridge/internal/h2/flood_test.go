package h2

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// endings collects what Hooks.Ended is told.
type endings struct {
	mu   sync.Mutex
	ends []End
	more chan struct{} // a place for each
}

func newEndings() *endings { return &endings{more: make(chan struct{}, 100)} }

func (e *endings) note(_ net.Conn, why End) {
	e.mu.Lock()
	e.ends = append(e.ends, why)
	e.mu.Unlock()
	e.more <- struct{}{}
}

func (e *endings) want(t *testing.T, want ...End) {
	t.Helper()
	for range want {
		await(t, "a connection's end", e.more)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.Equal(e.ends, want) {
		t.Errorf("the connections ended as %q, want %q", e.ends, want)
	}
	e.ends = nil
}

// TestFloodsBesideWork: a little that is useful is no licence for the rest.
func TestFloodsBesideWork(t *testing.T) {
	ends := newEndings()
	address := serveHooked(t, Hooks{Ended: ends.note}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/answers" {
			for range 64 {
				_, _ = io.WriteString(w, strings.Repeat("a", 64)) // as far as the window goes
			}
		}
		_, _ = io.Copy(io.Discard, r.Body) // as far as it comes
	})
	for name, send := range map[string]func(p *peer, n uint32){
		"SETTINGS with a little DATA": func(p *peer, n uint32) {
			p.frame(http2.FrameSettings, 0, 0, setting(99, 1))
			if n%1000 == 0 {
				p.data(1, false, "a message")
			}
		},
		"DATA of a byte":                  func(p *peer, _ uint32) { p.data(1, false, "a") },
		"DATA of a byte and much padding": func(p *peer, _ uint32) { p.frame(http2.FrameData, http2.FlagDataPadded, 1, "\x03a\x00\x00\x00") },
		"windows that let a byte through": func(p *peer, n uint32) {
			if n == 0 {
				p.frame(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, 0))
				p.raw(3, true, ":method", "POST", ":scheme", "http", ":path", "/answers")
			}
			if n%4000 == 0 && n > 0 { // each answer has as many bytes
				p.raw(n/2000+3, true, ":method", "POST", ":scheme", "http", ":path", "/answers")
			}
			p.frame(http2.FrameWindowUpdate, 0, n/4000*2+3, word(1))
		},
		"frames of many settings": func(p *peer, _ uint32) {
			p.frame(http2.FrameSettings, 0, 0, strings.Repeat(setting(http2.SettingInitialWindowSize, 65535), maxSettings))
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			p := dialPeer(t, address)
			p.t = t
			p.headers(1, false)
			go func() { // ends with the connection
				for n := uint32(0); ; n++ {
					if send(p, n); n%100 == 99 {
						if _, err := p.conn.Write(p.out.Bytes()); err != nil {
							return
						}
						p.out.Reset()
					}
				}
			}()
			p.wantGoAway(http2.ErrCodeEnhanceYourCalm)
			_ = p.conn.Close() // frees the writer
			ends.want(t, EndFlood)
		})
	}
}

// TestRequestsBehindTheGoodbye are not served, and many of them end the
// connection: each is decoded.
func TestRequestsBehindTheGoodbye(t *testing.T) {
	inBubble(t, stuck, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.hello()
		p.headers(1, false)
		p.must(p.framer.WriteGoAway(0, http2.ErrCodeNo, nil))
		p.must(p.framer.WritePing(true, goodbyePing))
		p.flush()
		wantCame(t, p.elapse(0), "GOAWAY NO_ERROR for all", "PING goodbye", "GOAWAY NO_ERROR")
		for n := range uint32(maxWasted - 1) {
			p.headers(2*n+3, true)
		}
		p.flush()
		wantCame(t, p.elapse(0))
		p.headers(2*maxWasted+3, true)
		p.flush()
		wantCame(t, p.elapse(0), "GOAWAY ENHANCE_YOUR_CALM")
	})
}

// TestStreamsForNothing end their connection: those that are reset as soon as
// they began, and those that this side is made to reset. CVE-2023-44487,
// CVE-2025-8671.
func TestStreamsForNothing(t *testing.T) {
	ends := newEndings()
	address := serveHooked(t, Hooks{Ended: ends.note}, stuck)
	for name, send := range map[string]func(p *peer, id uint32){
		"reset at once": func(p *peer, id uint32) {
			p.headers(id, true)
			p.must(p.framer.WriteRSTStream(id, http2.ErrCodeCancel))
		},
		"a window of 0": func(p *peer, id uint32) {
			p.headers(id, true)
			p.must(p.framer.WriteWindowUpdate(id, 0))
		},
		"a window too large": func(p *peer, id uint32) {
			p.headers(id, true)
			p.frame(http2.FrameWindowUpdate, 0, id, word(1<<31-1))
		},
		"trailers that aren't the end": func(p *peer, id uint32) {
			p.headers(id, false)
			p.raw(id, false, "x-a", "b")
		},
		"DATA behind the end": func(p *peer, id uint32) {
			p.headers(id, true)
			p.data(id, false, "a message")
		},
		"HEADERS behind a reset of this side": func(p *peer, id uint32) {
			if id == 1 {
				p.headers(1, false)
				p.must(p.framer.WriteWindowUpdate(1, 0))
			}
			p.raw(1, true, "x-a", "b")
		},
		"malformed": func(p *peer, id uint32) { p.raw(id, true, ":method", "POST") },
		"priority on itself": func(p *peer, id uint32) {
			p.headers(id, true)
			p.frame(http2.FramePriority, 0, id, word(id)+"\x10")
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			p := dialPeer(t, address)
			p.t = t
			go func() { // ends with the connection
				for n := range uint32(4 * maxWasted) {
					if send(p, 2*n+1); n%20 == 19 {
						if _, err := p.conn.Write(p.out.Bytes()); err != nil {
							return
						}
						p.out.Reset()
					}
				}
			}()
			p.wantGoAway(http2.ErrCodeEnhanceYourCalm)
			_ = p.conn.Close() // frees the writer
			ends.want(t, EndFlood)
		})
	}
}

// TestCancelledStreams are no flood: not those that were answered, not those
// that others make good for, and not those that took a while.
func TestCancelledStreams(t *testing.T) {
	for name, do := range map[string]func(p *bubblePeer, id uint32){
		"answered": func(p *bubblePeer, id uint32) {
			p.raw(id, false, ":method", "POST", ":scheme", "http", ":path", "/answered")
			p.flush()
			wantCame(p.t.(*testing.T), p.elapse(0), "HEADERS")
			p.must(p.framer.WriteRSTStream(id, http2.ErrCodeCancel))
			p.flush()
		},
		"one that is served for each": func(p *bubblePeer, id uint32) {
			p.headers(id, true)
			p.must(p.framer.WriteRSTStream(id, http2.ErrCodeCancel))
			p.raw(id+2, true, ":method", "GET", ":scheme", "http", ":path", "/served")
			p.flush()
			wantCame(p.t.(*testing.T), p.elapse(0), "HEADERS")
		},
		"after a while": func(p *bubblePeer, id uint32) {
			p.headers(id, true)
			p.flush()
			wantCame(p.t.(*testing.T), p.elapse(rapidTime))
			p.must(p.framer.WriteRSTStream(id, http2.ErrCodeCancel))
			p.flush()
		},
		"a hundred a second": func(p *bubblePeer, id uint32) {
			p.headers(id, true)
			p.must(p.framer.WriteRSTStream(id, http2.ErrCodeCancel))
			p.flush()
			wantCame(p.t.(*testing.T), p.elapse(time.Second/wastedRate))
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/answered":
					_ = http.NewResponseController(w).Flush() // to a client that is there
					<-r.Context().Done()
				case "/served":
				default:
					<-r.Context().Done()
				}
			}, func(_ *testing.T, _ *http.Server, p *bubblePeer) {
				p.hello()
				p.elapse(0)
				for n := range uint32(maxWasted + 500) {
					do(p, 4*n+1)
				}
				p.raw(1<<20+1, true, ":method", "GET", ":scheme", "http", ":path", "/served")
				p.flush()
				wantCame(t, p.elapse(0), "HEADERS")
			})
		})
	}
}
