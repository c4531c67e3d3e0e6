package edge

import (
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// An idleness notes since when a connection has had no request.
type idleness struct {
	since  atomic.Int64 // of epoch, as a time.Duration; 0: it has one
	closed atomic.Bool
	spared atomic.Bool // Evict found a request
	held   *memory.Entry
	relief memory.Candidate
}

// epoch is the start of idle times. Setting the clock doesn't change them.
var epoch = time.Now()

// note follows the states that net/http and bridge/internal/h2 report. A WebSocket's connection
// is hijacked and counts as busy; a tunnel in it reports its own states.
func (i *idleness) note(state http.ConnState) {
	switch state {
	case http.StateNew, http.StateIdle:
		i.since.Store(max(int64(time.Since(epoch)), 1))
	case http.StateActive, http.StateHijacked, http.StateClosed:
		i.since.Store(0)
	}
}

// clients are the connections that count with the account.
type clients struct {
	mu  sync.Mutex
	all map[*clientConn]struct{}
}

// add adds a connection, unless it has been closed.
func (s *clients) add(c *clientConn, held *memory.Entry) {
	c.idle.held = held
	c.idle.relief = memory.Candidate{Of: c, Held: held}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.idle.closed.Load() {
		s.all[c] = struct{}{}
	}
}

func (s *clients) list() []*clientConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.all))
}

func (s *clients) remove(c *clientConn) {
	c.idle.closed.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, c)
}

// Held returns the memory that counts for the connection until it is closed, or nil if Serve
// didn't accept the connection.
func (c *Conn) Held() *memory.Entry {
	if c.client == nil {
		return nil
	}
	return c.client.idle.held
}

// Idle adds the connections without requests, which may be ended to free memory for
// others, if Options.Memory bounds connections. One goroutine at a time calls it.
func (e *Edge) Idle(all []*memory.Candidate) []*memory.Candidate {
	if e.o.Memory.Total() == 0 {
		return all
	}
	e.clients.mu.Lock()
	defer e.clients.mu.Unlock()
	for c := range e.clients.all {
		if since := c.idle.since.Load(); since > 0 {
			if c.idle.spared.Swap(false) {
				c.idle.relief = memory.Candidate{Of: c, Held: c.idle.held}
			}
			c.idle.relief.Moved = epoch.Add(time.Duration(since))
			all = append(all, &c.idle.relief)
		}
	}
	return all
}

// Evict closes the connection at once, unless a request has arrived. It sends no
// goodbye.
func (c *clientConn) Evict() {
	if c.idle.since.Load() == 0 {
		c.idle.spared.Store(true)
		return
	}
	c.life.end(report.EndedIdle)
	c.linger.Store(false)
	_ = c.Close() // it is over either way
}
