// Package websocket is the server's end of a WebSocket (RFC 6455), for streams
// of small messages: binary ones go out, several in one write where they follow
// one another; what comes in is read to where it goes, without a copy where it
// is large.
//
// It knows no calls and no policy. Its owner judges the Origin before Accept,
// says how often to ping, and bounds every wait by deadlines. The handshake is
// github.com/coder/websocket's, frames are read and written here.
//
// # How to read it
//
//   - accept.go: the handshake, and the connection taken over from net/http.
//   - conn.go: a Conn: what its owner calls, but for reading.
//   - read.go: messages of frames, control frames between them, and what a
//     client may send for nothing.
//   - keepalive.go: pings, and pongs that wait for the line.
//   - line.go: what is between frames and the kernel: who writes when.
//   - frame.go: a frame's header, its mask, a close frame's payload. Pure.
//   - status.go: codes, and the two kinds of ends that a client says.
//   - wstest: a client frame by frame, for tests.
//
// # Who waits for whom
//
// No goroutine is started. Those of the owner meet in three places:
//
//   - The turn (read.go) is had by one reader at a time. Close takes it to see
//     the client's close frame, and waits for a reader that is under way: the
//     deadline that Close sets ends that.
//   - The line (line.go) is had by one writer at a time, for a whole frame. A
//     writer waits for it, and then for the client. A reader that has to answer
//     never does: it leaves a close frame to whoever has the line, and a pong to
//     that one or to the next try.
//   - Two timers, for pings and for pongs that found the line taken, run
//     functions that block nowhere. Close and Drop stop them and wait for one
//     that runs.
//
// # Memory
//
// While it waits, a reader of a plain socket holds no buffer; one of TLS keeps
// 4 KiB. What is read lies in a buffer of the pool's until it is taken. What is
// written is joined in one of at most 32 KiB, and a message that is larger goes
// out as it was given. A message is never held whole here, and its length is a
// number until its bytes come.
package websocket
