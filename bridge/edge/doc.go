// Package edge has the connections of a server's clients, from accept to their end.
//
// An [Edge] is all connections of one server. [Edge.Serve] accepts them for an
// http.Server, and [Edge.Watch] prepares that server, so that each request finds its
// connection with [Edge.Of]. A [Conn] is one connection. It answers: which listener
// it came in on, who the client is by its PROXY header and its certificate, whether
// the peer is a trusted proxy, whether HTTP/1.1 has to close behind an answer, and
// why the connection ended.
//
// To read it, begin with edge.go: serving, closing, and what net/http tells of a
// connection. conn.go is what requests ask. accept.go keeps a reserve of file
// descriptors, bound.go refuses what is over a limit, and proxyprotocol.go reads the
// header that says who the client is (peer.go). listener.go has the rules of a
// listener, and tally.go counts its connections (takeover.go: those that leave net/http). lifetime.go bounds idle time and age,
// phase.go infers what net/http is doing, idle.go says which connections have no request,
// so that they can end for others, and conn_end.go says why a connection ended.
// closing.go decides when HTTP/1.1 closes. linger.go closes a socket so that its client
// gets the last answer. batch.go gathers what is written of an answer.
//
// A tunnel is HTTP/2 inside a WebSocket. Its net.Conn isn't here: it has a Conn from
// [Edge.NewTunnel], which names the WebSocket's own connection. ConnState and the
// hooks of HTTP/2 have no request. They find a Conn under a net.Conn by the method
// EdgeConn. Nobody else unwraps a connection but package socket, and package h2, which
// takes it from net/http.
//
// It starts one goroutine for each connection that lingers. It ends when its client
// closes, is silent, or its time is over; [Edge.CutLingering] waits for it.
//
// It is a leaf: it knows no calls.
package edge
