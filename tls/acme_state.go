package proxytls

import (
	"cmp"
	"slices"
	"time"
)

// What NameState.State may be.
const (
	NameObtaining = "obtaining" // there is no certificate yet: an order is under way, or waits for its turn
	NameValid     = "valid"     // the certificate needs no renewal yet
	NameRenewing  = "renewing"  // an order for the next certificate is under way, or waits for its turn
	NameFailing   = "failing"   // the last try failed; a certificate may be in use all the same
)

// A NameState is the state of one name for which ACME keeps a certificate.
type NameState struct {
	Name     string
	OnDemand bool // a client's handshake asked for it
	State    string

	NotAfter time.Time // of the certificate in use; zero: there is none

	// NextTry is when ACME orders a certificate, unless a Reload makes it do so earlier. It is
	// zero while an order is under way. For a failing name on demand without a certificate, ACME
	// orders one only if a client asks for that name then.
	NextTry time.Time

	// These are of a name that is failing.
	Since    time.Time // when the first of the last tries failed
	Failures int       // tries that have failed since then
	Problem  string    // of the last one, without secrets
}

// Names returns the state of all Domains, and of at most so many names on demand. Failing
// names come first, then those whose certificate ends first. left is how many names on
// demand it leaves out.
func (a *ACME) Names(mostOnDemand int) (names []NameState, left int) {
	all := a.nameStates(time.Now())
	slices.SortFunc(all, func(a, b NameState) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.Name, b.Name))
	})
	onDemand := 0
	names = slices.DeleteFunc(all, func(n NameState) bool {
		if n.OnDemand {
			onDemand++
		}
		return n.OnDemand && onDemand > mostOnDemand
	})
	return names, max(onDemand-mostOnDemand, 0)
}

// rank returns where the name is in the order of Names.
func (n *NameState) rank() int {
	if n.State == NameFailing {
		return 0
	}
	return 1
}

// nameStates returns the state of every name, in no order.
func (a *ACME) nameStates(now time.Time) []NameState {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]NameState, 0, len(a.names))
	for _, m := range a.names {
		all = append(all, m.state(now))
	}
	d := &a.demand
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, f := range d.failed {
		if a.names[name] == nil && now.Before(f.retryAt) {
			n := NameState{Name: name, OnDemand: true}
			n.fails(f, now)
			all = append(all, n)
		}
	}
	return all
}

func (m *managed) state(now time.Time) NameState {
	n := NameState{Name: m.name, OnDemand: m.onDemand}
	c, f := m.inUse.Load(), m.failing.Load()
	if c != nil {
		n.NotAfter = c.leaf.NotAfter
	}
	switch {
	case f != nil:
		n.fails(f, now)
	case c == nil:
		n.State = NameObtaining
	case now.Before(c.renewAt):
		n.State, n.NextTry = NameValid, c.renewAt
	default:
		n.State = NameRenewing
	}
	return n
}

func (n *NameState) fails(f *failing, now time.Time) {
	n.State, n.Since, n.Failures, n.Problem = NameFailing, f.since, f.tries, f.problem
	if now.Before(f.retryAt) {
		n.NextTry = f.retryAt
	}
}
