package edge

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// HandshakeTimeout bounds the time for the first bytes from a client: a PROXY header,
// the headers of a request, the first message of a WebSocket.
const HandshakeTimeout = 10 * time.Second

// expectsHeader reports whether a connection begins with a PROXY header.
func (l *Listening) expectsHeader(c *clientConn) bool {
	return len(l.ProxyProtocol) > 0 && gate.ContainsPeer(l.ProxyProtocol, c.address())
}

// A proxied has the facts of a connection's PROXY header. The first goroutine that
// reads the connection or asks for its client reads the header: a goroutine of the
// connection's own, so that no other one waits for it.
// https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt
type proxied struct {
	once sync.Once

	// Written before once is done.
	client    net.Addr // nil: the header names none
	local     net.Addr // that the client connected to; nil: the header names none
	announced bool     // the Observer knows the connection
	err       error
}

// awaitHeader returns when the PROXY header is read, if one is expected. After an error
// the connection is useless.
func (c *clientConn) awaitHeader() error {
	if c.proxied == nil {
		return nil
	}
	c.proxied.once.Do(c.learnClient)
	return c.proxied.err
}

// learnClient reads the header. It runs once.
func (c *clientConn) learnClient() {
	p := c.proxied
	defer c.on.edge.o.Panics.Catch("a PROXY header", func(*report.Fault) {
		p.err = io.EOF
		c.on.edge.shut(c.Conn)
	})
	_ = c.Conn.SetReadDeadline(time.Now().Add(HandshakeTimeout)) // a closed connection needs none
	client, local, err := gate.ReadPROXYHeader(c.Conn)
	_ = c.Conn.SetReadDeadline(time.Time{}) // a closed connection needs none
	if err != nil {
		p.err = io.EOF // an end that net/http has no answer for
		c.linger.Store(false)
		c.refuseHeader(err)
		return
	}
	p.client, p.local = client, local
	if err := c.admit(c.on.edge.o.Bounds(c.on.listening)); err != nil {
		p.err = io.EOF
		c.on.edge.refused(err, c.address().String())
		c.tellRefusal(err)
		return
	}
	p.announced = true
	c.on.edge.o.Observer.ConnBegan(report.ConnInfo{Peer: c.address().String(), Listener: c.on.listening.Name})
}

// refuseHeader logs why a connection ends. It logs nothing for a connection that came
// and went without a byte, like health checks and port scans.
func (c *clientConn) refuseHeader(err error) {
	if errors.Is(err, gate.ErrNothingCame) {
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("no complete PROXY header arrived within %v", HandshakeTimeout)
	}
	c.on.edge.o.Refusals.Note(&report.Fault{
		Reason: report.ReasonBadRequest, Key: report.KeyProxyProtocol, Detail: err.Error(),
		Hint: "configure the peer to send a PROXY header, or remove it from " + report.Named(report.KeyProxyProtocol),
	}, c.address().String())
}
