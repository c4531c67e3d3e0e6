package parts

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// A Server is an http.Server, or a bridge.
type Server interface {
	Serve(ln net.Listener) error
	Close() error
}

// Serve runs a server on loopback until the test ends, and returns its address.
func Serve(t testing.TB, s Server) string {
	t.Helper()
	ln := Listen(t, "127.0.0.1:0")
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve returned %v, want %v", err, http.ErrServerClosed)
		}
	})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		serving.Wait()
	})
	return ln.Addr().String()
}

// ServeGRPC runs a grpc-go server on a listener until the test ends, and returns a function
// that stops it.
func ServeGRPC(t testing.TB, ln net.Listener, s *grpc.Server) (stop func()) {
	t.Helper()
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(ln); err != nil && !errors.Is(err, grpc.ErrServerStopped) && !errors.Is(err, net.ErrClosed) { // it may be stopped before it begins
			t.Errorf("Serve: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		s.Stop()
		serving.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// ServeHTTP2 serves requests by HTTP/2 in plaintext on loopback until the test ends, and returns
// the address. It logs nothing of clients that turn away.
func ServeHTTP2(t testing.TB, handle http.HandlerFunc) string {
	t.Helper()
	s := &http.Server{Handler: handle, Protocols: new(http.Protocols), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: Patience}
	s.Protocols.SetUnencryptedHTTP2(true)
	return Serve(t, s)
}

// WantHTTP10Ends checks that a server closes the connection after a request of HTTP/1.0 to each
// path: net/http drops its Transfer-Encoding, so the body of such a request must not be taken for
// the next one.
func WantHTTP10Ends(t *testing.T, s Server, paths ...string) {
	t.Helper()
	address := Serve(t, s)
	for _, path := range paths {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(Patience)) // just opened
		_, err = io.WriteString(conn, "GET "+path+" HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"+
			"GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(conn) // a reset follows where more was sent than read
		_ = conn.Close()         // read to its end
		if n := strings.Count(string(b), "HTTP/1."); n != 1 {
			t.Errorf("%s: %d answers, want 1: %q", path, n, b)
		}
	}
}
