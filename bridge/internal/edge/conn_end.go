package edge

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// why returns why the connection ended, and the cause behind it if TLS knows. It
// recognizes a load balancer's health check, which connects and closes, and doesn't
// report it as a client that breaks the protocol.
func (c *Conn) why() (ended, cause string) {
	l := c.life
	ended = l.why(c.edge.o.Draining())
	if l == nil || c.tunnel != nil || ended != report.EndedOrderly && ended != report.EndedProtocol || l.settled.Load() {
		return ended, ""
	}
	fresh := phase(l.phase.Load()) == phaseFresh
	t, isTLS := c.conn.(*tls.Conn)
	switch {
	case !isTLS && !l.heard.Load() && l.left.Load():
		return report.EndedProbe, ""
	case !isTLS:
		return ended, ""
	case t.ConnectionState().HandshakeComplete && fresh:
		return report.EndedProbe, ""
	case t.ConnectionState().HandshakeComplete:
		return ended, ""
	}
	err := t.Handshake() //nolint:noctx // it is over, and returns the error that it ended with
	if errors.Is(err, io.EOF) {
		return report.EndedProbe, ""
	}
	return ended, handshakeCause(err)
}

// handshakeCause returns the cause that ended a handshake. Go calls each alert from the
// client a remote error.
func handshakeCause(err error) string {
	if err == nil {
		return ""
	}
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return strings.TrimPrefix(err.Error(), "tls: ")
	}
	alert := strings.TrimPrefix(op.Err.Error(), "tls: ")
	if strings.Contains(alert, "certificate") { // RFC 8446 §6.2: it is about the one that it was shown
		return "the client rejected the certificate: " + alert
	}
	return "the client ended the handshake: " + alert
}
