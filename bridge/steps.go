package bridge

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// steps are what a call passes before its messages are pumped, in this order.
// Each step may end the call with a fault: a row of the table of reasons. The
// steps after it don't run then. The order has reasons:
//
//   - admit is first, because a server that drains or is full must read no message
//     and ask no backend.
//   - read comes before everything that looks at metadata: a WebSocket's
//     metadata and deadline are in its first message.
//   - A call is settled when its metadata is whole: before the steps, or in read. A call
//     that isn't settled has no route, and authorize refuses it.
//   - authenticate comes before authorize: only a client that may call here is
//     told which methods there are.
//   - authorize comes before route, so that a method that isn't exposed never
//     reaches the choice of an upstream.
//   - describe needs the backend, and asks it only for clients that may call.
//   - open is last: a call that culvert refuses costs the backend nothing.
var steps = [...]step{
	{"admit", (*call).admit},
	{"read", (*call).read},
	{"authenticate", (*call).authenticate},
	{"authorize", (*call).authorize},
	{"route", (*call).chooseBackend},
	{"describe", (*call).describe},
	{"open", (*call).open},
}

// A step checks one thing about a call, and keeps its result in the call. The context is
// the call's, with its deadline if that is already known.
type step struct {
	name string
	run  func(*call, context.Context) error
}

// take takes a call through the steps, and then tells its client that it has begun. It
// returns why one of the steps refused the call, or nil.
func (c *call) take() (err error) {
	defer c.catch("the steps of a call", &err)
	for _, step := range steps {
		if err := step.run(c, c.timed); err != nil {
			return err
		}
	}
	if down, ok := c.down.(opener); ok {
		return down.Open()
	}
	return nil
}

// admit refuses calls during a drain and calls over a limit.
func (c *call) admit(ctx context.Context) error {
	if c.s.refusing.Load() {
		return errRefusing
	}
	if err := c.use.Begin(c.Method); err != nil {
		return err
	}
	c.held.Own(c.use.Memory())
	if down, ok := c.down.(handled); ok {
		down.countBody() // also while the call waits for room
		if cause := context.Cause(ctx); cause != nil {
			return cause // the client has sent too much
		}
	}
	if !c.held.Begin(ctx, memory.CallBytes) {
		return report.NoMemory("calls", c.Method)
	}
	return nil
}

// read reads the part of the request that can be read before culvert asks the upstream,
// and tells the Observer that the call began: now the call's id is certain.
func (c *call) read(ctx context.Context) error {
	before := c.Timeout
	err := c.down.Prepare(ctx)
	if err == nil && c.partial {
		err = c.settle()
	}
	if c.Timeout != before {
		c.limitTime(ctx)
	}
	if panicked := c.tellBegan(); panicked != nil {
		return panicked
	}
	c.held.Add(memory.Fixed, headers.Size(c.Metadata)+int(c.info.Kept))
	return err
}

// authorize refuses a call without a route, and a method that isn't exposed.
func (c *call) authorize(_ context.Context) error {
	if c.unsettled != nil { // settle found no route, or wasn't asked
		return c.policy.noRoute(c.unsettled)
	}
	if c.route.own() {
		return c.policy.path.authorize(c.Method, c.tunnel)
	}
	return c.policy.router.authorize(c.Method, c.peer.Addr)
}

// chooseBackend selects the backend, and acquires its upstream.
func (c *call) chooseBackend(_ context.Context) (err error) {
	if c.route.own() {
		c.to, err = c.s.path.Acquire()
		return err
	}
	rt := &c.policy.router
	backend := rt.unrouted
	if c.route != nil {
		c.chosen.Store(c.route)
		backend = rt.backendFor(c.route, c.Metadata[c.route.sticky])
	}
	if c.auth != nil && c.auth.backend != "" {
		if !c.hasBackend(c.auth.backend) {
			if err = c.unlessTriedOut(unknownBackend(c.auth.backend)); err != nil {
				return err
			}
			c.auth.backend = "" // the call may move to others
		}
		backend = cmp.Or(c.auth.backend, backend)
	}
	c.name(func(i *report.CallInfo) { i.Backend = backend })
	if c.to, err = rt.acquire(c.info.Backend); err == nil {
		return nil
	}
	if c.otherBackends() > 0 {
		if _, ok := c.changeBackend(c.Metadata[c.route.sticky], nil); ok { // others were faster
			return nil
		}
	}
	if f, ok := errors.AsType[*report.Fault](err); ok && f.Hint != "" {
		f.Detail = c.Method
	}
	return err
}

