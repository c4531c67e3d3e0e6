package proxytls

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// How long to wait after a first, a second … failure. A CA that refused counts
// requests (Let's Encrypt: five failures an hour for a name); a CA that wasn't
// reached, or is broken, doesn't count any.
var (
	pausesRefused     = []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, time.Hour}
	pausesUnreachable = []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute}
)

// pauseAfter returns how long to wait after this many failures in a row: never
// longer than a twentieth of the life of the certificate in use, so that orders for
// short-lived certificates are retried more often.
func pauseAfter(failures int, err error, before *kept) time.Duration {
	pauses := pausesUnreachable
	switch kindOf(err) {
	case unreachable, acme.ProblemTypeBadNonce, acme.ProblemTypeServerInternal:
	case acme.ProblemTypeRateLimited:
		pauses = pausesRefused[len(pausesRefused)-1:]
	default:
		pauses = pausesRefused
	}
	pause := pauses[min(failures, len(pauses))-1]
	if before != nil {
		life := before.leaf.NotAfter.Sub(before.leaf.NotBefore)
		pause = min(pause, max(life/20, time.Second))
	}
	// Replicas that failed together don't retry together.
	return pause - rand.N(pause/10) //nolint:gosec // it spreads load, and is no secret
}

// unreachable is the kind of a failure without an answer; the other kinds come from
// the CA's answer.
const unreachable = "unreachable"

func kindOf(err error) string {
	if problem, ok := errors.AsType[acme.Problem](err); ok {
		return problem.Type
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return unreachable
	}
	return "other"
}

// failing is what is known of a name whose last tries failed. It never changes.
type failing struct {
	since   time.Time // when the first of them failed
	retryAt time.Time
	tries   int
	problem string // of the last one
}

// noteFailure plans the next try of m, and reports the failure if it is news.
func (a *ACME) noteFailure(m *managed, before *kept, err error) {
	now := time.Now()
	f := &failing{since: now, tries: 1, problem: a.explain(err)}
	if last := m.failing.Load(); last != nil {
		f.since, f.tries = last.since, last.tries+1
	}
	f.retryAt = now.Add(pauseAfter(f.tries, err, before))
	m.failing.Store(f)
	a.tellFailure(m, before, kindOf(err), f.problem)
}

// tellFailure reports a failed try, unless it was reported: of consecutive failures
// it reports only the first, the first of each kind, the first without a valid
// certificate, and those of tries that somebody asked for.
func (a *ACME) tellFailure(m *managed, before *kept, kind, problem string) {
	if m.onDemand {
		a.demandFailed(m, before, problem)
		return
	}
	var consequence string
	switch {
	case before == nil:
		consequence = "there is no certificate for it yet"
	case time.Now().After(before.leaf.NotAfter):
		consequence = "its certificate expired at " + before.leaf.NotAfter.UTC().Format(time.RFC3339)
	default:
		consequence = "the certificate in use is valid until " + before.leaf.NotAfter.UTC().Format(time.RFC3339)
	}
	if now := kind + " " + consequence; now != m.told || m.asked {
		m.told = now
		a.tellProblem(m.name, keyErrorf(a.opts.ConfigKey, "%s: %s: %s; culvert retries, less and less often", m.name, consequence, problem))
	}
}

// explain describes what went wrong between us and the CA, without the chain of
// callers.
func (a *ACME) explain(err error) string {
	if order, ok := errors.AsType[*orderError](err); ok {
		err = order.error
	}
	text := err.Error()
	if problem, ok := errors.AsType[acme.Problem](err); ok {
		text = "the CA refuses: " + problem.Detail
		for _, sub := range problem.Subproblems {
			text += "; " + sub.Detail
		}
		text += " (" + strings.TrimPrefix(problem.Type, acme.ProblemTypeNamespace) + ")"
	} else if network, ok := errors.AsType[*url.Error](err); ok {
		why := network.Err
		if op, ok := errors.AsType[*net.OpError](why); ok {
			why = op.Err
		}
		text = fmt.Sprintf("the CA can't be reached: %s: %v", network.URL, why)
	} else if errors.Is(err, context.DeadlineExceeded) {
		text = "it took longer than " + orderPatience.String() + ": " + text
	}
	text = a.secrets.redact(text)
	if len(text) > maxExplanation {
		text = strings.ToValidUTF8(text[:maxExplanation], "") + "…"
	}
	return text
}

// maxExplanation bounds the text from a CA or a DNS provider.
const maxExplanation = 600
