package webhook

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxConnections is the limit on connections to one listener. An API server has few, but
// opens one for each request until it has the first: hundreds, when hundreds of pods are
// created at once.
const maxConnections = 800

// connections bounds the connections of a server. If there are too many, it closes the one
// that has had no request for the longest time, so that silent clients keep nobody out.
type connections struct {
	mu      sync.Mutex
	waiting map[net.Conn]time.Time // those without a request under way, and since when
	open    int
}

// changed is the server's ConnState.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	if oldest := c.count(conn, state); oldest != nil {
		if t, is := oldest.(*tls.Conn); is { // whose own Close may wait for the peer
			oldest = t.NetConn()
		}
		_ = oldest.Close() // the server notices
	}
}

// count counts a connection, and returns the one that must go, or nil.
func (c *connections) count(conn net.Conn, state http.ConnState) (oldest net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, conn)
	switch state {
	case http.StateNew:
		c.open++
		c.waiting[conn] = time.Now()
		if c.open <= maxConnections {
			return nil
		}
		for other, since := range c.waiting {
			if oldest == nil || since.Before(c.waiting[oldest]) {
				oldest = other
			}
		}
		delete(c.waiting, oldest)
	case http.StateIdle:
		c.waiting[conn] = time.Now()
	case http.StateClosed, http.StateHijacked:
		c.open--
	}
	return oldest
}

// Limits on requests under way, of all addresses and of one.
const (
	maxRequests  = 1000
	maxOfAddress = 600
)

// requests counts the requests under way by their clients' addresses.
type requests struct {
	mu  sync.Mutex
	all int
	of  map[string]int
}

// begin reports whether a request may begin. The caller must then call end.
func (r *requests) begin(peer string) (end func(), ok bool) {
	host, _, err := net.SplitHostPort(peer)
	if err != nil {
		host = peer
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all >= maxRequests || r.of[host] >= maxOfAddress {
		return nil, false
	}
	r.all++
	r.of[host]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all--
		if r.of[host]--; r.of[host] == 0 {
			delete(r.of, host)
		}
	}, true
}