// open makes the metadata what the route wants it to be, and opens the stream at the
// upstream. If a split's backend can't be reached or is full, the call goes to another
// one with room. If none has any, it waits.
func (c *call) open(ctx context.Context) (err error) {
	if c.rules.noStream {
		return nil
	}
	var key, tried []string
	request := upstream.Request{Method: c.Method, Metadata: c.Metadata, Subtype: c.backendSubtype(), Coding: c.coding, Messages: c.messages, Held: c.held, ID: c.info.ID}
	if c.route != nil {
		key = c.Metadata[c.route.sticky]
		c.route.edit(c.Metadata)
		c.held.Add(memory.Fixed, c.route.setBytes)
		request.Authority, request.Retry, request.Elsewhere = c.route.authority, c.route.retry, c.otherBackends() > 0
	}
	c.Metadata["x-request-id"] = []string{c.info.ID}
	c.stage.Store(int32(stageOpening))
	c.info.Trace.Note(report.Called)
	for {
		c.up, err = c.to.Open(ctx, c.cancel, request)
		if err == nil {
			c.stage.Store(int32(stageOpen))
			return nil
		}
		if !request.Elsewhere || ctx.Err() != nil || !upstream.Overloaded(err) && !upstream.Unreached(err) {
			return err
		}
		before := c.info.Backend
		if tried, request.Elsewhere = c.changeBackend(key, tried); !request.Elsewhere {
			c.returnToBackend(key, tried) // the last attempt has all its patience
		}
		if c.info.Backend != before {
			if err = c.describe(ctx); err != nil {
				return err
			}
		}
	}
}

// name changes what is known of the call's names, which others may read meanwhile.
func (c *call) name(change func(*report.CallInfo)) {
	c.naming.Lock()
	defer c.naming.Unlock()
	change(c.info)
}

// releaseUpstream undoes route.
func (c *call) releaseUpstream() {
	if c.to != nil {
		c.to.Release()
	}
}

// authenticate asks the Authenticator, if there is one.
func (c *call) authenticate(ctx context.Context) (err error) {
	if c.auth == nil {
		return nil
	}
	if c.auth.done { // for the call that this one follows
		return c.chargeIdentities()
	}
	c.auth.done = true
	if down, ok := c.down.(endAwaiter); ok {
		c.early = &earlyRead{down: down, stopped: make(chan struct{}), opened: make(chan struct{})}
		c.others.Go(func() { _ = c.passRequests() }) // pump waits for it, or handle; it has ended the call if it fails
		defer c.early.stop()
	}
	defer c.catch("the Authenticator", &err)
	probation := c.auth.conn.onProbation()
	inTime, passed := probation.begin(), false
	defer func() { probation.end(inTime, passed) }()
	id, err := askWho(ctx, c)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if id != nil {
		c.peer.Identity = id
		c.name(func(i *report.CallInfo) { i.Identity = id.Name })
	}
	if err == nil && id != nil {
		err = c.holdUntil(id)
	}
	if f, ok := errors.AsType[*report.Fault](err); ok && ofCaller(f) {
		err = c.unlessTriedOut(f)
	}
	if passed = err == nil; passed {
		err = c.chargeIdentities()
	}
	return err
}

// unlessTriedOut returns a fault of the Authenticator. If that is only tried out, it logs the fault and
// returns nil.
func (c *call) unlessTriedOut(f *report.Fault) error {
	if !c.policy.tryAuth {
		return f
	}
	tried := *f // calls may share it
	tried.Key, tried.Detail, tried.Hint = cmp.Or(f.Key, report.KeyAuth), c.Method, f.Error()
	return c.s.refusals.Unless(true, &tried, c.peer.Addr)
}

// ofCaller reports whether an Authenticator's fault is about the caller, or a limit of its own.
func ofCaller(f *report.Fault) bool {
	return f.Reason.OfCaller() || f.Reason == report.ReasonLimitExceeded && strings.HasPrefix(f.Key, report.KeyAuth+".")
}

// tellBegan tells the Observer of the call, once. It returns a panic of the Observer.
func (c *call) tellBegan() (err error) {
	if c.announced {
		return nil
	}
	c.announced = true
	defer c.catch("the Observer", &err)
	if c.Metadata == nil {
		c.Metadata = metadata.MD{}
	}
	if c.auth != nil {
		c.auth.size = headers.Size(c.Metadata)
	}
	if o := c.s.obs.CallBegan(c.timed, c.info, c.Metadata); o != nil {
		c.obs = o
	}
	if c.info.Trace != nil {
		c.held.Follow(c.info.Trace)
	}
	return nil
}
