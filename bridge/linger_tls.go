package bridge

import "net"

// A handshake of TLS that fails ends with an alert that says why. With TLS 1.3
// a client believes that it is done before its certificate was looked at, and
// may be sending already: the connection lingers, so that it reads the alert
// and not a reset.
//
// handshakeDone is called when a connection gets on: it lingers no longer
// without another reason.
func handshakeDone(l *listening, c net.Conn) {
	if l.TLS == nil {
		return
	}
	if _, tunnel := c.(*tunnelConn); tunnel {
		return
	}
	if client := clientUnder(c); client != nil && !client.greeted.Swap(true) {
		client.linger.Store(false)
	}
}
