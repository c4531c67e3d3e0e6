package ratelimit

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/auth/internal/ask"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// short ends what would last for ever.
const short = 50 * time.Millisecond

// message is a gRPC message as it is on the wire, with a length that may be another.
func message(length int, body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{0}, uint32(length))) + body
}

// TestHostileServices: each costs its call at most a time-out.
func TestHostileServices(t *testing.T) {
	said, err := proto.Marshal(&ratelimitv3.RateLimitResponse{OverallCode: ok})
	if err != nil {
		t.Fatal(err)
	}
	good := message(len(said), string(said))
	begin := func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
	}
	body := func(parts ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			begin(w)
			for _, part := range parts {
				_, _ = io.WriteString(w, part) // the client may have gone
			}
			w.Header().Set("Grpc-Status", "0")
		}
	}
	for name, c := range map[string]struct {
		timeout time.Duration
		handle  http.HandlerFunc
		want    string // a part of the cause; "" for a usable answer
	}{
		"well-behaved": {0, body(good), ""},
		"hangs":        {short, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "no answer in 50ms"},
		"drips its message": {short, func(w http.ResponseWriter, r *http.Request) {
			begin(w)
			_, _ = io.WriteString(w, message(60_000, ""))
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, "a")
				w.(http.Flusher).Flush()
				<-tick.C
			}
		}, "no answer in 50ms"},
		"a message of 64 KiB":  {0, body(message(ask.MaxResponseBytes+1, strings.Repeat("a", ask.MaxResponseBytes+1))), "ResourceExhausted"},
		"a message of 4 GiB":   {0, body(message(1<<32-1, "a")), "ResourceExhausted"},
		"compressed":           {0, body("\x01" + good[1:]), "Internal"},
		"no message":           {0, body(), "Internal"},
		"two messages":         {0, body(good, good), "Internal"},
		"no RateLimitResponse": {0, body(message(3, "\xff\xff\xff")), "Internal"},
		"an empty one":         {0, body(message(0, "")), "UNKNOWN"},
		"a page of a proxy":    {0, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>abcdefghijkl") }, "Unknown"},
		"a 503 of a proxy":     {0, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, "Unavailable"},
		"a status that is no code": {0, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", "99")
		}, "Code(99)"},
		"a long status": {0, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", "13")
			w.Header().Set("Grpc-Message", "a%1b[31m%0d"+strings.Repeat("b", 9_000))
		}, "Internal: a [31m bbb"},
		"10,000 headers": {0, func(w http.ResponseWriter, _ *http.Request) {
			for i := range 10_000 {
				w.Header().Set(fmt.Sprint("X-", i), "a")
			}
			body(good)(w, nil)
		}, "Unavailable"},
	} {
		target := parts.ServeHTTP2(t, c.handle)
		for _, closes := range []bool{false, true} {
			o := patient()
			o.Target, o.FailClosed = target, closes
			if c.timeout > 0 {
				o.Timeout = c.timeout
			}
			l := connected(t, o)
			a, err := l.Check(t.Context(), aCall())
			l.Close()
			cause := a.Open
			switch {
			case c.want == "":
				if err != nil || cause != nil {
					t.Errorf("%s: got %+v, %v", name, a, err)
				}
				continue
			case closes:
				cause = asRefusal(t, err)
			case err != nil || cause == nil:
				t.Errorf("%s: got %+v, %v", name, a, err)
				continue
			}
			if text := cause.Error(); !strings.Contains(text, c.want) || strings.Contains(text, "abcdefghijkl") || len(text) > 1000 || strings.ContainsAny(text, "\r\n\x1b") {
				t.Errorf("%s: got %q, want %q", name, text, c.want)
			}
		}
	}
}

// TestPeersThatSpeakNoHTTP2: the question ends with the first attempt to connect, or at its
// time-out.
func TestPeersThatSpeakNoHTTP2(t *testing.T) {
	for name, handle := range map[string]func(c net.Conn, done <-chan struct{}){
		"says nothing": func(_ net.Conn, done <-chan struct{}) { <-done },
		"closes":       func(net.Conn, <-chan struct{}) {},
		"HTTP/1.1":     func(c net.Conn, _ <-chan struct{}) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") },
		"floods": func(c net.Conn, _ <-chan struct{}) {
			zeros := make([]byte, 32<<10)
			for {
				if _, err := c.Write(zeros); err != nil {
					return
				}
			}
		},
	} {
		ln, done := parts.Listen(t, "127.0.0.1:0"), make(chan struct{})
		var conns sync.WaitGroup
		conns.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				conns.Go(func() {
					defer c.Close()
					handle(c, done)
				})
			}
		})
		o := patient()
		o.Target, o.Timeout, o.FailClosed = ln.Addr().String(), short, true
		l := closed(t)(New(o))
		if _, err := l.Check(t.Context(), aCall()); asRefusal(t, err).Kind != Unavailable {
			t.Errorf("%s: got %v", name, err)
		}
		l.Close()
		close(done)
		ln.Close()
		conns.Wait()
	}
}
