package opamp

import (
	"container/heap"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// An address has the sessions of one client address.
type address struct {
	key        uint64
	count      int  // of its sessions
	idle, busy list // without a poll, the one that has waited longest first; with one
	at         int  // in Table.most
}

// addresses is a heap of addresses, the one with most sessions first.
type addresses []*address

func (h addresses) Len() int           { return len(h) }
func (h addresses) Less(i, j int) bool { return h[i].count > h[j].count }

func (h addresses) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *addresses) Push(x any) {
	a := x.(*address)
	a.at = len(*h)
	*h = append(*h, a)
}

func (h *addresses) Pop() any {
	last := len(*h) - 1
	a := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return a
}

// enter counts a session with its address. The caller holds mu.
func (t *Table) enter(s *Session, key uint64) {
	a := t.addresses[key]
	if a == nil {
		of := func(s *Session) *links { return &s.beside }
		a = &address{key: key, idle: list{of: of}, busy: list{of: of}}
		t.addresses[key] = a
		heap.Push(&t.most, a)
	}
	a.count++
	t.count++
	heap.Fix(&t.most, a.at)
	s.address = a
}

// exit undoes enter, once. The caller holds mu.
func (t *Table) exit(s *Session) {
	a := s.address
	if a == nil {
		return
	}
	s.address = nil
	a.idle.remove(s)
	a.busy.remove(s)
	a.count--
	t.count--
	if a.count > 0 {
		heap.Fix(&t.most, a.at)
		return
	}
	heap.Remove(&t.most, a.at)
	delete(t.addresses, a.key)
}

// makeRoom makes room for a session of an address. If there is none, it takes a session out
// of the table where most are, and returns it: the caller calls leave. The address needs to
// have two sessions less, or the two would take each other's places by turns. Idle sessions
// go first, since a poll that is under way fails with its session. The caller holds mu.
func (t *Table) makeRoom(key uint64) (displaced *Session, err error) {
	limit := t.options.Sessions()
	if t.count < limit {
		return nil, nil
	}
	own := 0
	if a := t.addresses[key]; a != nil {
		own = a.count
	}
	if len(t.most) == 0 || t.most[0].count < own+2 {
		return nil, t.full(report.Newf(report.ReasonOverloaded, "%d agents poll here already (%s)", limit, report.Named(t.options.Key)))
	}
	if displaced = t.most[0].idle.first; displaced == nil {
		displaced = t.most[0].busy.first
	}
	t.remove(displaced)
	return displaced, nil
}

// full completes the fault of an agent for which there is no place.
func (t *Table) full(f *report.Fault) error {
	f.Key, f.Remedy, f.Retry = t.options.Key, "try again later, or raise "+report.Named(t.options.Key), Retry
	return f
}
