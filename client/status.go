package client

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/connectivity"
)

// A Status is what a client knows about its edge.
type Status struct {
	State   connectivity.State
	Way     Way           // "": none works
	TwoWay  bool          // requests and answers can cross at the same time. False only with GRPCWeb
	Latency time.Duration // of a round trip when the connection was opened
	Err     error         // why there is no way

	// TokenErr is why the token of running calls can't be renewed: they end when it expires.
	TokenErr error
}

// Status returns what the Dialer knows now.
func (d *Dialer) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status
}

// note notes a status without a connection, unless there is one. While a better one is looked for,
// one that is retired counts.
func (d *Dialer) note(s Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		if s.State == connectivity.Connecting || !c.retired.Load() {
			return
		}
	}
	d.setStatus(s)
}

// setStatus notes a change, and has it told. mu is held, so that changes are told in their order.
// A closed Dialer only shuts down: a Dial may still be under way.
func (d *Dialer) setStatus(s Status) {
	if s == d.status || d.closed && s.State != connectivity.Shutdown {
		return
	}
	d.status = s
	d.changes.tell(s)
}

const (
	// maxChanges bounds the changes that wait while the program's function is told another one.
	maxChanges = 100

	// tellTimeout is how long Close waits for the program's function.
	tellTimeout = time.Second
)

// changes are told to a function of the program's, by a goroutine that lasts as long as there are
// some: DialOptions has no end at which one could be stopped.
type changes struct {
	changed func(Status) // nil: nobody is told

	mu      sync.Mutex
	waiting []Status
	telling chan struct{} // closed when there are no more; nil: nothing is told
	over    bool
}

// tell has a change told, and doesn't wait for that.
func (c *changes) tell(s Status) {
	if c.changed == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	if len(c.waiting) == maxChanges {
		c.waiting = slices.Delete(c.waiting, 0, 1)
	}
	c.waiting = append(c.waiting, s)
	if c.telling == nil {
		c.telling = make(chan struct{})
		go c.run() // close waits for it
	}
}

func (c *changes) run() {
	for s, ok := c.next(); ok; s, ok = c.next() {
		c.changed(s)
	}
}

func (c *changes) next() (s Status, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		close(c.telling)
		c.telling = nil
		return Status{}, false
	}
	s = c.waiting[0]
	c.waiting = c.waiting[1:]
	return s, true
}

// close waits until all changes are told, but not for a function that is stuck: that is left
// behind, and told nothing more.
func (c *changes) close() {
	c.mu.Lock()
	telling := c.telling
	c.mu.Unlock()
	if telling != nil {
		select {
		case <-telling:
		case <-time.After(tellTimeout):
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over, c.waiting = true, nil
}
