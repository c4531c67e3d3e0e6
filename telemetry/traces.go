package telemetry

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// Traces is an Observer that gives each call a place in a distributed trace, and exports the
// spans of sampled calls. Its methods may be called concurrently.
//
// A call's spans are written when it has ended. Until then it has only what can't be known later.
//
// The caller's context counts as the parent only if the caller is trusted. Else anybody could
// choose which calls are sampled, and put spans into traces of others. The span then has a link
// to the caller's.
type Traces struct {
	rules atomic.Pointer[traceRules]
	queue *itemQueue
	known cache[string, struct{}] // methods that a backend has shown to know, by their paths
}

var _ report.Observer = (*Traces)(nil)

// OpenTraces begins to export to the receiver. It doesn't wait for the receiver. Close must
// follow.
func OpenTraces(to Receiver, rules TraceRules, log *slog.Logger) (*Traces, error) {
	e, err := to.open(signalTraces, log)
	if err != nil {
		return nil, err
	}
	t := &Traces{queue: newItemQueue()}
	t.queue.start(e)
	t.SetRules(rules)
	return t, nil
}

// Close exports the spans that wait, for as long as patience lasts.
func (t *Traces) Close(patience time.Duration) { t.queue.close(patience) }

// SetHeaders replaces the headers of the requests to the receiver, such as a token that has a new
// value.
func (t *Traces) SetHeaders(all map[string]string) { t.queue.to.setHeaders(all) }

// Exports returns the counts of spans.
func (t *Traces) Exports() Exports { return t.queue.to.exports(t.queue.overflowed.Load()) }

// TraceRules say which calls are sampled, and what the backend gets.
type TraceRules struct {
	Ratio     float64  // of the calls without a parent that are sampled: 0 to 1
	Errors    bool     // export the span of each call that fails, too
	Unsampled bool     // tell the backend of each call that isn't sampled, too
	Upstream  bool     // a second span of each call, of kind CLIENT, for the call to the backend
	Baggage   []string // names of the members of a caller's baggage that cross
}

type traceRules struct {
	TraceRules
	bound uint64 // a trace whose random part is less is sampled
}

// SetRules replaces the rules, while calls run. A call keeps those of its beginning.
func (t *Traces) SetRules(r TraceRules) {
	next := &traceRules{TraceRules: r}
	next.Baggage = slices.Clone(r.Baggage)
	switch {
	case r.Ratio >= 1:
		next.bound = math.MaxUint64
	case r.Ratio > 0:
		next.bound = uint64(r.Ratio * (1 << 63))
	}
	t.rules.Store(next)
}

// samples decides by the trace's id alone, as OpenTelemetry's TraceIDRatioBased does: programs
// with the same ratio sample the same traces.
func (r *traceRules) samples(id [16]byte) bool {
	return binary.BigEndian.Uint64(id[8:])>>1 < r.bound
}

// idle reports whether a call without a caller's context costs nothing: none gets one.
func (r *traceRules) idle() bool { return r.bound == 0 && !r.Errors && !r.Unsampled }

// CallBegan gives the call its place, and the backend the context of it.
func (t *Traces) CallBegan(_ context.Context, c *report.CallInfo, md metadata.MD) report.CallObserver {
	r := t.rules.Load()
	keepBaggage(md, r.Baggage)
	if _, sent := md[traceparent]; !sent {
		delete(md, tracestate) // without a parent, it has no meaning
		return t.beginRoot(r, c, md)
	}
	parent, _ := parentIn(md)
	state := stateIn(md)
	own := parent
	if !c.Trusted || parent.span == [8]byte{} {
		own = r.newTrace()
	}
	return t.begin(r, c, md, own, parent, state)
}

// beginRoot is CallBegan for a call without a caller's context. A context of its own would cost the
// call more than all else of traces, so by default it gets one only if it may be exported.
func (t *Traces) beginRoot(r *traceRules, c *report.CallInfo, md metadata.MD) report.CallObserver {
	if r.idle() {
		return nil
	}
	own := r.newTrace()
	if !own.sampled && !r.Errors && !r.Unsampled {
		return nil
	}
	return t.begin(r, c, md, own, spanContext{}, "")
}

// newTrace returns the context of a call without a parent, but for its span.
func (r *traceRules) newTrace() (own spanContext) {
	binary.BigEndian.PutUint64(own.trace[:], newNumber())
	binary.BigEndian.PutUint64(own.trace[8:], newNumber())
	own.sampled = r.samples(own.trace)
	return own
}

// begin is CallBegan for a call that gets a place, in the trace of own. from is the caller's
// context, or zero.
func (t *Traces) begin(r *traceRules, c *report.CallInfo, md metadata.MD, own, from spanContext, state string) report.CallObserver {
	child := c.Trusted && from.span != [8]byte{}
	binary.BigEndian.PutUint64(own.span[:], newNumber())

	if !own.sampled && !r.Errors {
		new(carried).carry(c, md, own, own.span)
		keepState(md, child, state)
		return nil
	}
	s := &callSpan{traces: t, state: state, begin: c.Begin}
	sent := own.span
	if r.Upstream {
		binary.BigEndian.PutUint64(s.upstream[:], newNumber())
		sent = s.upstream
	}
	switch {
	case child:
		s.parent = from.span
	case from.span != [8]byte{}:
		s.link = from
	}
	s.carry(c, md, own, sent)
	s.Steps = s
	keepState(md, child, state)
	return s
}

// newNumber returns a random number that isn't zero: W3C's ids aren't. They must be unique, but
// aren't secret, so they cost no system call.
func newNumber() uint64 {
	for {
		if n := rand.Uint64(); n != 0 { //nolint:gosec // see above
			return n
		}
	}
}

// A carried is the place of a call, and what the backend gets of it, in one allocation.
type carried struct {
	report.Trace
	header [1]string // the traceparent for the backend
}

// carry sets the call's place, and gives the backend the context whose span is sent.
func (p *carried) carry(c *report.CallInfo, md metadata.MD, own spanContext, sent [8]byte) {
	p.Trace = report.Trace{ID: own.trace, Span: own.span, Sampled: own.sampled}
	c.Trace = &p.Trace
	own.span = sent
	p.header[0] = own.String()
	md[traceparent] = p.header[:]
}

// keepState has a trace's state cross with the trace, and only with it.
func keepState(md metadata.MD, child bool, state string) {
	if child && state != "" {
		md[tracestate] = []string{state}
	} else {
		delete(md, tracestate)
	}
}

// learn notes that a backend knows a method, as long as there is room.
func (t *Traces) learn(path string) {
	if _, ok := t.known.find(path); !ok {
		_, _ = t.known.add(strings.Clone(path), maxMethods, func() struct{} { return struct{}{} })
	}
}

func (t *Traces) knows(path string) bool {
	_, ok := t.known.find(path)
	return ok
}

// ConnBegan implements report.Observer.
func (*Traces) ConnBegan(report.ConnInfo) {}

// ConnEnded implements report.Observer.
func (*Traces) ConnEnded(report.ConnInfo) {}

// Refused implements report.Observer.
func (*Traces) Refused(report.Refusal) {}

// WebEnded implements report.Observer. Requests to the web server aren't traced.
func (*Traces) WebEnded(*report.WebInfo) {}
