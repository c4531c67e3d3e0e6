package admin

import (
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

// The bounds of wrong tokens.
const (
	guessesAtOnce  = 10 // of an address
	guessEvery     = 6 * time.Second
	maxGuessers    = 4096
	forgetGuessers = time.Second // how often guesses looks for addresses to forget
)

// guesses counts wrong tokens by address, so that an address can't try many. Its memory is
// bounded: addresses that it has no room for share one count, except this host's own. An attacker
// with many addresses so can't keep an operator out who has a shell here. The zero value is ready.
type guesses struct {
	of    map[netip.Prefix]*rate.Limiter
	crowd *rate.Limiter
	swept time.Time
}

// loopback is what this host's own addresses count as.
var loopback = netip.MustParsePrefix("127.0.0.0/8")

// guesser returns the addresses that count as one: those of an IPv6 network of 64 bits belong
// to one host, and those of loopback to this one. A unix socket has the zero value.
func guesser(remote string) netip.Prefix {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	addr := at.Addr().Unmap().WithZone("")
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

// wait returns how long an address must wait before its next guess. 0: not at all.
func (g *guesses) wait(of netip.Prefix, now time.Time) time.Duration {
	limit := g.of[of]
	if limit == nil && len(g.of) >= maxGuessers && of != loopback {
		limit = g.crowd
	}
	if limit == nil {
		return 0
	}
	missing := 1 - limit.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing * float64(guessEvery))
}

// wrong counts a wrong token.
func (g *guesses) wrong(of netip.Prefix, now time.Time) {
	limit := g.of[of]
	if limit == nil {
		limit = g.place(of, now)
	}
	limit.AllowN(now, 1)
}

// place returns the count of a new address.
func (g *guesses) place(of netip.Prefix, now time.Time) *rate.Limiter {
	if g.of == nil {
		g.of = make(map[netip.Prefix]*rate.Limiter)
	}
	if len(g.of) >= maxGuessers && now.Sub(g.swept) >= forgetGuessers {
		g.swept = now
		for address, limit := range g.of {
			if limit.TokensAt(now) >= guessesAtOnce {
				delete(g.of, address)
			}
		}
	}
	limit := rate.NewLimiter(rate.Every(guessEvery), guessesAtOnce)
	if len(g.of) < maxGuessers || of == loopback {
		g.of[of] = limit
		return limit
	}
	if g.crowd == nil {
		g.crowd = limit
	}
	return g.crowd
}
