package report

import (
	"cmp"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Refusals notes refusals: it tells the Observer of each, and logs them at a rate that a
// person can read.
type Refusals struct {
	log      *slog.Logger
	obs      Observer
	rules    paced // refusals by a rule or a limit
	mistakes paced // requests that aren't calls; apart, so that they hide no refusal
}

// NewRefusals returns a Refusals.
func NewRefusals(log *slog.Logger, obs Observer) *Refusals {
	return &Refusals{log: log, obs: obs, rules: newPaced(), mistakes: newPaced()}
}

// Note notes a refusal of the peer's call, request or connection. A fault without a key is
// a mistake of a client's: the Observer isn't told, and only a likely one is worth a
// warning.
func (l *Refusals) Note(f *Fault, peer string) {
	if f.Key == "" && !f.Likely {
		l.log.Debug("refused", slog.String("peer", peer), slog.String("detail", f.Detail), slog.String("hint", f.hint()))
		return
	}
	pace := &l.mistakes
	if f.Key != "" {
		pace = &l.rules
		l.obs.Refused(Refusal{Reason: f.Reason, Key: f.Key, Peer: peer, Detail: f.Detail, ReportOnly: f.ReportOnly})
	}
	skipped, ok := pace.allow()
	if !ok {
		return
	}
	what := "refused"
	if f.ReportOnly {
		what = "would be refused"
	}
	facts := []any{slog.String("reason", string(f.Reason))}
	if f.Key != "" {
		facts = append(facts, slog.String("key", f.Key))
	}
	l.log.Warn(what, append(facts, slog.String("peer", peer), slog.String("detail", f.Detail), slog.String("hint", f.hint()), slog.Int("not_logged", skipped))...) //nolint:sloglint // one of two constants
}

// hint returns what the log tells the operator: the fault's hint, or the text for the client
// if there is none.
func (f *Fault) hint() string { return cmp.Or(f.Hint, f.Text) }

// Unless returns the fault of a rule in force, for the caller to answer with. If the rule is
// only tried out, Unless notes the fault and returns nil.
func (l *Refusals) Unless(tryOut bool, f *Fault, peer string) error {
	if !tryOut {
		return f
	}
	f.ReportOnly = true
	l.Note(f, peer)
	return nil
}

// Hint warns of a request that isn't refused, as often as of mistakes. Only what is logged
// has its hint made.
func (l *Refusals) Hint(what, peer, detail string, hint func() string) {
	if skipped, ok := l.mistakes.allow(); ok {
		l.log.Warn(what, slog.String("peer", peer), slog.String("detail", detail), slog.String("hint", hint()), slog.Int("not_logged", skipped)) //nolint:sloglint // a constant of the caller's
	}
}

// paced bounds the rate of log lines that clients cause.
type paced struct {
	limit *rate.Limiter

	mu      sync.Mutex
	skipped int
}

func newPaced() paced { return paced{limit: rate.NewLimiter(rate.Every(5*time.Second), 5)} }

// allow reports whether a line may be logged now, and how many were not since the last one.
func (l *paced) allow() (skipped int, ok bool) {
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

// NoMemory returns the fault of a call, request or connection for which there is no memory.
func NoMemory(what, detail string) *Fault {
	f := OverLimit(KeyMemory, memoryRetry, "this server has no memory for more "+what)
	f.Hint, f.Detail = "give culvert more memory, or raise "+Named(KeyMemory), detail
	return f
}

// Mutex returns the log's lock, for a watchdog that checks whether it is held for
// ever.
func (l *Refusals) Mutex() *sync.Mutex { return &l.rules.mu }
