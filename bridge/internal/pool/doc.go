// Package pool has the connections to a backend: it resolves the backend's name, connects to
// its addresses, checks their health, and gives each call a place on a connection.
//
// [New] returns a [Pool]. [Pool.NewCall] returns a [Call] for one attempt of a call, and its
// Open opens the stream: it waits for a connection and a place, or returns why there is none.
// The Call then tells what its connection has seen of the stream. [Pool.Open] opens streams
// that aren't calls. The package makes no further attempts, knows no routes, and doesn't
// classify how a stream ends.
//
// To read it, begin with client.go, the options of grpc-go, such as the pause after a failed
// attempt to connect, and call.go. pool.go has the
// addresses and the state of all, balancer.go what grpc-go calls, conns.go an address with its
// connections, and places.go the places, the queue for them, and the pause after an unused connection. opening.go is the wait for a
// stream. choose.go chooses an address, and avoids one that has refused a call, growth.go opens and closes further
// connections, health.go checks them, and state.go shows them to operators. resolve.go has the
// names, dial.go and tls.go the way to an address, and credentials.go puts a [wire.Conn] on
// each connection. cause.go says for the log why there is no connection, and panic.go ends
// connections for a panic.
//
// # Bounds
//
// The backend's settings bound the connections to each address, the calls that wait, and how
// long a call waits for a place and for a connection. A call asks at most
// maxRefusals addresses. Each lookup of the name, health answer and buffer has a bound beside
// its code.
//
// # Locks
//
// A Pool's mu is never taken under a wire.Conn's locks, and isn't held while a SubConn is shut
// down or the log is written: [Pool.unlock] does both. Under mu, a wire.Conn's own locks may be
// taken.
//
// # Who waits for whom
//
//	start               owner that waits     ends when
//	nameResolver.watch  nameResolver.Close   Pool.Close
//	check.run           balancing.Close      its connection is lost, or Pool.Close
//	Pool.after          balancing.Close      the timer has run, or is stopped
//
// grpc-go calls the dialer, the handshake, the balancer and its picker, the resolver and the
// buffers on goroutines of its own. Each of these catches its panics.
package pool
