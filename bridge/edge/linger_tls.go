package edge

// greet is called when the handshake of TLS has succeeded: from then on the
// connection lingers only for another reason.
//
// A handshake that fails ends with an alert that says why. With TLS 1.3 a client
// believes that it is done before culvert has looked at its certificate, and may be
// sending already. The connection lingers, so that the client reads the alert and not a
// reset.
func (c *Conn) greet() {
	if c.listening.TLS == nil || c.tunnel != nil {
		return
	}
	if c.client != nil && !c.client.greeted.Swap(true) {
		c.client.linger.Store(false)
	}
}
