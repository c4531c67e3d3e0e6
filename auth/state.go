package auth

import (
	"context"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/check"
	"github.com/culvert-grpc/culvert/auth/internal/ratelimit"
)

// A State tells how an Authenticator is. It has no secrets.
type State struct {
	Issuers   []IssuerState
	Tokens    TokensState
	APIKeys   *APIKeysState       // nil: they aren't taken
	External  *check.Snapshot     // nil: no service is asked
	RateLimit *ratelimit.Snapshot // nil: no service is asked
}

// An IssuerState tells of the keys of an issuer.
type IssuerState struct {
	Name, Issuer string
	Keys         int       // in use; also the last good ones
	Fetched      time.Time // when these were fetched; zero: not yet
	Next         time.Time // when they are fetched again; zero for a file
	Failures     int       // fetches that failed since
	Problem      string    // why the last fetch failed; "": it didn't
	Skipped      map[string]string
}

// A TokensState tells of the verdicts that are kept.
type TokensState struct {
	Good, Refused, Bytes int
	Unverified           uint64 // tokens that were refused without a look, since their address had sent too many bad ones
}

// An APIKeysState tells of the file of API keys.
type APIKeysState struct {
	File    string
	Keys    int       // in force
	Read    time.Time // when these were read
	Problem string    // why the file can't be read; "": it can
}

// State returns how the Authenticator is now.
func (a *Authenticator) State() State {
	var s State
	for _, i := range a.issuers() {
		now := i.keys.value.State()
		to := IssuerState{Name: i.name, Issuer: i.iss, Keys: now.Keys, Fetched: now.Fetched, Next: now.Next, Failures: now.Failures}
		if now.Err != nil {
			to.Problem = now.Err.Error()
		}
		for kid, why := range now.Skipped {
			if to.Skipped == nil {
				to.Skipped = make(map[string]string)
			}
			to.Skipped[kid] = why.Error()
		}
		s.Issuers = append(s.Issuers, to)
	}
	if a.tokens != nil {
		s.Tokens.Good, s.Tokens.Refused, s.Tokens.Bytes = a.tokens.verdicts.Kept()
		s.Tokens.Unverified = a.tokens.failures.unverified.Load()
	}
	if a.keyFile != nil {
		now := a.keyFile.stateNow()
		s.APIKeys = &now
	}
	if a.external != nil {
		now := a.external.value.Snapshot()
		s.External = &now
	}
	if a.limiter != nil {
		now := a.limiter.value.Snapshot()
		s.RateLimit = &now
	}
	return s
}

// Await waits until each issuer's keys have been fetched for the first time, or couldn't be: State
// tells. It waits at most as long as ctx.
func (a *Authenticator) Await(ctx context.Context) {
	for _, i := range a.issuers() {
		i.keys.value.Await(ctx)
	}
}
