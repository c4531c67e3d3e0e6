package telemetry

import (
	"log/slog"
	"path"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Sample is a rule for calls that are too many for a line each.
type Sample struct {
	Pattern string // of methods, as "package.Service/*"; path.Match reads it
	OneIn   int    // calls that succeed for each line; less than 2: every call has a line
}

// A sampler counts the calls of a Sample. The first call has a line, and then each
// OneIn-th.
type sampler struct {
	Sample
	seen atomic.Uint64 // calls that succeeded
}

// SetSamples replaces the rules, while calls end. The first whose pattern matches a
// method applies. The counts of a rule that stays continue. Two goroutines must not call
// it at once.
func (o *Log) SetSamples(samples []Sample) {
	var next []*sampler
	for _, s := range samples {
		s.Pattern = strings.TrimPrefix(s.Pattern, "/")
		next = append(next, o.sampler(s))
	}
	o.samples.Store(&next)
}

// sampler returns the sampler of an equal rule, or a new one.
func (o *Log) sampler(s Sample) *sampler {
	if running := o.samples.Load(); running != nil {
		for _, r := range *running {
			if r.Sample == s {
				return r
			}
		}
	}
	return &sampler{Sample: s}
}

// sample reports whether the call has a line. The attribute, if it isn't zero, is the
// number of calls before it without a line. Only calls that succeeded are left out. At
// debug level no call is, because the begin of each has a line.
func (o *Log) sample(c *report.CallInfo) (write bool, notLogged slog.Attr) {
	if o.samples.Load() == nil || c.Code != codes.OK || o.debugs() {
		return true, slog.Attr{}
	}
	if s := o.sampled(c.Method); s != nil {
		return s.count()
	}
	return true, slog.Attr{}
}

func (o *Log) sampled(method string) *sampler {
	samples := o.samples.Load()
	if samples == nil {
		return nil
	}
	method = strings.TrimPrefix(method, "/")
	for _, s := range *samples {
		if matches, err := path.Match(s.Pattern, method); err == nil && matches {
			return s
		}
	}
	return nil
}

// leavesOut reports whether calls of a method that succeed may have no line.
func (o *Log) leavesOut(method string) bool {
	s := o.sampled(method)
	return s != nil && s.OneIn > 1
}

// count counts a call that succeeded, and is sample for it.
func (s *sampler) count() (write bool, notLogged slog.Attr) {
	if s.OneIn < 2 {
		return true, slog.Attr{}
	}
	switch before := s.seen.Add(1) - 1; {
	case before == 0:
		return true, slog.Int("not_logged", 0)
	case before%uint64(s.OneIn) == 0:
		return true, slog.Int("not_logged", s.OneIn-1)
	default:
		return false, slog.Attr{}
	}
}
