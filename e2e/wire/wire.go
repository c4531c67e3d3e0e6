// Package wire is a client of each protocol that culvert accepts, written on the
// bytes: a test can stop in the middle of a message, see how an answer really
// ended, and cut the connection below. The published clients are tested beside
// it; what they hide (a connection that just ended, a frame too many) shows here.
package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/e2e/e2epb"
	"github.com/culvert-grpc/culvert/e2e/probe"
)

// A Transport is a way for a client to reach culvert.
type Transport string

// The transports.
const (
	GRPC      Transport = "grpc"                   // native, HTTP/2 by prior knowledge
	Web       Transport = "grpc-web http/1.1"      // gRPC-Web, a chunked request body
	WebText   Transport = "grpc-web-text http/1.1" // the same in base64
	WebH2     Transport = "grpc-web http/2"
	WebSocket Transport = "grpc-websockets"
	Tunnel    Transport = "h2ts+grpc"
	TunnelWeb Transport = "h2ts+grpc-web"
)

// All lists every transport.
var All = []Transport{GRPC, Web, WebText, WebH2, WebSocket, Tunnel, TunnelWeb}

// Multiplexed reports whether a connection of t carries many calls at once.
func (t Transport) Multiplexed() bool {
	return slices.Contains([]Transport{GRPC, WebH2, Tunnel, TunnelWeb}, t)
}

// A Conn is one TCP connection to culvert.
type Conn struct {
	Transport Transport
	TCP       *net.TCPConn
	TLS       *tls.ConnectionState // nil: plaintext
	over      net.Conn             // TCP, or TLS on it
	open      func(ctx context.Context, method string, md http.Header, complete []byte) (Call, error)
	close     func()
}

// A Call is one RPC. One goroutine may send while another receives.
type Call interface {
	// Send sends one message. It blocks while the connection takes no more, and
	// an error means that the server takes none: Recv has the reason.
	Send(message []byte) error
	// Write sends bytes of the request's stream of frames as they are.
	Write(b []byte) error
	// CloseSend sends the half-close.
	CloseSend() error
	// Recv returns the next message. io.EOF: the call ended and Status says how.
	// Any other error: the connection or the answer just ended, or is malformed.
	Recv() ([]byte, error)
	// Header is the response's; valid once Recv returned.
	Header() http.Header
	// Status is valid once Recv returned io.EOF.
	Status() *Status
	// Close cancels the call as the protocol does, if it runs, and frees it.
	Close()
}

// ErrCut is wrapped by Recv's error when the answer ended without a status.
var ErrCut = errors.New("the answer ended without a status")

// Dial connects to culvert at address. Close the connection after use.
func Dial(ctx context.Context, t Transport, address string) (*Conn, error) {
	return DialFrom(ctx, t, "", address, nil)
}

// DialTLS is Dial over TLS. The configuration's protocols are those of the
// transport, unless it has some.
func DialTLS(ctx context.Context, t Transport, address string, config *tls.Config) (*Conn, error) {
	return DialFrom(ctx, t, "", address, config)
}

// DialFrom is DialTLS from an IP address of this machine, "" for any. Without a
// configuration it is Dial.
func DialFrom(ctx context.Context, t Transport, from, address string, config *tls.Config) (*Conn, error) {
	var d net.Dialer
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if config == nil {
		return New(ctx, t, c.(*net.TCPConn))
	}
	config = config.Clone()
	if config.NextProtos == nil {
		config.NextProtos = []string{"http/1.1"}
		if t == GRPC || t == WebH2 {
			config.NextProtos = []string{"h2"}
		}
	}
	over := tls.Client(c, config)
	if err := over.HandshakeContext(ctx); err != nil {
		_ = c.Close() // the error of the handshake says more
		return nil, err
	}
	state := over.ConnectionState()
	return start(ctx, &Conn{Transport: t, TCP: c.(*net.TCPConn), TLS: &state, over: over})
}

