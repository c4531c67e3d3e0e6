package bridge

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// refuse answers what is not a call. On HTTP/1.1 the connection closes, so
// that nothing behind the refused request is taken for another one.
func refuse(w http.ResponseWriter, r *http.Request, code int, text string, headers ...string) {
	h := w.Header()
	for i := 0; i+1 < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if r.ProtoMajor == 1 {
		h.Set("Connection", "close")
		endBody(w, r)
		if code == http.StatusUpgradeRequired {
			h["Connection"] = []string{"close", "Upgrade"} // net/http closes for what comes first
		}
	} else {
		h.Del("Upgrade") // RFC 9113 §8.2.2
	}
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, "culvert: %s\n", text) //nolint:gosec // plain text, see its type above; the client may be gone already
}

// refuseOverLimit answers what is not a call and too much of its kind: with
// 429 where it is its client's, with 503 where it is everybody's. RFC 6585 §4.
func refuseOverLimit(w http.ResponseWriter, r *http.Request, code int, err error) {
	retry := anyMoment
	if f := (*fault)(nil); errors.As(err, &f) {
		retry = f.retry
	}
	seconds := (retry + time.Second - 1) / time.Second
	refuse(w, r, code, err.Error(), "Retry-After", strconv.Itoa(int(seconds)))
}

// unreadTime is how long net/http may go on reading the body of an HTTP/1.1
// request that is answered.
const unreadTime = 250 * time.Millisecond

// endBody prepares the end of an HTTP/1.1 connection whose request's body is
// not read to its end: net/http reads on for a moment only, and the connection
// lingers, so that a client that is still sending gets the answer and not a
// reset.
func endBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(unreadTime)) // a foreign ResponseWriter may have none
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		if client := clientUnder(c); client != nil {
			client.linger.Store(true)
		}
	}
}

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
	l.log.Warn(what, //nolint:sloglint // one of two constants
		slog.String("reason", string(r.Reason)), slog.String("key", r.Key), slog.String("peer", r.Peer),
		slog.String("detail", r.Detail), slog.String("hint", hint), slog.Int("not_logged", skipped))
}
