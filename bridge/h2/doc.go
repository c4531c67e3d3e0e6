// Package h2 is an HTTP/2 server (RFC 9113) under net/http, for handlers that
// stream many small messages: gRPC.
//
// Configure puts it where net/http's own would be. Handlers are ordinary ones:
// what net/http's HTTP/2 server offers them is here, too, but for server push
// and extended CONNECT.
//
// # How to read it
//
//   - server.go: how net/http hands a connection over, and shutdown.
//   - settings.go: what is read of the http.Server, and what is fixed.
//   - conn.go: one connection from its preface to the end of its last handler.
//   - frame.go, flow.go: a frame's header and padding; windows. Pure.
//   - conn_read.go, conn_frames.go: bytes become frames, frames become events.
//   - conn_headers.go, request.go: a header block becomes an http.Request.
//   - conn_write.go: what is to be sent, and who writes it.
//   - conn_goodbye.go, conn_time.go: GOAWAY; the connection's one timer.
//   - conn_silence.go: pings, and what the reader decides when the timer doubts.
//   - flood.go: what a client may do for nothing.
//   - stream.go, stream_receive.go, stream_send.go: one request's states, its
//     body, and what is sent for it.
//   - stream_linger.go: what still comes of a request that has been answered.
//   - response.go, response_header.go: the http.ResponseWriter.
//
// # Who does what
//
// One goroutine reads: the one that net/http gave. It never waits for a
// handler, nor for the peer to take what is sent. Handlers append frames to
// the connection's buffer themselves. Whoever finds nobody writing sees to the
// write: on a socket the handler writes what goes without waiting, if it is
// the only one; else a goroutine writes, which is started when there is
// something to write and ends when there is nothing. So no message is handed
// from goroutine to goroutine, and messages that come together leave in one
// system call.
//
// One mutex guards a connection with its streams. It is never held over a
// write, a read or a handler.
//
//	start               owner that waits   ends when
//	stream.run          conn.serve         the handler returns: a connection that ends frees it
//	conn.write          conn.serve         nothing is left to write, or the connection is closed
//	conn.cut            conn.serve         the connection is closed, which may take a moment
//	alarms (timers)     conn.serve         at once: conn.tick, a delayed flush, a stream's deadlines
//
// # Memory
//
// What a client sent and a handler has not read is bounded by the windows;
// they open as the handler reads. What handlers sent and the client has not
// taken is bounded by maxOutput, twice: what is being written and what comes
// next. An idle connection holds an input buffer of 4 KiB and nothing else.
package h2
