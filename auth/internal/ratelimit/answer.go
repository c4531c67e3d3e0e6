package ratelimit

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	limitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/metadata"
)

// An Answer lets a call pass. The zero value adds nothing to it.
type Answer struct {
	// Header is for the client, with the backend's: what the service adds, within the bounds
	// of Refusal.Header. It may be nil, and is the caller's own.
	Header metadata.MD

	// Open is nil for a call that the service let pass, or wasn't asked about. Otherwise it
	// gave no usable answer, the call passes all the same, and this is the cause for the log.
	Open error
}

// maxRetry bounds the time that clients are told: no limit of Envoy's service lasts longer.
const maxRetry = 366 * 24 * time.Hour

// judge returns what a response says about a question.
func (l *Limiter) judge(q *ratelimitv3.RateLimitRequest, response *ratelimitv3.RateLimitResponse) (Answer, *Refusal) {
	switch code := response.GetOverallCode(); code {
	case ratelimitv3.RateLimitResponse_OK:
		return Answer{Header: l.header(response.GetResponseHeadersToAdd())}, nil
	case ratelimitv3.RateLimitResponse_OVER_LIMIT:
		r := overLimit(retryAfter(response), reached(q, response))
		r.Header = l.header(response.GetResponseHeadersToAdd())
		return Answer{}, r
	case ratelimitv3.RateLimitResponse_UNKNOWN:
		return Answer{}, unavailable(fmt.Errorf("the rate limit service answered with the code UNKNOWN"))
	default:
		return Answer{}, unavailable(fmt.Errorf("the rate limit service answered with the code %d, which isn't known", code))
	}
}

// retryAfter returns when the last of the limits that were reached begins anew, in whole
// seconds, or zero if the service doesn't say. If its statuses don't, its header may.
func retryAfter(response *ratelimitv3.RateLimitResponse) (after time.Duration) {
	for _, s := range response.GetStatuses() {
		if d := s.GetDurationUntilReset(); s.GetCode() == ratelimitv3.RateLimitResponse_OVER_LIMIT && d.CheckValid() == nil {
			after = max(after, wholeSeconds(d.AsDuration()))
		}
	}
	for _, h := range response.GetResponseHeadersToAdd() {
		if after == 0 && strings.EqualFold(h.GetKey(), "retry-after") {
			if s, err := strconv.ParseUint(valueOf(h), 10, 32); err == nil {
				after = wholeSeconds(time.Duration(s) * time.Second)
			}
		}
	}
	return after
}

// wholeSeconds rounds up. It returns zero for a duration that can't be believed.
func wholeSeconds(d time.Duration) time.Duration {
	if d <= 0 || d > maxRetry {
		return 0
	}
	return (d + time.Second - 1).Truncate(time.Second)
}

// reached returns which of a question's limits were reached, for the log: the keys of
// descriptors, and not their values.
func reached(q *ratelimitv3.RateLimitRequest, response *ratelimitv3.RateLimitResponse) error {
	var texts []string
	for i, s := range response.GetStatuses() {
		if i >= len(q.GetDescriptors()) {
			break
		}
		if s.GetCode() == ratelimitv3.RateLimitResponse_OVER_LIMIT {
			texts = append(texts, keys(q.GetDescriptors()[i])+rate(s.GetCurrentLimit()))
		}
	}
	if texts == nil {
		return fmt.Errorf("the rate limit service answered with the code OVER_LIMIT")
	}
	return fmt.Errorf("over the limit by %s", strings.Join(texts, "; by "))
}

// keys returns the keys of a descriptor.
func keys(d *limitv3.RateLimitDescriptor) string {
	var names []string
	for _, e := range d.GetEntries() {
		names = append(names, e.GetKey())
	}
	return strings.Join(names, ", ")
}

// rate returns a limit in parentheses, or nothing if the service doesn't tell it.
func rate(l *ratelimitv3.RateLimitResponse_RateLimit) string {
	if l.GetUnit() == ratelimitv3.RateLimitResponse_RateLimit_UNKNOWN {
		return ""
	}
	unit := strings.ToLower(l.GetUnit().String())
	if n := l.GetUnitMultiplier().GetValue(); n > 1 {
		unit = fmt.Sprint(n, " ", unit, "s")
	}
	return fmt.Sprintf(" (%d in a %s)", l.GetRequestsPerUnit(), unit)
}