// New makes a Conn of a TCP connection, which it owns from then on.
func New(ctx context.Context, t Transport, tcp *net.TCPConn) (*Conn, error) {
	return start(ctx, &Conn{Transport: t, TCP: tcp, over: tcp})
}

func start(ctx context.Context, c *Conn) (*Conn, error) {
	switch c.Transport {
	case GRPC, WebH2:
		if err := c.useHTTP2(ctx, c.over); err != nil {
			return nil, err
		}
	case Web, WebText:
		c.useHTTP1()
	case WebSocket:
		c.useWebSocket()
	case Tunnel, TunnelWeb:
		inner, err := DialTunnel(ctx, c.over)
		if err != nil {
			_ = c.TCP.Close() // the error of the handshake says more
			return nil, err
		}
		if err := c.useHTTP2(ctx, inner); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("no transport %q", c.Transport)
	}
	return c, nil
}

// Open begins a call of method, a path, whose request is streamed. md has the
// metadata as it goes on the wire.
func (c *Conn) Open(ctx context.Context, method string, md http.Header) (Call, error) {
	return c.open(ctx, method, md, nil)
}

// Post begins a call whose only message is sent at once with the half-close, in
// one body of known length where the protocol has that.
func (c *Conn) Post(ctx context.Context, method string, md http.Header, message []byte) (Call, error) {
	return c.open(ctx, method, md, Frame(message))
}

// SetDeadline makes everything on the connection fail from then on.
func (c *Conn) SetDeadline(t time.Time) {
	_ = c.TCP.SetDeadline(t) // an error: closed, and so everything fails
}

// Close ends the connection in order: with a FIN.
func (c *Conn) Close() {
	if c.close != nil {
		c.close()
	}
	_ = c.TCP.Close() // may be closed by then
}

// Reset ends the connection with a RST.
func (c *Conn) Reset() {
	_ = c.TCP.SetLinger(0) // an error: closed by then
	_ = c.TCP.Close()
	if c.close != nil {
		c.close()
	}
}

// Metadata returns the request metadata of a call named id with script.
func Metadata(id string, script probe.Script) http.Header {
	return http.Header{probe.IDKey: {id}, probe.ScriptKey: {script.String()}}
}

// The methods of the backend.
const (
	Unary        = "/culvert.e2e.v1.Probe/Unary"
	ServerStream = "/culvert.e2e.v1.Probe/ServerStream"
	ClientStream = "/culvert.e2e.v1.Probe/ClientStream"
	Bidi         = "/culvert.e2e.v1.Probe/Bidi"
)

// Request returns the serialised request number sequence with size bytes.
func Request(sequence uint64, size int) []byte {
	b, err := proto.Marshal(&e2epb.Request{Sequence: sequence, Payload: probe.Payload(sequence, size)})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return b
}

// RecvReply receives the reply number sequence and checks that it is that one,
// undamaged. Its errors are those of Recv, io.EOF among them.
func RecvReply(c Call, sequence uint64) (*e2epb.Reply, error) {
	b, err := c.Recv()
	if err != nil {
		return nil, err
	}
	reply := new(e2epb.Reply)
	if err := proto.Unmarshal(b, reply); err != nil {
		return nil, fmt.Errorf("reply %d: %w", sequence, err)
	}
	if reply.GetSequence() != sequence {
		return nil, fmt.Errorf("reply %d came where %d had to", reply.GetSequence(), sequence)
	}
	if !probe.SamePayload(sequence, reply.GetPayload()) {
		return nil, fmt.Errorf("reply %d is damaged", sequence)
	}
	return reply, nil
}

// Drain receives replies to the end of the call and returns their number.
func Drain(c Call, sequence uint64) (uint64, error) {
	for {
		_, err := RecvReply(c, sequence)
		if errors.Is(err, io.EOF) && !errors.Is(err, ErrCut) {
			return sequence, nil
		}
		if err != nil {
			return sequence, err
		}
		sequence++
	}
}
