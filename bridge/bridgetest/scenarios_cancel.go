package bridgetest

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
)

var cancelScenarios = []scenario{
	{"cancel while the backend works", 0, cancelWhileWorking},
	{"cancel before half-close", fullDuplex | leavesOpen, cancelBeforeHalfClose},
	{"cancel between replies", streamedReplies, cancelBetweenReplies},
	{"cancel while nobody reads the replies", streamedReplies, cancelUnread},
	{"cancel ends one call of many", streamedReplies, cancelEndsOne},
	{"cancel by the backend", 0, cancelByBackend},
	{"client vanishes by FIN while the backend works", 0, by(cutFIN, vanish)},
	{"client vanishes by RST while the backend works", 0, by(cutRST, vanish)},
	{"client vanishes by FIN in the request", fullDuplex | leavesOpen, by(cutFIN, vanishInRequest)},
	{"client vanishes by RST in the request", fullDuplex | leavesOpen, by(cutRST, vanishInRequest)},
	{"client vanishes by FIN in a message", halfMessages | fullDuplex | leavesOpen, by(cutFIN, vanishInMessage)},
	{"client vanishes by RST in a message", halfMessages | fullDuplex | leavesOpen, by(cutRST, vanishInMessage)},
	{"client vanishes by RST while replies come", streamedReplies, vanishWhileReading},
	{"nothing is left while culvert runs on", 0, nothingLeft},
}

// wantCancelled waits until the backend's context has ended, and expects it to be
// cancelled. The backend's call must not have seen a proper half-close unless the
// client made one.
func (t *trial) wantCancelled(c *backendCall, within time.Duration, halfClosed bool) {
	t.Helper()
	t.awaitWithin(within, "the backend's context ends", c.ctx().Done())
	if err := c.ctx().Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("the backend's context ended with %v, want %v", err, context.Canceled)
	}
	t.awaitEvent("the backend's call ends", c.ended)
	if c.halfClosed.Load() != halfClosed {
		t.Errorf("the backend saw a half-close: %v, want %v", c.halfClosed.Load(), halfClosed)
	}
}

// cancelIsSeen bounds what takes one round trip in principle, and goneIsSeen the time to
// notice a FIN or a RST. Both are far more than a busy machine needs, and end before a
// ping that isn't answered would show that the client is gone.
const (
	cancelIsSeen = 20 * time.Second
	goneIsSeen   = 20 * time.Second
)

func cancelWhileWorking(t *trial) {
	t.serve(untilCancelled)
	s := t.ask(t.client, call{})
	c := t.nextCall()
	t.awaitEvent("the backend sees the half-close", c.requestEnd)
	s.cancel()
	t.wantCancelled(c, cancelIsSeen, true)
}

// untilCancelled reads the request and waits for the call's end.
var untilCancelled = asked(func(c *backendCall, _ [][]byte) error { return hold(c) })

func cancelBeforeHalfClose(t *trial) {
	t.serve(untilCancelled)
	s := t.open(call{})
	s.send(hello)
	c := t.nextCall()
	s.cancel()
	t.wantCancelled(c, cancelIsSeen, false)
}

// trickle replies when told to.
func trickle(next <-chan struct{}) handler {
	return afterRequest(func(c *backendCall) error {
		for {
			if err := c.send(hello); err != nil {
				return err
			}
			if err := c.await(next); err != nil {
				return err
			}
		}
	})
}

func cancelBetweenReplies(t *trial) {
	next := make(chan struct{})
	t.serve(trickle(next))
	s, c := t.begin(t.client, call{})
	next <- struct{}{}
	s.recv()
	s.cancel()
	t.wantCancelled(c, cancelIsSeen, false)
}

// flood replies as fast as it can.
var flood = afterRequest(func(c *backendCall) error {
	chunk := patterned(64 << 10)
	for {
		if err := c.send(chunk); err != nil {
			return err
		}
	}
})

func cancelUnread(t *trial) {
	t.serve(flood)
	s, c := t.begin(t.client, call{})
	t.awaitStall(c.sent.Load)
	s.cancel()
	// The client blocks culvert, which must still notice. (A WebSocket's close
	// frame is seen: culvert still reads.)
	t.wantCancelled(c, goneIsSeen, false)
}

