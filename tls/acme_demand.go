package proxytls

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Bounds for certificates that clients cause by asking for names, however many
// names they invent.
const (
	demandBurst    = 20                  // orders at first, and
	demandRate     = rate.Limit(1. / 45) // a second after that: 260 in 3 h, of the 300 that Let's Encrypt allows
	demandNames    = 10_000              // managed at one time, and remembered as failed
	demandAgain    = 10 * time.Minute    // after which a failed name may be tried again
	demandPatience = 8 * time.Second     // of a handshake, which has 10 s
	demandTellings = time.Minute         // between lines about failures
)

// demand remembers the names that clients asked for in vain.
type demand struct {
	budget *rate.Limiter
	orders chan struct{} // has a place for each running order

	mu     sync.Mutex
	failed map[string]*failing // by name; retryAt is until when it isn't tried again
	untold int                 // names that failed since the last report
	told   time.Time
}

var errTooManyNames = errors.New("tls: clients ask for certificates for too many names")

func (a *ACME) mayDemand(name string) bool {
	if !nameForm().MatchString(name) {
		return false
	}
	_, above, _ := strings.Cut(name, ".")
	return slices.Contains(a.opts.OnDemand, name) || slices.Contains(a.opts.OnDemand, "*."+above)
}

// nameForm matches DNS names for which a CA issues certificates: two labels or
// more, of at most 63 characters each. RFC 1123 §2.1. As hostForm, it is large.
var nameForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([0-9a-z]([0-9a-z-]{0,61}[0-9a-z])?\.)+[0-9a-z-]{0,62}[a-z]$`)
})

// fetchOnDemand orders a certificate for a name without one, and returns its
// managed name. If a handshake gives up, the order continues: the client's next
// handshake finds the certificate.
func (a *ACME) fetchOnDemand(ctx context.Context, name string) (*managed, error) {
	if !a.mayDemand(name) {
		return nil, errNotManaged
	}
	m, err := a.manageOnDemand(ctx, name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, demandPatience)
	defer cancel()
	select {
	case <-m.ready:
		return m, nil
	case <-ctx.Done():
		return nil, errors.New("tls: the certificate for this name is being fetched: try again")
	}
}

// manageOnDemand returns the managed name that keeps name from now on. A
// certificate in the storage costs no order, and no budget, unless it has expired.
func (a *ACME) manageOnDemand(ctx context.Context, name string) (*managed, error) {
	m := newManaged(name, true)
	stored, err := a.load(ctx, name)
	holds := err == nil && time.Now().Before(stored.leaf.NotAfter)
	if holds {
		m.inUse.Store(stored)
		m.used.Store(true)
		m.setReady()
	}
	other, err := a.admit(m)
	if other != nil || err != nil {
		return other, err
	}
	if holds {
		a.tellCertificate(m, stored.leaf)
	}
	return m, nil
}

// admit begins to keep m, unless there is a reason against it, or its name is kept
// already.
func (a *ACME) admit(m *managed) (other *managed, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch other = a.names[m.name]; {
	case other != nil:
		return other, nil
	case a.closed || a.ctx == nil:
		return nil, errClosed
	case len(a.names) >= demandNames+len(a.opts.Domains):
		return nil, errTooManyNames
	case m.inUse.Load() != nil:
	case a.demand.failedLately(m.name):
		return nil, errors.New("tls: fetching a certificate for this name failed a short while ago")
	case !a.demand.budget.Allow():
		return nil, errTooManyNames
	}
	a.manage(m)
	return nil, nil //nolint:nilnil // nobody else, and nothing against it
}

func (d *demand) failedLately(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.failed[name]
	return f != nil && time.Now().Before(f.retryAt)
}

// forget allows failed names to be tried again when a client asks for them.
func (d *demand) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.failed)
}

// demandFailed remembers a failure, and reports it in a summary: clients choose how
// many names fail.
func (a *ACME) demandFailed(m *managed, before *kept, problem string) {
	untold, tell := a.demand.fail(m.name, problem, time.Now())
	if !tell || a.opts.Problem == nil {
		return
	}
	consequence := "could not be fetched on demand"
	if before != nil {
		consequence = "could not be renewed: the one in use is valid until " + before.leaf.NotAfter.UTC().Format(time.RFC3339)
	}
	if untold > 1 {
		consequence += fmt.Sprintf(" (nor could %d others since the last message)", untold-1)
	}
	a.telling.Lock()
	defer a.telling.Unlock()
	a.opts.Problem(keyErrorf(a.opts.ConfigKey+".on_demand", "the certificate for %s %s: %s", m.name, consequence, problem))
}

// fail remembers name for a while. It returns how many have failed since the last
// report, and whether to report now.
func (d *demand) fail(name, problem string, now time.Time) (untold int, tell bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.failed, func(_ string, f *failing) bool { return now.After(f.retryAt) })
	if d.failed == nil {
		d.failed = map[string]*failing{}
	}
	if len(d.failed) < demandNames { // the budget bounds the others
		d.failed[name] = &failing{since: now, retryAt: now.Add(demandAgain), tries: 1, problem: problem}
	}
	d.untold++
	if now.Sub(d.told) < demandTellings {
		return 0, false
	}
	untold, d.untold, d.told = d.untold, 0, now
	return untold, true
}
