package auth

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// refusedCalls counts calls that were refused. There are few keys and reasons, and the issuers
// are those of the configuration, so it is small. The zero value is ready.
type refusedCalls struct {
	mu sync.Mutex
	of map[refusedKey]refusedCall
}

type refusedKey struct {
	key, issuer string
	reason      report.Reason
}

type refusedCall struct {
	calls uint64
	last  time.Time
	cause error
}

// count counts a call with this fault. way is what has decided.
func (r *refusedCalls) count(f *report.Fault, way string, now time.Time) {
	key := refusedKey{key: f.Key, reason: f.Reason}
	if f.Key == report.KeyAuthIssuers && !errors.Is(f.Cause, tooManyFailures) { // of a token that nobody has read
		key.issuer = way
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = make(map[refusedKey]refusedCall)
	}
	r.of[key] = refusedCall{calls: r.of[key].calls + 1, last: now, cause: f.Cause}
}

// list returns the last ones first.
func (r *refusedCalls) list() (all []RefusedState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, of := range r.of {
		all = append(all, RefusedState{Key: key.key, Issuer: key.issuer, Reason: key.reason, Calls: of.calls, Last: of.last, Cause: textOf(of.cause)})
	}
	slices.SortFunc(all, func(a, b RefusedState) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Issuer, b.Issuer), cmp.Compare(a.Reason, b.Reason))
	})
	return all
}
