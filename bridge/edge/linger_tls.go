package edge

// A handshake of TLS that fails ends with an alert that says why. With TLS 1.3
// a client believes that it is done before its certificate was looked at, and
// may be sending already: the connection lingers, so that it reads the alert
// and not a reset.
//
// greet is called when a connection gets on: it lingers no longer without another
// reason.
func (c *Conn) greet() {
	if c.listening.TLS == nil || c.tunnel != nil {
		return
	}
	if c.client != nil && !c.client.greeted.Swap(true) {
		c.client.linger.Store(false)
	}
}
