// Package upstream calls a backend: it resolves its name, keeps a pool of
// connections to it, and opens streams on them.
//
// [New] returns an [Upstream], and its Open a [Stream]. A [Set] has the upstreams of a
// server by name, and closes the ones that are replaced after their last call. How a stream ended is
// io.EOF for the backend's OK, a [Status] for the status in the backend's trailers,
// a [report.Fault] for everything that culvert or grpc-go found out by itself, and
// the cause of the call's context where that ended first.
//
// To read it, begin with upstream.go: options of grpc-go, opening, sending and
// receiving. set.go has the names, and who holds an upstream. status.go and cause.go tell the backend's own status from the texts of
// grpc-go. conns.go and places.go are the pool, resolve.go the names, dial.go and
// tls.go the way to an address.
//
// window.go sits on the connection, and frames.go finds HTTP/2's frames in the bytes.
// grant.go withholds large replies, and credit.go the connection's window, until the
// account has room. flow.go counts with a call what has come for it and what it has
// queued, whose.go finds the call of a stream. silence.go asks whether the backend is
// there. facts.go has what grpc-go tells beside a status.
//
// Beside grpc-go's own goroutines it starts two for each connection, which write its
// frames and watch whether the backend answers, and end with the connection; and
// one for each name, which resolves it, and ends with Close. InProcess serves until
// it is stopped. Close waits for all of them, and for the timers of the pool. A Set
// starts one for each upstream that leaves it, which closes that upstream after its
// last call; the Set's Close waits for them.
package upstream
