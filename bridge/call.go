package bridge

import (
	"maps"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/packing"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// A call is one RPC, whatever protocol carried it here. It is the one record of it, from
// its request to its end.
type call struct {
	caller
	watched
	ask
	decision
	deadline
	conversion

	unsettled *facts     // that the call is decided by again; nil: it is settled, or the policy has no routes
	hold      policyHold // until its stream is open
	use       quota.Call // the quotas that the call counts with

	auth *authentication // nil: there is no Authenticator

	naming sync.Mutex // held to change the ID, Method, Route, Backend and Identity of info, and to read them beside the call
	info   *report.CallInfo

	obs  report.CallObserver // of this call
	down downstream
	to   *upstream.Upstream
	up   *upstream.Stream

	replies     replies     // how far those of up have got
	rules       clientRules // of its client's protocol
	announced   bool        // the Observer knows of it
	blind       bool        // a write deadline that passes also cuts off a client that reads
	setCookies  bool        // the backend's set-cookie may cross
	packReplies bool        // the client can read compressed messages, and the upstream compresses its
	finishing   bool        // the client is being told the end, or was

	others sync.WaitGroup // the call's goroutines but handle's
	early  *earlyRead     // nil: requests are copied only once the stream is open

	ending report.Reason // why culvert itself ends the call; set before Finish
	fault  *report.Fault // the same as a whole; nil: the backend has ended it, or a session of polls
}

// newCall makes a call of a host. Its transport adds the facts that the protocol carries:
// metadata, time-out, codings. r has the call's id from the client.
func (k *caller) newCall(r *http.Request, host string, d *decision) *call {
	c := &call{caller: *k, decision: *d, ask: ask{Authority: host}, watched: watched{held: k.s.account.NewEntry(), limits: &k.policy.limits, spread: edge.NewSpread()}}
	c.use = k.use(d)
	c.setCookies = k.policy.forwardSetCookies && d.origin.Credentials
	c.progress.Clock = &k.s.registry.clock
	c.info = &report.CallInfo{ID: requestID(r), Transport: k.peer.Transport, Method: d.Method, Peer: k.peer.Addr, Client: k.peer.Client.String(), Listener: k.listening.Name, Authority: host, Trusted: k.trusts(), Begin: time.Now()}
	if d.route != nil {
		c.info.Route, c.info.Own = d.route.name, d.route.own() // settle may find another one
	}
	return c
}

// next makes another call for the client of c, which has passed the steps: r is the request of
// c. The call outlives c and the client's connection.
func (c *call) next(r *http.Request) *call {
	k := c.caller
	k.on, k.usage = nil, nil
	next := k.newCall(r, c.Authority, &c.decision)
	next.Metadata, next.info.Identity = maps.Clone(c.Metadata), c.info.Identity
	if c.auth != nil {
		next.auth = new(*c.auth) // with its decisions, and done
		next.auth.use = quota.Identities{}
	}
	next.setCookies = c.setCookies
	next.takeRouteTimeout()
	return next
}

// httpFault returns the fault that ends the call if it has an HTTP status of its own, in
// place of that of the call's status, or nil.
func (c *call) httpFault() *report.Fault {
	if c.fault == nil || c.fault.HTTP == 0 {
		return nil
	}
	return c.fault
}

// codingRefused reports whether the client is to be told which codings can be read.
func (c *call) codingRefused() bool { return c.fault == errCoding }

// pack compresses a reply, which it takes over.
func (c *call) pack(m mem.BufferSlice) (mem.BufferSlice, error) {
	packed, err := packing.Pack(m, c.s.account.Pool)
	if err != nil {
		return nil, report.New(report.ReasonInternal, "internal error").Because(err)
	}
	return packed, nil
}

// lastMoment returns how long the client has to accept the end of a call whose context
// has ended.
func (c *call) lastMoment() time.Duration {
	if c.evicted.Load() && !c.blind {
		return evictedGrace
	}
	return closeTimeout
}

// cutTime returns the write deadline that ends a write which has had its grace.
func (c *call) cutTime() time.Time {
	if c.blind { // on a busy machine the write may only be slow
		return time.Now().Add(closeTimeout)
	}
	return socket.LongAgo
}
