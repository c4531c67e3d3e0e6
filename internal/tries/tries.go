// Package tries counts what clients try in vain, by address, so that none can try without end.
package tries

import (
	"maps"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	maxAddresses = 4096
	forgetEvery  = time.Second // how often Tries looks for addresses to forget
)

// Tries counts by address. Its memory is bounded: addresses that it has no room for share one
// count, except this host's own. An attacker with many addresses so can't keep an operator out
// who has a shell here. Its methods may be called concurrently. The zero value is ready.
type Tries struct {
	mu    sync.Mutex
	of    map[netip.Prefix]*rate.Limiter
	crowd *rate.Limiter
	swept time.Time
}

// A Share is how many tries an address has.
type Share struct {
	AtOnce int
	Every  time.Duration // then one more
}

// loopback is what this host's own addresses count as.
var loopback = netip.MustParsePrefix("127.0.0.0/8")

// Client returns the addresses that count as one: those of an IPv6 network of 64 bits belong to
// one host, and those of loopback to this one. All invalid addresses, such as a unix socket's,
// are the zero value.
func Client(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	if addr.IsLoopback() {
		return loopback
	}
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	of, _ := addr.Prefix(bits) // so many bits are right
	return of
}

// Wait returns how long an address must wait before its next try. 0: not at all.
func (t *Tries) Wait(of netip.Prefix, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	limit := t.of[of]
	if limit == nil && !t.room(of) {
		limit = t.crowd
	}
	if limit == nil {
		return 0
	}
	missing := max(0, 1-limit.TokensAt(now))
	return time.Duration(missing / float64(limit.Limit()) * float64(time.Second))
}

// Failed counts a try in vain. The share is always the same.
func (t *Tries) Failed(of netip.Prefix, s Share, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	limit := t.of[of]
	if limit == nil {
		limit = t.place(of, s, now)
	}
	limit.AllowN(now, 1)
}

func (t *Tries) room(of netip.Prefix) bool { return len(t.of) < maxAddresses || of == loopback }

// place returns the count of a new address.
func (t *Tries) place(of netip.Prefix, s Share, now time.Time) *rate.Limiter {
	if t.of == nil {
		t.of = make(map[netip.Prefix]*rate.Limiter)
	}
	if len(t.of) >= maxAddresses && now.Sub(t.swept) >= forgetEvery {
		t.swept = now
		maps.DeleteFunc(t.of, func(_ netip.Prefix, limit *rate.Limiter) bool { return limit.TokensAt(now) >= float64(s.AtOnce) })
	}
	limit := rate.NewLimiter(rate.Every(s.Every), s.AtOnce)
	if t.room(of) {
		t.of[of] = limit
		return limit
	}
	if t.crowd == nil {
		t.crowd = limit
	}
	return t.crowd
}
