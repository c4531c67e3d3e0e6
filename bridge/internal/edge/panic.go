package edge

import "net"

// net/http and crypto/tls call a connection, and the functions that Watch sets, also on
// goroutines that recover nothing: the listener's, and those that wait for the next byte
// of a client. So a panic there ends the connection here.

// catch ends a panic beside a connection, and closes the connection. It must be deferred
// itself.
func (e *Edge) catch(c net.Conn) {
	if v := recover(); v != nil {
		_ = e.o.Panics.Note("a client's connection", v)
		e.shut(c)
	}
}

// fail is catch in a method of the connection.
func (c *clientConn) fail(err *error) {
	if v := recover(); v != nil {
		*err = c.on.edge.o.Panics.Note("a client's connection", v)
		c.on.edge.shut(c.Conn)
	}
}

// shut closes a connection whose Close may panic.
func (e *Edge) shut(c net.Conn) {
	defer e.o.Panics.Catch("the close of a client's connection", nil)
	_ = c.Close() // it is over either way
}
