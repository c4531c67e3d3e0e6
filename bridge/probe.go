package bridge

import "sync"

// Probe takes the locks that calls and connections of all clients share, one after the
// other, and then returns. Locks of one connection, listener, method or backend aren't
// among them. A watchdog calls Probe: if Probe doesn't return, a lock is held for ever
// and the process can't serve.
func (s *Server) Probe() {
	locks := []*sync.Mutex{&s.registry.mu, &s.registry.noting, s.account.Mutex(), s.refusals.Mutex(), s.edge.Mutex(), s.edge.IdleMutex(), s.quotas.Mutex()}
	for _, l := range append(locks, s.quotas.Locks()...) {
		l.Lock()
		l.Unlock() //nolint:staticcheck // to have had it is all
	}
}

// RunningCalls returns how many calls are under way.
func (s *Server) RunningCalls() int {
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	return len(s.registry.calls)
}
