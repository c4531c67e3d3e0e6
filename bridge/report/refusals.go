package report

import (
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Refusals logs refusals, each with the key that would allow it, at a rate that a
// person can read.
type Refusals struct {
	log   *slog.Logger
	obs   Observer
	limit *rate.Limiter

	mu      sync.Mutex
	skipped int
}

// NewRefusals returns a Refusals that also reports each refusal to the Observer.
func NewRefusals(log *slog.Logger, obs Observer) *Refusals {
	return &Refusals{log: log, obs: obs, limit: rate.NewLimiter(rate.Every(5*time.Second), 5)}
}

// Note reports a refusal. The hint tells how to allow it.
func (l *Refusals) Note(r Refusal, hint string) {
	l.obs.Refused(r)
	skipped, ok := l.allow()
	if !ok {
		return
	}
	what := "refused"
	if r.ReportOnly {
		what = "would be refused"
	}
	facts := []any{slog.String("reason", string(r.Reason))}
	if r.Key != "" {
		facts = append(facts, slog.String("key", r.Key))
	}
	l.log.Warn(what, append(facts, slog.String("peer", r.Peer), slog.String("detail", r.Detail), slog.String("hint", hint), slog.Int("not_logged", skipped))...) //nolint:sloglint // one of two constants
}

// Hint warns of a request that isn't refused, in the same bounds. Only what is logged has
// its hint made.
func (l *Refusals) Hint(what, peer, detail string, hint func() string) {
	if skipped, ok := l.allow(); ok {
		l.log.Warn(what, slog.String("peer", peer), slog.String("detail", detail), slog.String("hint", hint()), slog.Int("not_logged", skipped)) //nolint:sloglint // a constant of the caller's
	}
}

// allow reports whether a line may be logged now, and how many were not since the last one.
func (l *Refusals) allow() (skipped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.limit.Allow() {
		l.skipped++
		return 0, false
	}
	skipped, l.skipped = l.skipped, 0
	return skipped, true
}

// memoryRetry is the retry delay after a refusal for lack of memory.
const memoryRetry = 5 * time.Second

// NoMemory reports that a peer's call or connection is refused for lack of memory,
// and returns the fault.
func (l *Refusals) NoMemory(peer, detail, what string) *Fault {
	l.Note(Refusal{Reason: ReasonLimitExceeded, Key: KeyMemory, Peer: peer, Detail: detail}, "give culvert more memory, or raise "+KeyMemory)
	return OverLimit(KeyMemory, memoryRetry, "this server has no memory for more "+what)
}

// Mutex returns the log's lock, for a watchdog that checks whether it is held for
// ever.
func (l *Refusals) Mutex() *sync.Mutex { return &l.mu }
