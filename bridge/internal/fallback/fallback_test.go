package fallback

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/culvert-grpc/culvert/bridge/internal/progress"
	"github.com/culvert-grpc/culvert/bridge/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseTarget(t *testing.T) {
	for s, want := range map[string]target{
		"http://localhost:3000":  {"http", "localhost:3000", "tcp", "localhost:3000"},
		"http://localhost:3000/": {"http", "localhost:3000", "tcp", "localhost:3000"},
		"http://app":             {"http", "app", "tcp", "app:80"},
		"https://app.internal":   {"https", "app.internal", "tcp", "app.internal:443"},
		"https://[::1]:8443":     {"https", "[::1]:8443", "tcp", "[::1]:8443"},
		"http://[fe80::1%eth0]":  {"http", "[fe80::1]", "tcp", "[fe80::1%eth0]:80"},
		"http://[fe80::1%25e]:8": {"http", "[fe80::1]:8", "tcp", "[fe80::1%e]:8"},
		"unix:/run/app.sock":     {"http", "localhost", "unix", "/run/app.sock"},
		"unix:///run/app.sock":   {"http", "localhost", "unix", "/run/app.sock"},
	} {
		if got, err := parseTarget(s); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "localhost:3000", "ftp://a", "http://", "http://me:secret@a", "http://a/path", "http://a?", "http://a?x", "http://a#x", "unix:", "unix:///", "http://a:secret"} {
		if _, err := parseTarget(s); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want an error without the text", s, err)
		}
	}
}

func TestFault(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want report.Reason
	}{
		"no connection":    {&net.OpError{Op: "dial", Err: errors.New("refused")}, report.ReasonUpstreamUnreachable},
		"a slow connect":   {&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, report.ReasonUpstreamUnreachable},
		"no descriptor":    {errDescriptors, report.ReasonUpstreamUnreachable},
		"a certificate":    {&tls.CertificateVerificationError{Err: errors.New("expired")}, report.ReasonUpstreamUnreachable},
		"a slow handshake": {errors.New("net/http: TLS handshake timeout"), report.ReasonUpstreamUnreachable},
		"it takes nothing": {&net.OpError{Op: "write", Err: os.ErrDeadlineExceeded}, report.ReasonUpstreamSilent},
		"it ends":          {io.ErrUnexpectedEOF, report.ReasonUpstreamReset},
		"it speaks SSH":    {errors.New("malformed HTTP response"), report.ReasonUpstreamReset},
	} {
		if f := Fault(c.err); f.Reason != c.want || f.Cause == nil || strings.Contains(f.Text, c.err.Error()) {
			t.Errorf("%s: got %s %q because of %v, want %s", name, f.Reason, f.Text, f.Cause, c.want)
		}
	}
}

// An exchange writes into a recorder, and switches to a pipe.
type exchange struct {
	*httptest.ResponseRecorder
	client Conn
	failed error
	broke  error
}

// Panicked implements Exchange.
func (*exchange) Panicked(v any) error { panic(v) }

func (x *exchange) Fail(err error)                   { x.failed = err }
func (x *exchange) Broke(err error)                  { x.broke = err }
func (x *exchange) Switch(http.Header) (Conn, error) { return x.client, nil }
func get(ctx context.Context, p *Proxy, x *exchange) { p.Serve(x, request(ctx)) }

func request(ctx context.Context) *http.Request {
	return httptest.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)
}

// A halfPipe is the end of a server that keeps its side open.
type halfPipe struct{ net.Conn }

func (halfPipe) CloseWrite() error { return nil }

