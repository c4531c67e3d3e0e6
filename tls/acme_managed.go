package proxytls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
)

// A managed name has one goroutine that keeps a certificate for it.
type managed struct {
	name     string
	onDemand bool
	inUse    atomic.Pointer[kept]
	failing  atomic.Pointer[failing] // nil: the last try didn't fail
	used     atomic.Bool             // by a client, since inUse was set

	ready     chan struct{} // closed when there is a certificate, or the first try has failed
	readyOnce sync.Once
	wake      chan struct{} // has one if a failed try is to be repeated now

	// Only the goroutine uses these.
	refused bool   // by the CA, the last time
	told    string // the reported problem; "" for none
	asked   bool   // somebody waits for the result of the next try
}

// kept is a certificate in use.
type kept struct {
	certificate *tls.Certificate
	leaf        *x509.Certificate
	renewAt     time.Time
	askAt       time.Time // when to ask the CA about renewAt
}

func newManaged(name string, onDemand bool) *managed {
	return &managed{name: name, onDemand: onDemand, ready: make(chan struct{}), wake: make(chan struct{}, 1)}
}

func (m *managed) setReady() { m.readyOnce.Do(func() { close(m.ready) }) }

// keep keeps a certificate for m until ctx ends. It gives up a name on demand when
// the first try fails, and when the certificate would need renewal and no client
// has asked for it, or it is too late.
func (a *ACME) keep(ctx context.Context, m *managed) {
	defer m.setReady()
	if m.onDemand {
		defer a.letGo(m)
	}
	for {
		switch c := m.inUse.Load(); {
		case c == nil:
			a.try(ctx, m)
			if m.onDemand && m.inUse.Load() == nil {
				return
			}
		case time.Now().Before(c.renewAt):
			a.askRenewalInfo(ctx, m, c)
		case m.onDemand && (!m.used.Load() || time.Now().After(c.leaf.NotAfter)):
			return
		default:
			a.try(ctx, m)
		}
		if ctx.Err() != nil {
			return
		}
		m.setReady()
		m.asked = sleep(ctx, m.untilNext(time.Now()), m.wake)
	}
}

// maxSleep bounds how long it takes to notice that the clock was put forward.
const maxSleep = time.Hour

// untilNext returns how long there is nothing to do.
func (m *managed) untilNext(now time.Time) time.Duration {
	if f := m.failing.Load(); f != nil {
		return f.retryAt.Sub(now)
	}
	c := m.inUse.Load()
	return min(c.renewAt.Sub(now), max(c.askAt.Sub(now), time.Minute), maxSleep)
}

// sleep returns early when ctx ends or when it is woken. It reports whether it was
// woken.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) (woken bool) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	case <-wake:
		return true
	}
	return false
}

// try orders a certificate for m, and reports the result if it is news.
func (a *ACME) try(ctx context.Context, m *managed) {
	before := m.inUse.Load()
	c, err := a.fetch(ctx, m, before)
	switch {
	case err == nil:
		m.refused = false
		m.failing.Store(nil)
		a.use(m, c)
		if m.told != "" {
			m.told = ""
			a.tellProblem(m.name, nil)
		}
	case ctx.Err() != nil: // it ends
	default:
		m.refused = kindOf(err) != unreachable
		a.noteFailure(m, before, err)
	}
}

// fetch gets a certificate from the CA, unless a replica has got one since.
func (a *ACME) fetch(ctx context.Context, m *managed, before *kept) (c *kept, err error) {
	release, err := a.place(ctx, m, orderPatience)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, orderPatience)
	defer cancel()
	// certmagic doesn't hold its own lock of a name while the storage is checked.
	lock := "culvert_" + m.name
	if err := a.storage.Lock(ctx, lock); err != nil {
		return nil, fmt.Errorf("lock in the storage: %w", err)
	}
	defer a.issuer.unlock(ctx, lock, &err)
	stored, err := a.load(ctx, m.name)
	switch {
	case err == nil && time.Now().Before(stored.renewAt) && (before == nil || !stored.leaf.Equal(before.leaf)):
		return stored, nil
	case errors.Is(err, fs.ErrNotExist):
		err = a.magic.ObtainCertSync(ctx, m.name)
	default: // also to replace one that can't be read
		// A CA may refuse an order because of the replaced certificate: then order
		// without it.
		if stored != nil && !m.refused {
			ctx = context.WithValue(ctx, replacedKey{}, stored.leaf)
		}
		err = a.magic.RenewCertSync(ctx, m.name, true)
	}
	if err != nil {
		return nil, err
	}
	return a.load(ctx, m.name)
}

