package upstream

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/balancer"

	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// callFacts has facts that grpc-go's own status doesn't have: what really came from
// the backend and what really went to it.
type callFacts struct {
	wire.Call
	sent  atomic.Bool               // grpc-go has begun a stream for the call
	place atomic.Pointer[callPlace] // the last one that the call got; nil: it has got none

	patience  *openTimer                   // gives up a call that gets no stream; nil: it has got one
	refusal   atomic.Pointer[report.Fault] // why it got no place, if it got none
	replayed  atomic.Bool                  // grpc-go has sent the call again: see Stream.recvMsg
	refused   []*address                   // that have refused the call, in earlier attempts too; guarded by the pool's mu
	elsewhere bool                         // another backend may have room for the call; until it began
	waits     bool                         // the pool counts it as waiting, until it began
	began     bool                         // Open has ended; a later attempt isn't counted as waiting
}

// A callPlace is a call's place in the pool.
type callPlace struct {
	wire.Place
	conn *conn
}

// done gives the place back.
func (p *callPlace) done(info balancer.DoneInfo) {
	defer p.conn.wire.Catch()
	if !info.BytesSent { // grpc-go has begun no stream
		p.conn.wire.GiveUp(&p.Place)
	}
	p.conn.release(p.WasRefused(info.Err))
}

// onWire returns the last place that the call got, as its connection knows it, or nil.
func (k *callFacts) onWire() *wire.Place {
	if p := k.place.Load(); p != nil {
		return &p.Place
	}
	return nil
}

// suspendPatience stops the timer. It reports whether the timer was running, as it does
// until the call has a stream. k may be nil.
func (k *callFacts) suspendPatience() bool {
	return k != nil && k.patience != nil && k.patience.suspend()
}

// resumePatience starts the timer anew.
func (k *callFacts) resumePatience() { k.patience.resume() }

type factsKey struct{}

// factsOf returns nil for culvert's own call: reflection.
func factsOf(ctx context.Context) *callFacts {
	known, _ := ctx.Value(factsKey{}).(*callFacts)
	return known
}

// sentText returns the fact in the words of a status.
func (k *callFacts) sentText() string {
	if k.sent.Load() {
		return report.SentMaybe
	}
	return report.SentNo
}
