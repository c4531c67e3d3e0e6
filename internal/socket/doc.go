// Package socket asks the kernel about a connection, and sets its options: looks that
// read nothing, TCP's own watch over a peer, reads that hold no buffer while they
// wait, writes that don't wait, the end of a listener.
//
// A connection may be wrapped: package socket finds the socket under TLS and under
// each wrapper that has NetConn() net.Conn. If there is none, as under a pipe, a look
// reports that all is well. The same applies where only Linux could answer: there TCP
// keep-alive and pings notice a problem, later. Only functions that say so block, and
// none starts a goroutine.
//
//   - socket.go: the socket under a connection, and whether anything is between.
//   - look_linux.go: the state of the peer, and of sent data.
//   - watch.go: the conclusions from several looks, and from pings without an answer.
//   - option_linux.go: options of a socket.
//   - listen_linux.go: the end of a listener; the number of descriptors.
//   - read_linux.go: a Reader.
//   - guard.go: reads and writes that end with a context.
//   - safe.go: an embedder's connection, whose panics are errors.
//   - other.go: replacements for systems other than Linux.
//   - write_unix.go: writes that don't wait. write_other.go has them elsewhere.
package socket
