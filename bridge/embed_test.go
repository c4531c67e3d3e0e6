package bridge

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestStripPrefix: the handler works below a path of a program's own, whose
// handler ConfigureHTTP leaves in place.
func TestStripPrefix(t *testing.T) {
	backend := startBackend(t, echo)
	s := newServer(t, Config{Backend: Backend{Target: backend}})
	mux := http.NewServeMux()
	mux.Handle("/rpc/", http.StripPrefix("/rpc", s))
	mux.HandleFunc("/own", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	hs := &http.Server{Handler: mux}
	s.ConfigureHTTP(hs)
	address := parts.Serve(t, hs)
	for request, want := range map[string]int{
		"POST /rpc" + testMethod:          http.StatusOK,
		"POST /rpc/pkg.Service/Method%21": http.StatusNotFound, // bytes as they came
		"POST /rpc/x" + testMethod:        http.StatusNotFound,
		"POST /rpc" + testMethod + "?a=b": http.StatusOK,
		"GET /own":                        http.StatusTeapot,
	} {
		answers := exchange(t, address, request+" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/grpc-web\r\ncontent-length: 5\r\n\r\n\x00\x00\x00\x00\x00")
		if len(answers) != 1 || answers[0].StatusCode != want {
			t.Errorf("%s: answered %v, want %d", request, answers, want)
			continue
		}
		if body, _ := io.ReadAll(answers[0].Body); want == http.StatusOK && !strings.Contains(string(body), "grpc-status: 0") { // it was read whole before
			t.Errorf("%s: answered %q", request, body)
		}
	}
	cc := dial(t, address)
	if err := unary(within(t, patience), cc, "/rpc"+testMethod); err != nil {
		t.Errorf("native gRPC: %v", err)
	}
}

// FuzzRequestPath: what a request's URL says of the path is what came, or no
// method: routing, policy and the backend see the same bytes.
func FuzzRequestPath(f *testing.F) {
	for _, seed := range []string{"/a.B/C", "/a.B/%43", "//a.B/C", "/a.B/C?x", "/a.B/C#x", "/a.B/C!*", "/a.B/[C]", "/a%2fB/C", "/a.B/\"C", "/a.B/~C$:@+"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		want, wantOK := routing.ParseMethod(target, "")
		if got, ok := routing.ParseMethod(u.EscapedPath(), ""); got != want || ok != wantOK {
			t.Errorf("%q: %q, %v; want %q, %v", target, got, ok, want, wantOK)
		}
	})
}

// TestEmbeddersTimeoutsCutNoCall: an embedder's WriteTimeout and ReadTimeout are
// for its own handlers.
func TestEmbeddersTimeoutsCutNoCall(t *testing.T) {
	t.Parallel() // it waits for the time-outs
	release := make(chan struct{})
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		<-release
		return status.Error(codes.FailedPrecondition, "a teapot")
	})
	s := newServer(t, Config{Backend: Backend{Target: backend}})
	const timeout = 2 * time.Second // in which a busy machine accepts a connection and reads a header
	hs := &http.Server{WriteTimeout: timeout, ReadTimeout: timeout}
	s.ConfigureHTTP(hs)
	address := parts.Serve(t, hs)
	begin := time.Now()
	type answer struct {
		how, text string
	}
	answers := make(chan answer, 2)
	var asking sync.WaitGroup
	ask := func(how, request string, rest ...string) {
		conn, err := new(net.Dialer).DialContext(within(t, patience), "tcp", address)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
		_, err = io.WriteString(conn, request)
		for _, more := range rest {
			<-release
			_, _ = io.WriteString(conn, more) // the answer shows whether it arrived
		}
		text, _ := io.ReadAll(conn) // a reset shows in what is missing
		if err != nil {
			t.Error(err)
		}
		answers <- answer{how, string(text)}
	}
	const head = "POST " + testMethod + " HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/grpc-web\r\n"
	asking.Go(func() {
		ask("an answer", head+"content-length: 5\r\n\r\n\x00\x00\x00\x00\x00")
	})
	asking.Go(func() {
		ask("a request", head+"content-length: 10\r\n\r\n\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x00")
	})
	timer := time.NewTimer(timeout + timeout/2 - time.Since(begin))
	<-timer.C // net/http has a clock of its own for sockets
	close(release)
	asking.Wait()
	close(answers)
	for a := range answers {
		if !strings.Contains(a.text, "200 OK") || !strings.Contains(a.text, "a%20teapot") && !strings.Contains(a.text, "a teapot") {
			t.Errorf("%s after the time-out: %q", a.how, a.text)
		}
	}
}

// unwrapped is the ResponseWriter of a middleware that knows http.ResponseController.
type unwrapped struct{ w http.ResponseWriter }

func (u unwrapped) Header() http.Header         { return u.w.Header() }
func (u unwrapped) Write(p []byte) (int, error) { return u.w.Write(p) }
func (u unwrapped) WriteHeader(code int)        { u.w.WriteHeader(code) }
func (u unwrapped) Unwrap() http.ResponseWriter { return u.w }

// noting is one that writes no status before the body, as gin's.
type noting struct {
	http.ResponseWriter
	code int
}

func (n *noting) WriteHeader(code int) { n.code = code }
func (n *noting) WriteHeaderNow()      { n.ResponseWriter.WriteHeader(n.code) }

func (n *noting) Write(p []byte) (int, error) {
	n.WriteHeaderNow()
	return n.ResponseWriter.Write(p)
}

func (n *noting) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return n.ResponseWriter.(http.Hijacker).Hijack()
}

// failing can't hand over its connection.
type failing struct{ http.ResponseWriter }

func (failing) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("no connection of its own")
}

// serveWrapped serves s behind a middleware.
func serveWrapped(t *testing.T, s *Server, wrap func(http.ResponseWriter) http.ResponseWriter) string {
	t.Helper()
	hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.ServeHTTP(wrap(w), r) })}
	s.ConfigureHTTP(hs)
	return parts.Serve(t, hs)
}

// TestMiddlewareAroundWebSockets: its ResponseWriter leads to the connection.
func TestMiddlewareAroundWebSockets(t *testing.T) {
	backend := startBackend(t, echo)
	for name, wrap := range map[string]func(http.ResponseWriter) http.ResponseWriter{
		"unwrapped": func(w http.ResponseWriter) http.ResponseWriter { return unwrapped{unwrapped{w}} },
		"noting":    func(w http.ResponseWriter) http.ResponseWriter { return &noting{ResponseWriter: w} },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, Config{Backend: Backend{Target: backend}})
			if err := unary(within(t, patience), dialTunnel(t, serveWrapped(t, s, wrap), nil), testMethod); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestConnectionThatIsNotHandedOver is closed: what follows an upgrade may be bytes that a
// proxy passes on from others, and isn't served.
func TestConnectionThatIsNotHandedOver(t *testing.T) {
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}})
	address := serveWrapped(t, s, func(w http.ResponseWriter) http.ResponseWriter { return failing{w} })
	conn := tcpTo(t, address)
	_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
	_, err := io.WriteString(conn, "GET "+testMethod+" HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: grpc-websockets\r\n\r\n"+
		"GET /second HTTP/1.1\r\nHost: localhost\r\n\r\n")
	answer, _ := io.ReadAll(conn) // a reset shows in what is missing
	if err != nil || len(answer) > 0 {
		t.Errorf("%v, answered %q, want nothing", err, answer)
	}
}
