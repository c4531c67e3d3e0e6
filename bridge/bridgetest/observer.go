package bridgetest

import (
	"sync"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge"
)

// An observer keeps what culvert told of itself.
type observer struct {
	mu      sync.Mutex
	began   int
	calls   []bridge.CallInfo // that ended
	changed chan struct{}     // closed and replaced at each end
	refused []bridge.Refusal
}

func newObserver() *observer { return &observer{changed: make(chan struct{})} }

func (o *observer) ConnBegan(bridge.ConnInfo)                           {}
func (o *observer) ConnEnded(bridge.ConnInfo)                           {}
func (o *observer) CallHeader(*bridge.CallInfo, metadata.MD)            {}
func (o *observer) CallMessage(*bridge.CallInfo, bridge.Direction, int) {}
func (o *observer) Certificate(bridge.CertificateInfo)                  {}

func (o *observer) CallBegan(*bridge.CallInfo) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.began++
}

// Refused implements bridge.Observer.
func (o *observer) Refused(r bridge.Refusal) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refused = append(o.refused, r)
}

// refusals returns what was refused so far.
func (o *observer) refusals() []bridge.Refusal {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.refused[:len(o.refused):len(o.refused)]
}

func (o *observer) CallEnded(c *bridge.CallInfo) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, *c)
	close(o.changed)
	o.changed = make(chan struct{})
}

// ended returns the calls that ended, how many began, and a signal of the next end.
func (o *observer) ended() (calls []bridge.CallInfo, began int, next <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.calls[:len(o.calls):len(o.calls)], o.began, o.changed
}
