// Package upstream calls a backend: it resolves its name, keeps a pool of connections
// to it, and opens streams on them.
//
// [New] returns an [Upstream], and its Open a [Stream]. A [Set] has the upstreams of
// a server by name, and closes replaced ones after their last call. A stream ends
// with io.EOF for the backend's OK, a [Status] for the status in the backend's
// trailers, or a [report.Fault] for everything that culvert or grpc-go found out by
// itself. It ends with the cause of the call's context if the context ended first.
//
// To read it, begin with upstream.go, the options of grpc-go, and stream.go: opening,
// sending and receiving. set.go has the names, and the holders of an upstream.
// status.go distinguishes the backend's own status from those that grpc-go makes, and cause.go
// says for the log why a connection failed. pool.go, conns.go and places.go are the pool,
// balance.go and avoid.go its choice of an address, growth.go its size, health.go the health
// of connections, and state.go what operators see of it.
// asked.go opens streams for the room reflection, whose Book knows the backend's methods.
// retry.go decides by a route's policy whether a call is sent again, and attempts.go sends it:
// also to another address, after REFUSED_STREAM. resolve.go has the
// names, dial.go and tls.go the way to an address. panic.go ends a connection for a panic on
// goroutines of grpc-go.
//
// credentials.go puts a [wire.Conn] on each connection, and facts.go ties a call's place in the
// pool to the one on its connection.
//
// Beside grpc-go's own goroutines and those of the connections, the package starts one for
// each name, which resolves the name and ends with Close, and one for each connection with a
// health check. InProcess serves until it is stopped. Close waits for all of them, for the
// question of the Book, and for the timers of the pool. A Set starts one for each upstream
// that leaves it, which closes that upstream after its last call; the Set's Close waits for
// them.
package upstream
