package bridge

import "github.com/culvert-grpc/culvert/bridge/internal/memory"

// A HeldConn is an open connection of a client, with the memory that counts for it.
type HeldConn struct {
	Peer      string // the client's address; behind a trusted proxy the proxy's, unless a PROXY header names the client
	Listener  string // the name of its listener; "" if it has none
	Transport string // "http/1.1", "h2" or "websocket"; "" if no request has come yet
	HeldBytes int64  // counted for the connection itself, without its calls
	Calls     int    // that are open on it, requests to the web server left out
}

// heldConns returns the connections that hold most themselves, most first, and at most so
// many.
func heldConns(s *Server, most int) []HeldConn {
	heaviest := s.edge.Heaviest(most)
	if len(heaviest) == 0 {
		return nil
	}
	calls := make(map[*memory.Entry]int, len(heaviest))
	for _, h := range heaviest {
		calls[h.Entry] = 0
	}
	for _, w := range s.registry.list() {
		c, ok := w.held.Call.(*call)
		if !ok || c.on == nil { // a request to the web server, or the call of a session
			continue
		}
		on := c.on.Held()
		if n, shown := calls[on]; shown {
			calls[on] = n + 1
		}
	}
	conns := make([]HeldConn, len(heaviest))
	for i, h := range heaviest {
		conns[i] = HeldConn{Peer: h.Peer, Listener: h.Listener, Transport: h.Transport, HeldBytes: h.Bytes, Calls: calls[h.Entry]}
	}
	return conns
}
