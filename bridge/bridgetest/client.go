package bridgetest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A client is a program at the far end of one transport. Calls share a
// connection where the protocol lets them.
type client interface {
	// open begins a call. The context bounds the whole call.
	open(ctx context.Context, c call) (stream, error)
	// cut ends every connection of the client, like the kernel for a process that
	// died: the protocol gets no goodbye.
	cut(how cut)
	// close ends the client in an orderly way and waits for its goroutines.
	close()
}

// A call describes the call that a client makes.
type call struct {
	method   string      // "/package.Service/Method"; empty: defaultMethod
	metadata metadata.MD // -bin values are raw bytes here
	timeout  string      // the text of grpc-timeout; empty: none
	encoding string      // "gzip", in any spelling: messages are sent compressed; other names are only announced
	accepts  string      // the codings that it can read, if it writes its header by hand; empty: gzip
	// contentType replaces the dialect's own; it needs rawHeaders.
	contentType string
	// lines are header fields that are sent unchanged, name and value, beside the
	// metadata. The transport must carry rawHeaders.
	lines [][2]string
}

// A stream is the client's end of one call. One goroutine may send while
// another receives.
type stream interface {
	send(message []byte) error
	// sendRaw sends bytes of the request's frames unchanged: a frame's prefix that
	// lies, half a frame. The transport must carry rawFrames.
	sendRaw(b []byte) error
	closeSend() error

	// header waits for the response's header. A call that ended without one
	// has an empty header and no error.
	header() (metadata.MD, error)
	// recv waits for a message. io.EOF means that a status has come. Any other
	// error means that the call was cut or that the peer broke the protocol.
	recv() ([]byte, error)

	// status and trailer are valid after recv returned io.EOF.
	status() *status.Status
	// trailer has raw bytes for -bin keys, also for grpc-status-details-bin.
	trailer() metadata.MD
	// compressed counts the messages that came compressed.
	compressed() int

	// cancel gives the call up, as the protocol's own clients do.
	cancel()
}

// A failedStream is a call that couldn't begin.
type failedStream struct {
	st  *status.Status
	err error // io.EOF with a status
}

func (s *failedStream) send([]byte) error            { return errors.Join(s.st.Err(), s.err) }
func (s *failedStream) sendRaw(b []byte) error       { return s.send(b) }
func (s *failedStream) closeSend() error             { return s.send(nil) }
func (s *failedStream) header() (metadata.MD, error) { return nil, nil }
func (s *failedStream) recv() ([]byte, error)        { return nil, s.err }
func (s *failedStream) status() *status.Status       { return s.st }
func (s *failedStream) trailer() metadata.MD         { return nil }
func (s *failedStream) compressed() int              { return 0 }
func (s *failedStream) cancel()                      {}

// A cut is the way a connection ends without a goodbye.
type cut int

const (
	cutFIN cut = iota // the process was killed: the kernel closes
	cutRST            // the host or a middlebox resets
)

func (c cut) String() string { return [...]string{"FIN", "RST"}[c] }

// A dialer opens the TCP connections of one client and remembers them, so that they
// can be cut underneath any protocol.
type dialer struct {
	address string

	mu    sync.Mutex
	conns []*net.TCPConn
	// tls is for connections over TLS. If nil, they are plaintext.
	tls *tls.Config
	// receiveBuffer is the kernel's receive buffer of new connections. If
	// zero, it is the system's.
	receiveBuffer int
	// typed reports that the messages of a scenario are those of methods already, since it
	// writes the frames of the backend. A client of a framing that culvert converts must
	// know that.
	typed bool
}

// sent returns the bytes of a message, as a framing has them.
func (d *dialer) sent(message []byte) []byte {
	if d.typed {
		return untyped(message)
	}
	return message
}

// dialTLS is dial, with TLS over it if the dialer has it.
func (d *dialer) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.dial(ctx, network, address)
	if err != nil || d.tls == nil {
		return conn, err
	}
	tc := d.tls.Clone()
	tc.ServerName = "127.0.0.1"
	tc.NextProtos = []string{"http/1.1"} // as browsers do for WebSockets
	secure := tls.Client(conn, tc)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS with culvert: %w", err)
	}
	return secure, nil
}

func (d *dialer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var nd net.Dialer
	conn, err := nd.DialContext(ctx, "tcp", d.address)
	if err != nil {
		return nil, fmt.Errorf("dial culvert: %w", err)
	}
	tcp := conn.(*net.TCPConn)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.receiveBuffer > 0 {
		if err := tcp.SetReadBuffer(d.receiveBuffer); err != nil {
			return nil, fmt.Errorf("receive buffer: %w", err)
		}
	}
	d.conns = append(d.conns, tcp)
	return tcp, nil
}

// cut closes every connection that was dialed.
func (d *dialer) cut(how cut) {
	d.mu.Lock()
	conns := slices.Clone(d.conns)
	d.conns = nil
	d.mu.Unlock()
	for _, c := range conns {
		cutConn(c, how)
	}
}

// cutConn closes c with a FIN or a RST. It ignores errors, which mean that c is
// closed already.
func cutConn(c net.Conn, how cut) {
	if tcp, ok := c.(*net.TCPConn); ok && how == cutRST {
		_ = tcp.SetLinger(0) // closing sends RST
	}
	_ = c.Close() // closed by its owner before: nothing to do
}

// An httpError is an answer that isn't a call's: with another HTTP status than 200.
type httpError struct{ code int }

func (e *httpError) Error() string { return fmt.Sprintf("answered with HTTP status %d", e.code) }

// violation returns the error for an answer that breaks its own protocol.
func violation(format string, args ...any) error {
	return fmt.Errorf("protocol violation: "+format, args...)
}
