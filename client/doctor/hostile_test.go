package doctor

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/http2"
)

// TestHostileEdges: whatever an edge does behind TLS, the doctor ends in time, and says that
// nothing passes.
func TestHostileEdges(t *testing.T) {
	const upgrade = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"
	for name, handle := range map[string]func(c net.Conn){
		"silent":   func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"gone":     func(net.Conn) {},
		"garbage":  func(c net.Conn) { pour(c, "\x00\x01\x02\x03") },
		"text":     func(c net.Conn) { pour(c, "220 mail.example.com ESMTP\r\n") },
		"a header": func(c net.Conn) { reply(c, "HTTP/1.1 200 OK\r\n"); pour(c, "X: y\r\n") },
		"a body": func(c net.Conn) {
			reply(c, "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\n\r\n")
			pour(c, "\x00\x00\x00\x00\x01x")
		},
		"a long frame": func(c net.Conn) {
			reply(c, "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\n\r\n\x00\xff\xff\xff\xff")
			pour(c, "x")
		},
		"a page": func(c net.Conn) {
			reply(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<title>")
			pour(c, "\x1b[2J")
		},
		"no trailers": func(c net.Conn) {
			reply(c, "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\nConnection: close\r\n\r\n\x00\x00\x00\x00\x00")
		},
		"a wrong 101": func(c net.Conn) { reply(c, upgrade); pour(c, "\x82\x01x") },
		"pings": func(c net.Conn) {
			f := http2.NewFramer(c, c)
			_ = f.WriteSettings() // the doctor may be gone
			flood(c, func() error { return f.WritePing(false, [8]byte{}) })
		},
		"settings": func(c net.Conn) { flood(c, http2.NewFramer(c, c).WriteSettingsAck) },
		"goaway": func(c net.Conn) {
			f := http2.NewFramer(c, c)
			_ = f.WriteSettings()
			_ = f.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte("\x1b[2J"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				config := &tls.Config{Certificates: []tls.Certificate{w.authority.Server(w.t, "edge.example.com")}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
				ln := w.Listen(w.t, edgeAddress)
				go func() {
					for {
						c, err := ln.Accept()
						if err != nil {
							return
						}
						go func() {
							s := tls.Server(c, config)
							if s.HandshakeContext(w.t.Context()) == nil {
								handle(s)
							}
							_ = s.Close() // it may be closed
						}()
					}
				}()
				w.t.Cleanup(func() { _ = ln.Close() }) // it has no error
				r := w.run(w.direct())
				if r.Bidirectional != No || r.Verdicts[0].ID != "way-none" {
					w.t.Errorf("%s, %q\n%s", r.Bidirectional, ids(r), describe(r))
				}
				if strings.Contains(describe(r), "\x1b") {
					w.t.Error("the evidence acts on terminals")
				}
				if odd := regexp.MustCompile(`.*(net/http:|http2:|proto:|connection broken|\(EOF\)|: \().*`).FindString(describe(r)); odd != "" {
					w.t.Errorf("the evidence isn't for people: %s", odd)
				}
			})
		})
	}
}

// TestReset: the evidence of a reset hasn't the name that net/http has for the place.
func TestReset(t *testing.T) {
	f := finding(fmt.Errorf("readLoopPeekFailLocked: %w", syscall.ECONNRESET))
	if want := "the connection was closed without an answer (" + syscall.ECONNRESET.Error() + ")"; f.Result != cut || f.Evidence != want {
		t.Errorf("%+v, want %s", f, want)
	}
}

// reply reads something, and replies.
func reply(c net.Conn, s string) {
	if _, err := c.Read(make([]byte, 1)); err == nil {
		_, _ = io.WriteString(c, s) // the doctor may be gone
	}
}

// flood writes frames, as many as time in a bubble can bear: it stands still meanwhile.
func flood(c net.Conn, frame func() error) {
	for range 5000 {
		if frame() != nil {
			return
		}
	}
	_, _ = io.Copy(io.Discard, c) // until the doctor is gone
}

// pour writes until the doctor is gone, at most 4 MiB.
func pour(c net.Conn, s string) {
	s = strings.Repeat(s, 1+4096/len(s))
	for range 1024 {
		if _, err := io.WriteString(c, s); err != nil {
			return
		}
	}
	_, _ = io.Copy(io.Discard, c) // until the doctor is gone
}

// saying starts an edge that says a text to each request, and holds the connection.
func (w *world) saying(text string) {
	config := &tls.Config{Certificates: []tls.Certificate{w.authority.Server(w.t, "edge.example.com")}, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}
	ln := w.Listen(w.t, edgeAddress)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				s := tls.Server(c, config)
				reply(s, text)
				_, _ = io.Copy(io.Discard, s) // until the doctor is gone
				_ = s.Close()                 // it may be closed
			}()
		}
	}()
	w.t.Cleanup(func() { _ = ln.Close() }) // it has no error
}

