package auth

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// The bounds of signatures that are verified in vain for an address. Many clients may share
// one, whose tokens all expire at the same time. An address can cost about 2 ms of a
// processor each second.
const (
	failuresAtOnce   = 100
	failureEvery     = 50 * time.Millisecond
	maxFailing       = 4096
	forgetFailing    = time.Second // how often failures looks for addresses to forget
	failureRetry     = time.Second
	ipv6BitsOfClient = 64
)

// failures counts tokens whose signatures were verified in vain, by address. So a client that
// sends one bad token after another can't buy verifications without end. Its memory is
// bounded: addresses that it has no room for share one count. The zero value is ready.
type failures struct {
	unverified atomic.Uint64 // tokens that were refused without a look

	mu    sync.Mutex
	of    map[netip.Prefix]*rate.Limiter
	crowd *rate.Limiter
	swept time.Time
}

// clientOf returns the addresses that count as one: those of an IPv6 network of 64 bits belong
// to one host. All invalid addresses count as one, the zero value.
func clientOf(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = ipv6BitsOfClient
	}
	of, _ := addr.Prefix(bits) // so many bits are right
	return of
}

// over reports whether an address has sent too many bad tokens.
func (f *failures) over(of netip.Prefix, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	limit := f.of[of]
	if limit == nil && len(f.of) >= maxFailing {
		limit = f.crowd
	}
	return limit != nil && limit.TokensAt(now) < 1
}

// count counts a bad token.
func (f *failures) count(of netip.Prefix, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	limit := f.of[of]
	if limit == nil {
		limit = f.place(of, now)
	}
	limit.AllowN(now, 1)
}

// place returns the count of a new address.
func (f *failures) place(of netip.Prefix, now time.Time) *rate.Limiter {
	if f.of == nil {
		f.of = make(map[netip.Prefix]*rate.Limiter)
	}
	if len(f.of) >= maxFailing && now.Sub(f.swept) >= forgetFailing {
		f.swept = now
		for address, limit := range f.of {
			if limit.TokensAt(now) >= failuresAtOnce {
				delete(f.of, address)
			}
		}
	}
	if len(f.of) >= maxFailing && f.crowd != nil {
		return f.crowd
	}
	limit := rate.NewLimiter(rate.Every(failureEvery), failuresAtOnce)
	if len(f.of) >= maxFailing {
		f.crowd = limit
	} else {
		f.of[of] = limit
	}
	return limit
}
