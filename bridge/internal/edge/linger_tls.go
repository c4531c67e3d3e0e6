package edge

// greet is called when the TLS handshake has succeeded: from then on the connection
// lingers only for another reason.
//
// A failed handshake ends with an alert that gives the reason. With TLS 1.3, a client
// may consider the handshake done before culvert has checked its certificate, and may
// already be sending. The connection lingers, so that the client reads the alert and
// not a reset.
func (c *Conn) greet() {
	if c.listening.TLS == nil || c.tunnel != nil {
		return
	}
	if c.client != nil && !c.client.greeted.Swap(true) {
		c.client.linger.Store(false)
	}
}
