//go:build unix

package edge

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// TestLateWritesUnderTLS: a write whose deadline has passed sends what the client accepts,
// also if TLS is between the HTTP server and the connection.
func TestLateWritesUnderTLS(t *testing.T) {
	ca := parts.NewAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		e := testEdge(t, Options{})
		near, far := tcpPair(t)
		c := e.newClient(near, e.own, e.o.Bounds(e.own))
		server := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{ca.Server(t)}, MaxVersion: version})
		client := tls.Client(far, &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1"})
		_ = far.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
		handshake := make(chan error, 1)
		go func() { handshake <- client.HandshakeContext(t.Context()) }()
		if err := errors.Join(server.HandshakeContext(t.Context()), <-handshake); err != nil {
			t.Fatal(err)
		}
		on := &c.on
		on.conn = server
		if on.CutsReaders(&http.Request{ProtoMajor: 1}) {
			t.Error("late writes count as lost")
		}
		if err := server.SetWriteDeadline(socket.LongAgo); err != nil {
			t.Fatal(err)
		}
		const status = "the status"
		for range 2 {
			if n, err := io.WriteString(server, status); n != len(status) || err != nil {
				t.Errorf("a write that needn't wait: %d bytes and %v, want all", n, err)
			}
			got := make([]byte, len(status))
			if _, err := io.ReadFull(client, got); string(got) != status {
				t.Errorf("the client read %q and %v", got, err)
			}
		}
		if _, err := server.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) { // more than all buffers on the way
			t.Errorf("a write that must wait: %v, want the deadline", err)
		}
		_ = far.Close() // nobody reads the rest
	}
}

// TestWhoCutsReaders: only a server that sees what a write waits for doesn't.
func TestWhoCutsReaders(t *testing.T) {
	own, standard := testEdge(t, Options{}), testEdge(t, Options{StandardHTTP2: true})
	near, _ := tcpPair(t)
	for name, c := range map[string]struct {
		on    *Conn
		major int
		want  bool
	}{
		"an unknown server":           {own.unknown, 1, true},
		"an unknown server, HTTP/2":   {own.unknown, 2, true},
		"a listener of the embedder":  {own.foreign(near, own.own), 1, true},
		"its HTTP/2":                  {own.foreign(near, own.own), 2, false},
		"its HTTP/2, of net/http":     {standard.foreign(near, standard.own), 2, true},
		"culvert's own":               {&own.newClient(near, own.own, Bounds{}).on, 1, false},
		"culvert's own, with no file": {&own.newClient(nil, own.own, Bounds{}).on, 1, true},
	} {
		if c.on.client != nil {
			c.on.conn = c.on.client // as Watch has it
		}
		if got := c.on.CutsReaders(&http.Request{ProtoMajor: c.major}); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
