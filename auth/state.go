package auth

import (
	"context"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/ask"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A State tells how an Authenticator is. It has no secrets. Texts in it may be of a peer, and so
// may have any characters.
type State struct {
	Issuers   []IssuerState // in the order of Config.Issuers
	Tokens    TokensState
	APIKeys   *APIKeysState  // nil: they aren't taken
	External  *ServiceState  // nil: no service is asked
	RateLimit *ServiceState  // nil: no service is asked
	Rules     []RuleState    // in the order of Config.Rules, and then what decided without a rule
	Refused   []RefusedState // the last ones first

	Began time.Time // when the Authenticator was made: Rules and Refused count from then on
}

// An IssuerState tells of the keys of an issuer.
type IssuerState struct {
	Name, Issuer string
	Keys         int               // in use; also the last good ones
	Fetched      time.Time         // when these were fetched; zero: not yet
	Next         time.Time         // when they are fetched again; zero for a file
	Failures     int               // fetches that failed since
	Problem      string            // why the last fetch failed; "": it didn't
	Skipped      map[string]string // why a key can't be used, by kid
}

// A TokensState tells of the verdicts about tokens that are kept.
type TokensState struct {
	Good, Refused int    // verdicts
	Bytes         int    // that they hold
	Unverified    uint64 // tokens that were refused without a look, since their address had sent too many bad ones
}

// An APIKeysState tells of the file of API keys.
type APIKeysState struct {
	File    string
	Keys    int       // in force
	Read    time.Time // when these were read
	Problem string    // why the file can't be read; "": it can
}

// A ServiceState tells of a service that is asked about calls, since the first Authenticator with
// its settings was made. Each call is in exactly one of the counts up to Unasked.
type ServiceState struct {
	Allowed   uint64 // calls that the service let pass
	Denied    uint64 // calls that it refused, and those that are too large to ask about
	Failed    uint64 // calls without a usable answer, refused
	Open      uint64 // calls without a usable answer that passed
	Cancelled uint64 // calls that ended before their answer
	Unasked   uint64 // calls about which there was nothing to ask

	Cached uint64 // of them all, calls with an answer from the cache
	Shared uint64 // of them all, calls that waited for another call's question

	Asking  int           // questions at the service now
	Mean    time.Duration // that a question took, including the wait for a slot; 0: there was none
	Problem string        // why the last question had no usable answer; "": it had one
}

// A RuleState tells on how many calls a rule has decided.
type RuleState struct {
	Name  string // or a text in its place, such as "no rule allows", as in Explanation.Rule
	Deny  bool
	Calls uint64
}

// A RefusedState tells of calls that were refused for the same reason.
type RefusedState struct {
	Key    string // of what refused them: report.KeyAuth or one that begins with it
	Issuer string // the name of the issuer whose tokens were refused; "": it isn't about tokens of one
	Reason report.Reason
	Calls  uint64
	Last   time.Time
	Cause  string // of the last one, for operators
}

// State returns how the Authenticator is now.
func (a *Authenticator) State() State {
	s := State{Refused: a.refused.list(), Began: a.began}
	for _, i := range a.issuers() {
		now := i.keys.value.State()
		to := IssuerState{Name: i.name, Issuer: i.iss, Keys: now.Keys, Fetched: now.Fetched, Next: now.Next, Failures: now.Failures, Problem: textOf(now.Err)}
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
		s.Tokens.Unverified = a.failures.unverified.Load()
	}
	if a.keyFile != nil {
		s.APIKeys = new(a.keyFile.stateNow())
	}
	if a.external != nil {
		s.External = serviceState(a.external.value.Snapshot())
	}
	if a.limiter != nil {
		s.RateLimit = serviceState(a.limiter.value.Snapshot())
	}
	for _, c := range a.rules.Counts() {
		s.Rules = append(s.Rules, RuleState{Name: c.Rule, Deny: !c.Allowed, Calls: c.Calls})
	}
	return s
}

func serviceState(now ask.Snapshot) *ServiceState {
	return &ServiceState{
		Allowed: now.Allowed, Denied: now.Denied, Failed: now.Failed, Open: now.Open, Cancelled: now.Cancelled, Unasked: now.Unasked,
		Cached: now.Cached, Shared: now.Shared, Asking: now.Asking, Mean: now.Mean, Problem: textOf(now.Problem),
	}
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Await waits until each issuer's keys have been fetched for the first time, or couldn't be: State
// tells. It waits at most as long as ctx.
func (a *Authenticator) Await(ctx context.Context) {
	for _, i := range a.issuers() {
		i.keys.value.Await(ctx)
	}
}
