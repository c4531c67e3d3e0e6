package upstream

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Set has the upstreams of a server, by name. They can be added, replaced and
// removed while calls are running.
//
// A call acquires an upstream and releases it at its end. A replaced or removed
// upstream takes no further calls, and is closed once its last call has released it.
// NewSet makes a Set.
type Set struct {
	byName atomic.Pointer[map[string]*Upstream] // the map never changes: a change stores another one

	mu       sync.Mutex // held for a change
	closed   bool
	draining map[*Upstream]string // upstreams that accept no new calls and aren't closed, with their names

	closing chan struct{}  // closed by Close
	retired sync.WaitGroup // upstreams that a goroutine closes
}

// NewSet returns a Set without upstreams.
func NewSet() *Set {
	s := &Set{closing: make(chan struct{}), draining: make(map[*Upstream]string)}
	s.byName.Store(&map[string]*Upstream{})
	return s
}

// Acquire returns the upstream of that name for one call, which must release it,
// unless most calls hold the upstream; 0 is no limit. It takes no lock and allocates
// nothing. The error is a *report.Fault.
func (s *Set) Acquire(name string, most int) (*Upstream, error) {
	for {
		u := (*s.byName.Load())[name]
		if u == nil {
			return nil, &report.Fault{Reason: report.ReasonUpstreamUnreachable, Text: "the backend could not be reached", Sent: report.SentNo, Cause: errUnknown(name)}
		}
		switch yes, full := u.holders.acquire(most); {
		case yes:
			return u, nil
		case full:
			f := report.Newf(report.ReasonOverloaded, "%d calls of the backend are running, which is the limit (%s)", most, report.Named(report.KeyBackendCalls))
			f.Key, f.Hint = report.KeyBackendCalls, "raise "+report.Named(report.KeyBackendCalls)+" of the backend "+name
			return nil, f
		}
		// It was replaced and released after the lookup: the map is another one now.
	}
}

func errUnknown(name string) error { return fmt.Errorf("there is no upstream %q", name) }

// Borrow returns the upstream of that name for something that isn't a call and doesn't
// count as one. The borrower calls Return.
func (s *Set) Borrow(name string) (*Upstream, error) {
	for {
		u := (*s.byName.Load())[name]
		if u == nil {
			return nil, errUnknown(name)
		}
		u.holders.others.Add(1) // first: no call must find it among the calls
		if yes, _ := u.holders.acquire(0); yes {
			return u, nil
		}
		u.holders.others.Add(-1)
	}
}

// Serves reports whether the upstream of that name can take new calls: one of its
// addresses does, or it has only just begun to connect. It takes no lock.
func (s *Set) Serves(name string) bool {
	u := (*s.byName.Load())[name]
	return u != nil && u.pool.Serves()
}

// Takes reports whether the upstream of that name serves, and Acquire doesn't
// refuse a call. It takes no lock.
func (s *Set) Takes(name string, most int) bool {
	u := (*s.byName.Load())[name]
	return u != nil && !u.holders.full(most) && u.pool.Serves()
}

// Release ends what Acquire began. The caller uses no stream of the upstream
// afterwards.
func (u *Upstream) Release() { u.holders.release() }

// Return ends what Borrow began.
func (u *Upstream) Return() {
	u.holders.release()
	u.holders.others.Add(-1)
}

// Put makes u, which the Set doesn't have yet, the upstream for new calls to the name.
// The upstream before it, if there was one, ends as after Remove. If Put returns an
// error, the caller must close u.
func (s *Set) Put(name string, u *Upstream) error {
	return s.change(name, func(byName map[string]*Upstream) (*Upstream, error) {
		old := byName[name]
		if err := u.fresh(byName); err != nil {
			return nil, fmt.Errorf("upstream %q: %w", name, err)
		}
		byName[name] = u
		return old, nil
	})
}

// Get returns the upstream for new calls to the name, or nil.
func (s *Set) Get(name string) *Upstream { return (*s.byName.Load())[name] }

// Remove removes the upstream of that name from the Set, which closes it after its last
// call. It returns an error if the name has another upstream, or none.
func (s *Set) Remove(name string, u *Upstream) error {
	return s.change(name, func(byName map[string]*Upstream) (*Upstream, error) {
		if u == nil || byName[name] != u {
			return nil, fmt.Errorf("upstream %q: the set doesn't have it under this name", name)
		}
		delete(byName, name)
		return u, nil
	})
}

// fresh returns an error for an upstream that is in the Set or has been in one:
// Acquire would wait for ever for the end of a retired one.
func (u *Upstream) fresh(byName map[string]*Upstream) error {
	for _, other := range byName {
		if other == u {
			return errors.New("it is in the set already")
		}
	}
	if u.holders.retired {
		return errors.New("it was removed from a set before")
	}
	return nil
}

// change stores a map that f has changed, and retires the upstream of that name
// that f returns.
func (s *Set) change(name string, f func(byName map[string]*Upstream) (old *Upstream, err error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("the upstreams are closed")
	}
	byName := maps.Clone(*s.byName.Load())
	old, err := f(byName)
	if err != nil {
		return err
	}
	s.byName.Store(&byName)
	if old != nil {
		s.retire(name, old)
	}
	return nil
}

// retire closes an upstream after its last call, or when the Set is closed. It
// must be out of the map: Acquire relies on that. mu is held.
func (s *Set) retire(name string, u *Upstream) {
	u.holders.retired = true
	u.holders.release()
	s.draining[u] = name
	s.retired.Go(func() {
		select {
		case <-u.holders.none:
		case <-s.closing:
		}
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.draining, u)
		}()
		defer u.panics.Catch("the end of a backend", nil)
		_ = u.Close() // only that it is closed already
	})
}

// Close closes all upstreams, including those that calls still hold: their streams
// end with an error. It returns when all connections are closed. It may be called
// again.
func (s *Set) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
		for name, u := range *s.byName.Swap(&map[string]*Upstream{}) {
			s.retire(name, u)
		}
	}
	s.mu.Unlock()
	s.retired.Wait()
}

// holders counts the users of an upstream: the Set that it is in, the calls that
// acquired it, and those who borrowed it.
type holders struct {
	n       atomic.Int64
	others  atomic.Int64  // of n, those that aren't calls, without the Set
	none    chan struct{} // closed when the last one has released it
	retired bool          // it was in a Set; guarded by that Set's mu
}

// acquire counts a call, unless most calls are counted; 0 is no limit. yes and full are
// false if the upstream accepts no calls. Once its count is 0 it is being closed, and
// stays at 0.
func (h *holders) acquire(most int) (yes, full bool) {
	for {
		n := h.n.Load()
		switch {
		case n == 0:
			return false, false
		case h.full(most):
			return false, true
		case h.n.CompareAndSwap(n, n+1):
			return true, false
		}
	}
}

// full reports whether most calls are counted; 0 is no limit.
func (h *holders) full(most int) bool {
	return most > 0 && h.n.Load()-h.others.Load() > int64(most) // the Set is one of n
}

func (h *holders) release() {
	if h.n.Add(-1) == 0 {
		close(h.none)
	}
}

// calls returns the count of calls. The Set's mu is held.
func (h *holders) calls() int {
	n := h.n.Load() - h.others.Load()
	if !h.retired {
		n--
	}
	return int(max(0, n)) // the two change one after the other
}