// place waits until the CA may be asked for m. The caller must call release. Only a
// name on demand gives up waiting: all of Domains get their turn.
func (a *ACME) place(ctx context.Context, m *managed, patience time.Duration) (release func(), err error) {
	places := a.orders
	if m.onDemand {
		places = a.demand.orders
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (a *ACME) load(ctx context.Context, name string) (*kept, error) {
	key := a.issuer.IssuerKey()
	certPEM, err := a.storage.Load(ctx, certmagic.StorageKeys.SiteCert(key, name))
	if err != nil {
		return nil, err
	}
	keyPEM, err := a.storage.Load(ctx, certmagic.StorageKeys.SitePrivateKey(key, name))
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("in the storage: %w", err)
	}
	if err := cert.Leaf.VerifyHostname(strings.Replace(name, "*", "any", 1)); err != nil { // a name that it must cover
		return nil, fmt.Errorf("in the storage: %w", err)
	}
	var about struct {
		Issued acme.Certificate `json:"issuer_data"`
	}
	if data, err := a.storage.Load(ctx, certmagic.StorageKeys.SiteMeta(key, name)); err == nil {
		_ = json.Unmarshal(data, &about) // missing facts are asked for
	}
	c := &kept{certificate: &cert, leaf: cert.Leaf}
	c.plan(about.Issued.RenewalInfo, time.Now())
	return c, nil
}

func (a *ACME) use(m *managed, c *kept) {
	m.used.Store(false)
	m.inUse.Store(c)
	a.tellCertificate(m, c.leaf)
}

func (a *ACME) letGo(m *managed) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.names[m.name] == m {
		delete(a.names, m.name)
	}
}

// askEvery is how often to ask a CA when to renew, if it gives no interval, and
// askAtLeastEvery if it does: a CA that is asked later can't report in time that a
// certificate was revoked. RFC 9773 §4.3.2.
const (
	askEvery        = 6 * time.Hour
	askAtLeastEvery = 24 * time.Hour

	renewalInfoPatience = time.Minute
)

// plan sets when the certificate is renewed: when a third of its life is left, some
// later than others, unless the CA asks for another time. The CA's time counts
// between half of the certificate's life (or 6 h, if a revoked certificate must be
// replaced at once) and five sixths.
func (c *kept) plan(info *acme.RenewalInfo, now time.Time) {
	life := c.leaf.NotAfter.Sub(c.leaf.NotBefore)
	c.askAt = now.Add(askEvery)
	if info == nil || info.SelectedTime.IsZero() {
		if c.renewAt.IsZero() {
			c.renewAt = c.leaf.NotBefore.Add(life*2/3 + rand.N(life/30+1)) //nolint:gosec // it spreads load, and is no secret
		}
		return
	}
	earliest := c.leaf.NotBefore.Add(min(life/2, 6*time.Hour))
	latest := c.leaf.NotBefore.Add(life * 5 / 6)
	c.renewAt = info.SelectedTime
	if c.renewAt.Before(earliest) {
		c.renewAt = earliest
	}
	if c.renewAt.After(latest) {
		c.renewAt = latest
	}
	if info.RetryAfter != nil && info.RetryAfter.After(now.Add(time.Minute)) {
		c.askAt = now.Add(min(info.RetryAfter.Sub(now), askAtLeastEvery))
	}
}

// askRenewalInfo asks the CA, if that is due, when to renew c.
func (a *ACME) askRenewalInfo(ctx context.Context, m *managed, c *kept) {
	now := time.Now()
	if now.Before(c.askAt) {
		return
	}
	next := *c
	next.plan(a.renewalInfo(ctx, m, c), now)
	m.inUse.Store(&next)
}

// renewalInfo returns the CA's answer, or nil if there is none: the extension is
// optional for CAs.
func (a *ACME) renewalInfo(ctx context.Context, m *managed, c *kept) *acme.RenewalInfo {
	if m.onDemand { // Domains are few; names on demand could take all connections to a slow CA
		release, err := a.place(ctx, m, renewalInfoPatience)
		if err != nil {
			return nil
		}
		defer release()
	}
	ctx, cancel := context.WithTimeout(ctx, renewalInfoPatience)
	defer cancel()
	info, err := a.issuer.client().GetRenewalInfo(ctx, c.leaf) // RFC 9773 §4
	if err != nil {
		return nil
	}
	return &info
}
