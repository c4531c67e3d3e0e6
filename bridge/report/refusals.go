package report

import (
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Refusals tells the operator which key would allow what was refused, and not more
// often than a person reads.
type Refusals struct {
	log   *slog.Logger
	obs   Observer
	limit *rate.Limiter

	mu      sync.Mutex
	skipped int
}

// NewRefusals returns a Refusals that also tells the Observer of each refusal.
func NewRefusals(log *slog.Logger, obs Observer) *Refusals {
	return &Refusals{log: log, obs: obs, limit: rate.NewLimiter(rate.Every(5*time.Second), 5)}
}

// Note tells of a refusal. The hint says what would allow it.
func (l *Refusals) Note(r Refusal, hint string) {
	l.obs.Refused(r)
	l.mu.Lock()
	if !l.limit.Allow() {
		l.skipped++
		l.mu.Unlock()
		return
	}
	skipped := l.skipped
	l.skipped = 0
	l.mu.Unlock()
	what := "refused"
	if r.ReportOnly {
		what = "would be refused"
	}
	facts := []any{slog.String("reason", string(r.Reason))}
	if r.Key != "" {
		facts = append(facts, slog.String("key", r.Key))
	}
	facts = append(facts, slog.String("peer", r.Peer), slog.String("detail", r.Detail), slog.String("hint", hint), slog.Int("not_logged", skipped))
	l.log.Warn(what, facts...) //nolint:sloglint // one of two constants
}

// memoryRetry is how long a client should wait after a refusal for lack of memory.
const memoryRetry = 5 * time.Second

// NoMemory notes that a peer's call or connection is refused because there is no
// memory for it, and returns the fault.
func (l *Refusals) NoMemory(peer, detail, what string) *Fault {
	l.Note(Refusal{Reason: ReasonLimitExceeded, Key: KeyMemory, Peer: peer, Detail: detail}, "give culvert more memory, or raise "+KeyMemory)
	return OverLimit(KeyMemory, memoryRetry, "this server has no memory for more "+what)
}

// Mutex returns the log's lock, for a watchdog that asks whether it is held for
// ever.
func (l *Refusals) Mutex() *sync.Mutex { return &l.mu }
