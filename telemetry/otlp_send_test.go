package telemetry

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// sendTo sends a request to an HTTP receiver, which answers by its handler.
func sendTo(t *testing.T, to Receiver, handler http.HandlerFunc) (rejected int64, err error) {
	t.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	to.Endpoint, to.Timeout = server.URL+to.Endpoint, time.Minute
	traces, err := OpenTraces(to, TraceRules{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer traces.Close(time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return traces.queue.to.to.send(ctx, []byte("request"))
}

func TestRequestsOverHTTP(t *testing.T) {
	for _, c := range []struct {
		to   Receiver
		path string
	}{
		{Receiver{Endpoint: "/v1/traces"}, "/v1/traces"},
		{Receiver{Endpoint: "/otlp/in", Gzip: true}, "/otlp/in"},
	} {
		c.to.Headers = map[string]string{"api-key": "secret", "content-type": "text/html"}
		_, err := sendTo(t, c.to, func(_ http.ResponseWriter, r *http.Request) {
			var body io.Reader = r.Body
			if r.Header.Get("Content-Encoding") == "gzip" {
				var err error
				if body, err = gzip.NewReader(body); err != nil {
					t.Error(err)
				}
			}
			text, err := io.ReadAll(body)
			if err != nil || string(text) != "request" || r.URL.Path != c.path || r.Method != http.MethodPost ||
				r.Header.Get("Api-Key") != "secret" || r.Header.Get("Content-Type") != "application/x-protobuf" {
				t.Errorf("%s %s with %v: %q, %v", r.Method, r.URL.Path, r.Header, text, err)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestHeadersChange: the next request has the new ones, also over gRPC.
func TestHeadersChange(t *testing.T) {
	tokens := make(chan string, 10)
	overHTTP := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		tokens <- strings.Join(r.Header.Values("Authorization"), ",") + r.Header.Get("Content-Type")
	}))
	defer overHTTP.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer serveReceiver(t, ln, func(ctx context.Context) {
		md, _ := metadata.FromIncomingContext(ctx)
		tokens <- strings.Join(md["authorization"], ",") + "application/x-protobuf"
	})()
	for _, to := range []Receiver{{Endpoint: overHTTP.URL}, {Endpoint: "http://" + ln.Addr().String(), GRPC: true}} {
		to.Headers, to.Timeout = map[string]string{"authorization": "first"}, time.Minute
		traces, err := OpenTraces(to, TraceRules{}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"first", "second"} {
			if _, err := traces.queue.to.to.send(t.Context(), []byte("request")); err != nil {
				t.Fatal(err)
			}
			if got := <-tokens; got != want+"application/x-protobuf" {
				t.Errorf("GRPC %t: the receiver got %q, want %q", to.GRPC, got, want)
			}
			traces.SetHeaders(map[string]string{"authorization": "second"})
		}
		traces.Close(time.Minute)
	}
}

// serveReceiver serves a receiver over gRPC, which tells of each request. end ends it.
func serveReceiver(t *testing.T, ln net.Listener, tell func(ctx context.Context)) (end func()) {
	server := grpc.NewServer(grpc.ForceServerCodec(bytesCodec{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		var request []byte
		if err := s.RecvMsg(&request); err != nil {
			return err
		}
		tell(s.Context())
		return s.SendMsg(new([]byte))
	}))
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }() // end receives it
	return func() {
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // it was stopped before it began
			t.Error(err)
		}
	}
}

// TestAnswersOfReceivers: which requests are sent again, and what an error says.
func TestAnswersOfReceivers(t *testing.T) {
	partial := protowire.AppendTag(nil, partialRejected, protowire.VarintType)
	partial = protowire.AppendVarint(partial, 3)
	partial = message(partial).text(partialText, "too old")
	for _, c := range []struct {
		name     string
		first    http.HandlerFunc
		sent     int
		rejected int64
		says     string // "": it succeeds
	}{
		{"taken", func(http.ResponseWriter, *http.Request) {}, 1, 0, ""},
		{"later", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, 2, 0, ""},
		{"wrong", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, 1, 0, "401 Unauthorized"},
		{"elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
		}, 1, 0, "307 Temporary Redirect"},
		{"partly", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(message(nil).bytes(responsePartial, partial)) // the test sees it
		}, 1, 3, "too old"},
		{"with advice", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(message(nil).bytes(responsePartial, message(nil).text(partialText, "use gRPC"))) // as above
		}, 1, 0, ""},
		{"nonsense", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("thanks")) // as above
		}, 1, 0, ""},
	} {
		sent := 0
		rejected, err := sendTo(t, Receiver{Headers: map[string]string{"api-key": "secret"}}, func(w http.ResponseWriter, r *http.Request) {
			if sent++; sent == 1 {
				c.first(w, r)
			}
		})
		if sent != c.sent || rejected != c.rejected || (err != nil) != (c.says != "") {
			t.Errorf("%s: sent %d times, %d rejected, %v", c.name, sent, rejected, err)
		}
		if err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: it says %v", c.name, err)
		}
	}
}

