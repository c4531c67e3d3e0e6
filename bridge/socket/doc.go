// Package socket is what the kernel knows of a connection, and what it does for
// one: looks that read nothing, TCP's own watch over a peer, reads that hold no
// buffer while they wait, writes that don't wait, a listener that takes no more.
//
// A connection is given as whatever stands for it: the socket is found under
// TLS and under each wrapper that has NetConn() net.Conn. Where there is none, as
// under a pipe, a look says that all is well. So it does where only Linux could
// tell: there TCP keep-alive and pings tell, later. Nothing here blocks but what
// says so, and nothing starts a goroutine.
//
//   - socket.go: the socket under a connection, and whether anything is between.
//   - look_linux.go: what became of the peer, and of what was sent.
//   - watch.go: what successive looks, and pings without an answer, tell of a peer.
//   - option_linux.go: what is set on a socket.
//   - listen_linux.go: the end of a listener; how many descriptors there are.
//   - read_linux.go: a Reader.
//   - other.go: what only Linux offers, elsewhere.
//   - write_unix.go: writes that don't wait. write_other.go has them elsewhere.
package socket
