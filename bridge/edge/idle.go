package edge

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// An idleness says since when a connection has no request, and what it holds meanwhile.
type idleness struct {
	since  atomic.Int64 // nanoseconds of Unix; 0: it has one
	closed atomic.Bool
	relief memory.Candidate
}

// note takes note of what net/http, or the HTTP/2 server, tells of the connection. One
// that was taken over is a WebSocket's, and has a call until a tunnel says otherwise.
func (i *idleness) note(state http.ConnState) {
	switch state {
	case http.StateNew, http.StateIdle:
		i.since.Store(time.Now().UnixNano())
	case http.StateActive, http.StateHijacked, http.StateClosed:
		i.since.Store(0)
	}
}

// clients are the connections that hold memory of a bounded account.
type clients struct {
	mu  sync.Mutex
	all map[*clientConn]struct{}
}

// add takes a connection in, unless it has been closed.
func (s *clients) add(c *clientConn, held *memory.Entry) {
	c.idle.relief.Of, c.idle.relief.Held = c, held
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.idle.closed.Load() {
		s.all[c] = struct{}{}
	}
}

func (s *clients) remove(c *clientConn) {
	c.idle.closed.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, c)
}

// Idle adds the connections without requests to those that may be ended for others,
// if Options.Memory bounds connections. One goroutine at a time calls it.
func (e *Edge) Idle(all []*memory.Candidate) []*memory.Candidate {
	e.clients.mu.Lock()
	defer e.clients.mu.Unlock()
	for c := range e.clients.all {
		if since := c.idle.since.Load(); since > 0 {
			c.idle.relief.Moved = time.Unix(0, since)
			all = append(all, &c.idle.relief)
		}
	}
	return all
}

// Evict closes a connection that has no request.
func (c *clientConn) Evict() {
	if c.idle.since.Load() == 0 {
		return // one has come meanwhile
	}
	c.life.end(report.EndedIdle)
	c.linger.Store(false)
	_ = c.Close() // it is over either way
}