// A receiverThatVanishes takes requests over gRPC. vanish has its connections so far carry nothing
// more, as if their other end had lost its power.
type receiverThatVanishes struct {
	net.Listener

	mu    sync.Mutex
	conns []*vanishingConn
}

type vanishingConn struct {
	net.Conn
	vanished, closed chan struct{}
	once             sync.Once
}

func (l *receiverThatVanishes) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &vanishingConn{Conn: conn, vanished: make(chan struct{}), closed: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	return c, nil
}

func (l *receiverThatVanishes) vanish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		close(c.vanished)
	}
	l.conns = nil
}

func (c *vanishingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	select {
	case <-c.vanished:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *vanishingConn) Write(b []byte) (int, error) {
	select {
	case <-c.vanished:
		return len(b), nil
	default:
		return c.Conn.Write(b)
	}
}

func (c *vanishingConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// TestVanishedReceiver: requests soon go over another connection if one carries nothing any more.
func TestVanishedReceiver(t *testing.T) {
	for name, start := range map[string]func(t *testing.T, l net.Listener) (Receiver, func()){
		"gRPC": func(t *testing.T, l net.Listener) (Receiver, func()) {
			t.Helper()
			return Receiver{Endpoint: "http://" + l.Addr().String(), GRPC: true}, serveReceiver(t, l, func(context.Context) {})
		},
		"HTTP/2": func(t *testing.T, l net.Listener) (Receiver, func()) {
			t.Helper()
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.ProtoMajor != 2 {
					t.Errorf("the request has %s", r.Proto)
				}
			}))
			_ = server.Listener.Close() // l takes its place
			server.Listener, server.EnableHTTP2 = l, true
			server.StartTLS()
			roots := x509.NewCertPool()
			roots.AddCert(server.Certificate())
			return Receiver{Endpoint: server.URL, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}, server.Close
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l := &receiverThatVanishes{Listener: ln}
			to, end := start(t, l)
			defer end()
			to.Timeout = 2 * time.Second
			traces, err := OpenTraces(to, TraceRules{}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer traces.Close(time.Minute)
			export := func() error {
				ctx, cancel := context.WithTimeout(t.Context(), to.Timeout)
				defer cancel()
				_, err := traces.queue.to.to.send(ctx, []byte("request"))
				return err
			}
			if err := export(); err != nil {
				t.Fatal(err)
			}
			l.vanish()
			for attempts := 1; export() != nil; attempts++ { // by default, the kernel tries for a quarter of an hour
				if attempts == 20 {
					t.Fatal("the connection is still in use")
				}
			}
		})
	}
}

func FuzzRejectedIn(f *testing.F) {
	f.Add([]byte{10, 4, 8, 3, 18, 0})
	f.Fuzz(func(t *testing.T, answer []byte) {
		if spans, why := rejectedIn(answer); spans < 0 || len(why) > attributeBytes+len("…") {
			t.Errorf("%x rejects %d because of %q", answer, spans, why)
		}
	})
}

// FuzzSpan: whatever a client sends, its span can be read.
func FuzzSpan(f *testing.F) {
	f.Add("/a.B/C", "a:80", "1.2.3.4:5", "vendor=1", int64(7))
	f.Fuzz(func(t *testing.T, method, authority, peer, state string, n int64) {
		s := &callSpan{traces: &Traces{}, state: state[:min(len(state), maxStateBytes)]}
		s.Span, s.link.span = [8]byte{1}, [8]byte{2}
		c := &report.CallInfo{Method: method, Authority: authority, Peer: peer, MessagesIn: max(n, 0)}
		span := readSpanOf(t, s.server(nil, c, n > 0))
		if len(span.links) != 1 || len(span.attributes) < 4 {
			t.Errorf("it is %+v", span)
		}
	})
}
