// Package h2 is an HTTP/2 server (RFC 9113) under net/http, for handlers that
// stream many small messages: gRPC.
//
// Configure puts it in the place of net/http's own. Handlers are ordinary ones:
// they have all that net/http's HTTP/2 server offers, except server push and
// extended CONNECT.
//
// # How to read it
//
//   - server.go: how net/http hands a connection over, and shutdown.
//   - settings.go: the settings from the http.Server, and the fixed ones.
//   - conn.go: one connection from its preface to the end of its last handler.
//   - frame.go, flow.go: a frame's header and padding; windows. Pure.
//   - conn_read.go, conn_frames.go: bytes become frames, frames become events.
//   - conn_headers.go, request.go: a header block becomes an http.Request.
//   - conn_write.go: the frames to send, and the goroutine that writes them.
//   - conn_goodbye.go, conn_time.go, conn_idle.go: GOAWAY; the connection's one timer; its end
//     when it has had no stream.
//   - conn_silence.go: pings, and the reader's decision when the timer doubts.
//   - flood.go: bounds for frames that carry nothing.
//   - stream.go, stream_receive.go, stream_send.go: one request's states, its
//     body, and its answer.
//   - stream_linger.go: the rest of a request that was answered before its end.
//   - response.go, response_header.go: the http.ResponseWriter.
//
// # Who does what
//
// One goroutine reads: the one from net/http. It never waits for a handler, nor
// for the peer to accept data. Handlers append frames to the connection's buffer
// themselves. If no write is in progress, the handler that appended a frame starts
// one. On a socket a handler that is alone writes as much as it can without waiting.
// Otherwise it starts a goroutine, which ends when there is nothing left to write.
// So no message passes from goroutine to goroutine, and messages that are ready
// together leave in one system call.
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
// The windows bound the data that a client has sent and a handler has not read;
// they open as the handler reads. maxOutput bounds, twice, the data that handlers
// have sent and the client has not accepted: once for the data being written, once
// for the data after it. An idle connection holds an input buffer of 4 KiB and
// nothing else.
package h2
