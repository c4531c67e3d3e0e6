// Package tunnel makes a net.Conn of a WebSocket, for HTTP/2 inside it. It knows no calls:
// an HTTP server accepts the tunnels from a Listener, and serves them like any other
// connection.
//
//   - listener.go: the tunnels that are open, as a net.Listener
//   - conn.go: one tunnel, as a net.Conn. Its reading is in internal/tunnel, which the
//     client shares.
//
// No goroutine is started. The owner of a Conn runs its Run, which ends when the tunnel is
// closed and all data is sent, and waits for it.
package tunnel