// TestWebSocketEnds in the time that it has, whatever its two sides do. Else it would hold
// a client's place for ever.
func TestWebSocketEnds(t *testing.T) {
	upgrade := http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}}
	for name, c := range map[string]struct {
		end  func(client, server net.Conn, cancel context.CancelFunc)
		want time.Duration
	}{
		"the client leaves": {func(client, _ net.Conn, _ context.CancelFunc) { _ = client.Close() }, closingTime},
		"the server leaves": {func(_, server net.Conn, _ context.CancelFunc) { _ = server.Close() }, closingTime},
		"both leave":        {func(client, server net.Conn, _ context.CancelFunc) { _, _ = client.Close(), server.Close() }, 0},
		"the context ends":  {func(_, _ net.Conn, cancel context.CancelFunc) { cancel() }, 0},
		"the context ends under a paused client": {func(_, server net.Conn, cancel context.CancelFunc) {
			_ = server.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = server.Write(bytes.Repeat([]byte("x"), 2*socketBytes)) // nobody reads it
			cancel()
		}, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ours, client := net.Pipe()
				theirs, server := net.Pipe()
				x := &exchange{client: halfPipe{ours}}
				r := request(ctx)
				r.Header = upgrade
				done := make(chan error, 1)
				go func() {
					done <- carry(x, r, &http.Response{StatusCode: http.StatusSwitchingProtocols, Header: upgrade, Body: halfPipe{theirs}})
				}()
				head := make([]byte, 4096)
				if n, err := client.Read(head); err != nil || !bytes.HasPrefix(head[:n], []byte("HTTP/1.1 101 ")) {
					t.Errorf("the client got %q, %v", head[:n], err)
				}
				if _, err := server.Write([]byte("a")); err != nil {
					t.Error(err)
				}
				if n, err := client.Read(head); err != nil || string(head[:n]) != "a" {
					t.Errorf("the client got %q, %v", head[:n], err)
				}
				began := time.Now()
				c.end(client, server, cancel)
				if err := <-done; !errors.Is(err, errCarried) {
					t.Errorf("it ended with %v", err)
				}
				if took := time.Since(began); took != c.want {
					t.Errorf("it ended after %v, want %v", took, c.want)
				}
				_, _ = client.Close(), server.Close()
			})
		})
	}
}

// TestSilentWebServer: the web server's answer has a bound, and so has its taking of the
// request.
func TestSilentWebServer(t *testing.T) {
	for name, body := range map[string]io.Reader{"it doesn't answer": http.NoBody, "it doesn't read": strings.NewReader(strings.Repeat("x", 1<<20))} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, err := New("http://app.internal", 1<<10, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				ours, theirs := net.Pipe()
				defer theirs.Close()
				p.transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return patientConn{ours}, nil }
				reads := name == "it doesn't answer"
				go func() {
					if reads {
						_, _ = io.Copy(io.Discard, theirs) // until it is closed
					}
				}()
				x := &exchange{ResponseRecorder: httptest.NewRecorder()}
				began := time.Now()
				p.Serve(x, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", body))
				if took := time.Since(began); x.failed == nil || Fault(x.failed).Reason != report.ReasonUpstreamSilent || took != answerTimeout {
					t.Errorf("failed with %v after %v, want a silent web server after %v", x.failed, took, answerTimeout)
				}
			})
		})
	}
}

// TestRetiredProxyKeepsNoConnection behind its last request.
func TestRetiredProxyKeepsNoConnection(t *testing.T) {
	closed := make(chan struct{}, 8) // more than there are
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	web.Start()
	defer web.Close()
	p, err := New(web.URL, 1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	x := &exchange{ResponseRecorder: httptest.NewRecorder()}
	get(t.Context(), p, x)
	if x.Code != http.StatusNotFound || x.failed != nil {
		t.Fatalf("answered %d, %v", x.Code, x.failed)
	}
	select {
	case <-closed:
		t.Error("the connection isn't kept for the next request")
	default:
	}
	p.Retire()
	<-closed
	get(t.Context(), p, &exchange{ResponseRecorder: httptest.NewRecorder()}) // it may still begin
	<-closed
}

// A badReader is the body of a client that panics.
type badReader struct{ io.ReadCloser }

// TestBodyThatPanics is an error of Read, which http.Transport calls on its own goroutine.
func TestBodyThatPanics(t *testing.T) {
	var caught any
	b := &Body{Body: progress.NewBody(badReader{}, 10), Of: new(progress.Record), Bytes: new(atomic.Int64), Panicked: func(v any) error { caught = v; return errors.New("it panicked") }}
	if n, err := b.Read(make([]byte, 1)); n != 0 || err == nil || !errors.Is(b.Err(), err) || caught == nil {
		t.Errorf("%d bytes with %v, the body's error is %v, told of %v", n, err, b.Err(), caught)
	}
}
