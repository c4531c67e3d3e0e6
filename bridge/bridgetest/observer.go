package bridgetest

import (
	"context"
	"sync"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// An observer keeps the events that culvert reports.
type observer struct {
	report.Observer // for the others

	mu      sync.Mutex
	began   int
	calls   []report.CallInfo // that ended
	changed chan struct{}     // closed and replaced at each end
	refused []report.Refusal
}

func (o *observer) CallBegan(context.Context, *report.CallInfo, metadata.MD) report.CallObserver {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.began++
	return callObserver{report.DiscardCall(), o}
}

type callObserver struct {
	report.CallObserver
	of *observer
}

// Refused implements report.Observer.
func (o *observer) Refused(r report.Refusal) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refused = append(o.refused, r)
}

// refusals returns the refusals so far.
func (o *observer) refusals() []report.Refusal {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.refused[:len(o.refused):len(o.refused)]
}

func (call callObserver) Ended(c *report.CallInfo) {
	o := call.of
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, *c)
	close(o.changed)
	o.changed = make(chan struct{})
}

// ended returns the calls that ended, how many began, and a signal of the next end.
func (o *observer) ended() (calls []report.CallInfo, began int, next <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.calls[:len(o.calls):len(o.calls)], o.began, o.changed
}
