// Package websocket is either end of a WebSocket (RFC 6455), for streams of
// small messages. Binary messages that follow one another leave in one write. Input
// is read to its destination, without a copy if it is large.
//
// It knows no calls and no policy. Its owner judges the Origin before Accept, sets
// how often to ping, and bounds every wait by deadlines (for a client that takes nothing,
// bridge/timeouts.go). The codes of close frames are
// those of github.com/coder/websocket, with which both ends are compared.
//
// # How to read it
//
//   - accept.go: a server's handshake, and the connection taken over from net/http.
//   - open.go: a client's handshake, and why it fails.
//   - conn.go: a Conn: the methods for its owner, except for reading.
//   - read.go: messages of frames, control frames between them, and the bound for
//     frames that carry nothing.
//   - keepalive.go: pings, and pongs that wait for the line.
//   - line.go: the layer between frames and the kernel: who writes when.
//   - frame.go: a frame's header, its mask, a close frame's payload. Pure.
//   - mask.go: the masks of what a client writes.
//   - status.go: codes, and the two kinds of ends that a reader reports.
//   - wstest: both ends frame by frame, for tests.
//
// # Who waits for whom
//
// No goroutine is started. Those of the owner meet in three places:
//
//   - One reader at a time has the turn (read.go). Close takes it to see the peer's
//     close frame, and waits for a running reader: the deadline that Close sets ends
//     that.
//   - One writer at a time has the line (line.go), for a whole frame. A writer waits
//     for it, and then for the peer. A reader that must answer never waits: it
//     leaves a close frame to the writer that has the line, and a pong to that writer
//     or to the next try.
//   - Two timers, for pings and for pongs that found the line taken, run functions
//     that never block. Close and Drop stop them and wait for one that is running.
//
// # Memory
//
// While it waits, a reader of a plain socket holds no buffer; one of TLS keeps 4 KiB.
// Read data is in a pooled buffer until it is taken. Written data is joined in a
// buffer of at most 32 KiB, and a server's larger message is written as it was given. A
// client's message is copied to put its mask on, at most 256 KiB at a time. A
// message is never held whole here, and its length is a number until its bytes
// arrive.
package websocket
