package bridgetest

import (
	"context"
	"sync"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// An observer keeps the events that culvert reports.
type observer struct {
	mu      sync.Mutex
	began   int
	calls   []report.CallInfo // that ended
	changed chan struct{}     // closed and replaced at each end
	refused []report.Refusal
}

func newObserver() *observer { return &observer{changed: make(chan struct{})} }

func (o *observer) ConnBegan(report.ConnInfo) {}
func (o *observer) ConnEnded(report.ConnInfo) {}

func (o *observer) CallBegan(context.Context, *report.CallInfo, metadata.MD) report.CallObserver {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.began++
	return callObserver{o}
}

type callObserver struct{ *observer }

func (callObserver) Header(metadata.MD)            {}
func (callObserver) Message(report.Direction, int) {}

// WebEnded implements report.Observer.
func (*observer) WebEnded(*report.WebInfo) {}

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

func (o callObserver) Ended(c *report.CallInfo) {
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
