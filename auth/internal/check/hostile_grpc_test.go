package check

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// message is a gRPC message as it is on the wire, with a length that may be another.
func message(length int, body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{0}, uint32(length))) + body
}

// TestHostileCheckServices: each costs its call at most a time-out. Silence is covered by
// fail-open, and nonsense isn't.
func TestHostileCheckServices(t *testing.T) {
	const short = 50 * time.Millisecond // ends what would last for ever
	ok, err := proto.Marshal(&authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}}})
	if err != nil {
		t.Fatal(err)
	}
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
		want    string // "open", "allowed", or a part of an unusable answer's cause
	}{
		"well-behaved": {0, body(message(len(ok), string(ok))), "allowed"},
		"hangs":        {short, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "open"},
		"hangs in its message": {short, func(w http.ResponseWriter, r *http.Request) {
			begin(w)
			_, _ = io.WriteString(w, message(10, "a"))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "open"},
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
		}, "open"},
		"a message of 1 GiB":  {0, body(message(1<<30, "a")), "ResourceExhausted"},
		"a message of 4 GiB":  {0, body(message(1<<32-1, "a")), "ResourceExhausted"},
		"compressed":          {0, body("\x01" + message(len(ok), string(ok))[1:]), "Internal"},
		"no message":          {0, body(), "Internal"},
		"two messages":        {0, body(message(len(ok), string(ok)), message(len(ok), string(ok))), "Internal"},
		"not a CheckResponse": {0, body(message(3, "\xff\xff\xff")), "Internal"},
		"invalid UTF-8":       {0, body(message(6, "\x0a\x04\x12\x02\xff\xfe")), "invalid UTF-8"},
		"a page of a proxy": {0, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(404)
			_, _ = io.WriteString(w, "<html>abcdefghijkl")
		}, "Unimplemented"},
		"a 503 of a proxy": {0, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(503)
			_, _ = io.WriteString(w, "abcdefghijkl")
		}, "open"},
		"a status that is no code": {0, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", "99")
		}, "Code(99)"},
		"a status that quotes the credential": {0, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", "13")
			w.Header().Set("Grpc-Message", "for Bearer abcdefghijkl.mnopqrstuvwx")
		}, "Internal: no text that a log may have"},
		// To grpc-go, a header over its limit is a broken connection.
		"10,000 headers": {0, func(w http.ResponseWriter, _ *http.Request) {
			for i := range 10_000 {
				w.Header().Set(fmt.Sprint("X-", i), "a")
			}
			body(message(len(ok), string(ok)))(w, nil)
		}, "open"},
		"a header of 1 MiB": {0, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-A", strings.Repeat("a", 1<<20))
			body(message(len(ok), string(ok)))(w, nil)
		}, "open"},
	} {
		target := parts.ServeHTTP2(t, c.handle)
		for _, open := range []bool{true, false} {
			o := patient()
			o.FailOpen = open
			if c.timeout > 0 {
				o.Timeout = c.timeout
			}
			checker := closed(t)(NewGRPC(GRPC{Target: target}, o))
			answer, err := checker.Check(t.Context(), aCall())
			checker.Close()
			if c.want == "allowed" || c.want == "open" && open {
				if err != nil || (answer.Open != nil) != (c.want == "open") {
					t.Errorf("%s: got %+v, %v", name, answer, err)
				}
				continue
			}
			if err == nil {
				t.Errorf("%s: got %+v", name, answer)
				continue
			}
			r := asRefusal(t, err)
			if r.Kind != Unavailable || c.want != "open" && !strings.Contains(r.Error(), c.want) {
				t.Errorf("%s: got %v, want %q", name, r, c.want)
			}
			if text := r.Error() + r.Message; strings.Contains(text, "abcdefghijkl") || len(text) > 1000 || strings.Contains(text, "\n") {
				t.Errorf("%s: the texts are %q", name, text)
			}
		}
	}
}

