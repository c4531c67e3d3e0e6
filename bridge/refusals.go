package bridge

import (
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A refusalLog tells the operator which key would allow what was refused,
// and not more often than a person reads.
type refusalLog struct {
	log   *slog.Logger
	obs   Observer
	limit *rate.Limiter

	mu      sync.Mutex
	skipped int
}

func newRefusalLog(log *slog.Logger, obs Observer) *refusalLog {
	return &refusalLog{log: log, obs: obs, limit: rate.NewLimiter(rate.Every(5*time.Second), 5)}
}

func (l *refusalLog) note(r Refusal, hint string) {
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