// TestAnswersOfOthers: nobody is asked to let a protocol pass for an answer that says nothing of it.
func TestAnswersOfOthers(t *testing.T) {
	for name, c := range map[string]struct {
		says string
		bidi Possible
		want []string
	}{
		"a captive portal":  {"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<title>Welcome</title>", No, []string{"way-none", "decryption-unknown", "no-http2", "other-site"}},
		"a redirect":        {"HTTP/1.1 307 Temporary Redirect\r\nLocation: https://login.example.com\r\nContent-Length: 0\r\n\r\n", No, []string{"way-none", "decryption-unknown", "no-http2", "other-site"}},
		"a login":           {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", No, []string{"way-none", "decryption-unknown", "no-http2", "other-site"}},
		"a network's login": {"HTTP/1.1 511 Network Authentication Required\r\nContent-Length: 0\r\n\r\n", No, []string{"way-none", "decryption-unknown", "no-http2", "other-site"}},
		"another server":    {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", No, []string{"way-none", "decryption-unknown", "no-http2", "other-site"}},
		"too many requests": {"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", CantTell, []string{"way-unknown", "decryption-unknown", "no-http2", "rate-limited"}},
		"a service is down": {"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", CantTell, []string{"way-unknown", "decryption-unknown", "no-http2", "gateway-fails"}},
		"a service is busy": {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", CantTell, []string{"way-unknown", "decryption-unknown", "no-http2", "gateway-fails"}},
		"only GET":          {"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n", No, []string{"way-none", "decryption-unknown", "no-http2", "websocket-refused", "post-refused"}},
		"a firewall's page": {"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", No, []string{"way-none", "decryption-unknown", "no-http2", "websocket-refused", "grpc-web-refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.saying(c.says)
				wantVerdicts(w.t, w.run(w.direct()), c.bidi, c.want...)
			})
		})
	}
}

// TestPlaintextToTLS: a port that expects TLS says so, and the network is innocent.
func TestPlaintextToTLS(t *testing.T) {
	for _, says := range []string{"Client sent an HTTP request to an HTTPS server.\n", "<title>400 The plain HTTP request was sent to HTTPS port</title>", "Reason: You're speaking plain HTTP to an SSL-enabled server port."} {
		inBubble(t, func(w *world) {
			w.page("edge.example.com:80", func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, says, http.StatusBadRequest) })
			r, err := Run(w.t.Context(), "http://edge.example.com", w.direct())
			if err != nil {
				w.t.Fatal(err)
			}
			wantVerdicts(w.t, r, No, "way-none", "wants-tls")
		})
	}
}

// TestClosedWithoutAnswer: io.EOF is the end of a call with OK, and of a connection. None of
// these calls has succeeded, nor has the service sent a wrong message.
func TestClosedWithoutAnswer(t *testing.T) {
	inBubble(t, func(w *world) {
		w.page("edge.example.com:80", func(rw http.ResponseWriter, r *http.Request) {
			_, _ = io.CopyN(io.Discard, r.Body, 8)
			c, _, err := http.NewResponseController(rw).Hijack()
			if err == nil {
				_ = c.Close()
			}
		})
		r, err := Run(w.t.Context(), "http://edge.example.com", w.direct())
		if err != nil {
			w.t.Fatal(err)
		}
		for _, f := range r.Findings {
			if strings.HasPrefix(string(f.Probe), "grpc-web") && f.Result != cut {
				w.t.Errorf("%+v, want %s", f, cut)
			}
		}
	})
}

// TestHeldEnd: a status counts, whether or not its answer ever ends.
func TestHeldEnd(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\n"
	for name, says := range map[string]string{
		"header":   head + "Grpc-Status: 12\r\n\r\n",
		"trailers": head + "\r\n\x80\x00\x00\x00\x11grpc-status: 12\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.saying(says)
				for _, f := range w.run(w.direct()).Findings {
					if f.Probe == probeWeb && f.Result != works {
						w.t.Errorf("%+v", f)
					}
				}
			})
		})
	}
}

// TestHeldPage: no probe waits for the end of a box's page.
func TestHeldPage(t *testing.T) {
	inBubble(t, func(w *world) {
		w.saying("HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 1000\r\n\r\n<title>Blocked</title>")
		o := w.direct()
		o.Origin = "https://app.example.com"
		said := 0
		for _, f := range w.run(o).Findings {
			if f.Answer == nil {
				continue
			}
			if said++; f.Answer.Says != "Blocked" || f.Took > patience/2 {
				w.t.Errorf("%s after %v: %+v", f.Probe, f.Took, f.Answer)
			}
		}
		if said < 8 {
			w.t.Errorf("%d probes have seen the page", said)
		}
	})
}