// TestPeersThatSpeakNoHTTP2: the question waits for a connection until its time-out.
func TestPeersThatSpeakNoHTTP2(t *testing.T) {
	for name, handle := range map[string]func(*rawServer, net.Conn){
		"says nothing": func(s *rawServer, _ net.Conn) { <-s.done },
		"closes":       func(*rawServer, net.Conn) {},
		"HTTP/1.1":     func(_ *rawServer, c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") },
		"floods":       func(_ *rawServer, c net.Conn) { flood(c, "\x00") },
	} {
		s := serveRaw(t, handle)
		o := patient()
		o.Timeout = 50 * time.Millisecond
		c := closed(t)(NewGRPC(GRPC{Target: strings.TrimPrefix(s.url, "http://")}, o))
		if _, err := c.Check(t.Context(), aCall()); asRefusal(t, err).Kind != Unavailable || !strings.Contains(err.Error(), "no answer in 50ms") {
			t.Errorf("%s: got %v", name, err)
		}
		c.Close()
	}
}

// TestCodesOfCheck: of the errors of Check itself, fail-open covers those that say that nobody
// was there.
func TestCodesOfCheck(t *testing.T) {
	var code codes.Code
	o := patient()
	o.FailOpen = true
	c := grpcChecker(t, GRPC{}, o, func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
		return nil, status.Error(code, "a text\r\nand more")
	})
	for code = codes.Canceled; code <= codes.Unauthenticated; code++ {
		answer, err := c.Check(t.Context(), aCall())
		switch code {
		case codes.Unavailable, codes.DeadlineExceeded:
			if err != nil || answer.Open == nil {
				t.Errorf("%v: got %+v, %v", code, answer, err)
			}
		default:
			if err == nil {
				t.Errorf("%v: got %+v", code, answer)
			} else if r := asRefusal(t, err); r.Kind != Unavailable || r.Error() != "Check: "+code.String()+": a text" {
				t.Errorf("%v: got %v", code, r)
			}
		}
	}
}

// TestCheckServiceThatRestarts: questions wait for it, and one that was on its way to the old
// process is asked again.
func TestCheckServiceThatRestarts(t *testing.T) {
	allow := func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
		return &authv3.CheckResponse{}, nil
	}
	ln := parts.Listen(t, "127.0.0.1:0")
	address := ln.Addr().String()
	stop := serveCheck(t, ln, allow)
	c := closed(t)(NewGRPC(GRPC{Target: address}, patient()))
	for range 3 {
		if _, err := c.Check(t.Context(), aCall()); err != nil {
			t.Fatal(err)
		}
		stop()
		result := make(chan error, 1)
		go func() {
			_, err := c.Check(t.Context(), aCall())
			result <- err
		}()
		stop = serveCheck(t, parts.Listen(t, address), allow)
		if err := <-result; err != nil {
			t.Errorf("a question while the service restarts: %v", err)
		}
	}
}

// TestCheckServiceThatIsGone: the cause says why nobody answers.
func TestCheckServiceThatIsGone(t *testing.T) {
	ln := parts.Listen(t, "127.0.0.1:0")
	ln.Close()
	o := patient()
	o.Timeout = time.Second
	c := closed(t)(NewGRPC(GRPC{Target: ln.Addr().String()}, o))
	_, err := c.Check(t.Context(), aCall())
	if text := asRefusal(t, err).Error(); !strings.Contains(text, "no answer in 1s") || !strings.Contains(text, "connection refused") {
		t.Errorf("got %q", text)
	}
	if got := asRefusal(t, err).Message; got != unavailableText {
		t.Errorf("the client gets %q", got)
	}
}

// TestCancelReachesTheService: the end of a client's call ends the question everywhere.
func TestCancelReachesTheService(t *testing.T) {
	asked, ended := make(chan struct{}, 2), make(chan error, 2)
	c := grpcChecker(t, GRPC{}, patient(), func(ctx context.Context, _ *authv3.CheckRequest) (*authv3.CheckResponse, error) {
		asked <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	h := httpChecker(t, HTTP{}, patient(), func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
		ended <- r.Context().Err()
	})
	for _, checker := range []*Checker{c, h} {
		errLeft := errors.New("the client has left")
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error, 1)
		go func() {
			_, err := checker.Check(ctx, aCall())
			result <- err
		}()
		<-asked
		cancel(errLeft)
		if err := <-result; !errors.Is(err, errLeft) {
			t.Errorf("got %v, want %v", err, errLeft)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the service's question ended with %v", err)
		}
	}
}

// TestDeadlineOfTheCallIsTheCallers: it ends the call, and fail-open doesn't let it pass. The
// service doesn't know it, so it can't answer that it is over before culvert knows.
func TestDeadlineOfTheCallIsTheCallers(t *testing.T) {
	o := patient()
	o.FailOpen = true
	c := grpcChecker(t, GRPC{}, o, func(ctx context.Context, _ *authv3.CheckRequest) (*authv3.CheckResponse, error) {
		if deadline, _ := ctx.Deadline(); time.Until(deadline) < time.Second {
			t.Errorf("the service has until %v", deadline)
		}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if answer, err := c.Check(ctx, aCall()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %+v, %v", answer, err)
	}
}