func cancelEndsOne(t *trial) {
	nexts := make(chan chan struct{}, 3) // one of each handler
	t.serve(func(c *backendCall) error {
		next := make(chan struct{})
		nexts <- next
		return trickle(next)(c)
	})
	type pair struct {
		client  *callT
		backend *backendCall
		next    chan struct{}
	}
	var pairs []pair
	for range 3 {
		s := t.ask(t.client, call{})
		s.recv()
		pairs = append(pairs, pair{s, t.nextCall(), <-nexts})
	}
	pairs[1].client.cancel()
	t.wantCancelled(pairs[1].backend, cancelIsSeen, false)
	for _, p := range []pair{pairs[0], pairs[2]} {
		p.next <- struct{}{}
		p.client.recv()
		p.client.cancel()
	}
}

// cancelByBackend: a CANCELLED of the backend's own is a status like any other.
func cancelByBackend(t *trial) {
	t.serve(afterRequest(func(c *backendCall) error {
		ctx, cancel := context.WithCancel(c.ctx())
		cancel()
		c.ss.SetTrailer(metadata.Pairs("x-t", "1"))
		return status.FromContextError(ctx.Err()).Err()
	}))
	r := t.unary(call{}, hello)
	t.wantUpstream(r, codes.Canceled, "context canceled")
	t.wantAnswer("trailer", r.trailer, "x-t", "1")
}

func vanish(t *trial, how cut) {
	t.serve(untilCancelled)
	t.ask(t.client, call{})
	c := t.nextCall()
	t.awaitEvent("the backend sees the half-close", c.requestEnd)
	t.client.cut(how)
	t.wantCancelled(c, goneIsSeen, true)
}

// vanishInRequest: to the backend, a lost client must not look like one that has
// sent everything.
func vanishInRequest(t *trial, how cut) {
	t.serve(untilCancelled)
	s := t.open(call{})
	s.send(hello)
	c := t.nextCall()
	t.client.cut(how)
	t.wantCancelled(c, goneIsSeen, false)
}

func vanishInMessage(t *trial, how cut) {
	t.serve(untilCancelled)
	s := t.open(call{})
	s.send(hello)
	s.sendHalf()
	c := t.nextCall()
	t.client.cut(how)
	t.wantCancelled(c, goneIsSeen, false)
	if n := c.received.Load(); n > 1 {
		t.Errorf("the backend got %d messages, want the whole one at most", n)
	}
}

func vanishWhileReading(t *trial) {
	t.serve(flood)
	s := t.ask(t.client, call{})
	c := t.nextCall()
	for range 10 {
		s.recv()
	}
	t.client.cut(cutRST)
	t.wantCancelled(c, goneIsSeen, false)
}

// nothingLeft checks the goroutines beside a culvert that goes on, and not after
// everything has ended: the goroutines of a call must end with the call.
func nothingLeft(t *trial) {
	next := make(chan struct{})
	t.serve(echoBut("x-trickle", trickle(next)))
	one := func(c client) { t.wantOK(t.ask(c, call{}).end(), hello) }
	// The first client makes whatever stays: the backend's connection.
	first := t.dial(&dialer{address: t.address})
	one(first)
	first.close()
	settled := t.settledGoroutines()
	for range 5 {
		cl := t.dial(&dialer{address: t.address})
		one(cl)
		t.backend.seen() // begin wants the next one
		s, _ := t.begin(cl, call{metadata: metadata.Pairs("x-trickle", "1")})
		s.cancel()
		if t.transport.lacks(anyMethod) == "" {
			refused := t.tryAsk(cl, call{method: "/grpc.channelz.v1.Channelz/GetTopChannels"}, hello)
			t.wantCulvert(refused.end(), codes.Unimplemented, report.ReasonNoRoute)
		}
		cl.close()
	}
	if stacks := t.label.atMost(settled); stacks != "" {
		t.Errorf("%d goroutines when the first client had gone, more after five others:\n%s", settled, stacks)
	}
}
