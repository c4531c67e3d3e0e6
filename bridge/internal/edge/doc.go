// Package edge has the connections of a server's clients, from accept to their end.
//
// An [Edge] has all connections of one server. [Edge.Serve] accepts them for an
// http.Server, and [Edge.Watch] prepares it, so that each request finds its connection
// with [Edge.Of]. A [Conn] is one connection. It knows which listener accepted it, the
// client from its PROXY header and its certificate, whether the peer is a trusted proxy,
// whether HTTP/1.1 must close after an answer, and why the connection ended.
//
// To read it, begin with server.go, which serves, and edge.go: closing, and the states
// that net/http reports. conn.go has the questions that requests ask. accept.go keeps a
// reserve of file descriptors, bound.go refuses connections over the server's limit and
// over those of package quota (an address's, a listener's). proxyprotocol.go decides which
// connections begin with a PROXY header (expectsHeader), and reads it: it names the client
// (peer.go). listener.go has the rules of a listener, and tally.go counts its connections
// (takeover.go: those that leave net/http). lifetime.go has idle time and age, phase.go infers what net/http is
// doing, idle.go bounds the wait between requests, relief.go finds connections without a
// request, which can end to free memory for others, and conn_end.go finds out why a connection
// ended. held.go says which connections hold most memory. closing.go decides when
// HTTP/1.1 closes. linger.go closes a socket so that its client gets the last answer
// (linger_tls.go: under TLS). batch.go gathers the writes of an answer, spread.go keeps
// connections from ending all at once, and panic.go ends a connection for a panic.
//
// A tunnel is HTTP/2 inside a WebSocket. Its net.Conn isn't here: it has a Conn from
// [Edge.NewTunnel], which names the WebSocket's own connection. ConnState and the hooks
// of HTTP/2 have no request. They find a Conn under a net.Conn by the method EdgeConn.
// Only two other packages unwrap a connection: package socket, and package h2, which
// gets it from net/http.
//
// Package edge starts one goroutine for each connection that lingers. The goroutine
// ends when the client closes or is silent, or when its time is over;
// [Edge.CutLingering] waits for it.
//
// It is a leaf: it knows nothing of calls.
package edge
