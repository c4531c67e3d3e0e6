package quota

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Limiter judges connections, handshakes and calls by the limits of their scopes:
// address, method, listener and server. It asks the narrowest scope first, so that an
// address over its own limit uses no quota of the others.
type Limiter struct {
	now       clock // for the buckets
	tryOut    bool  // report excesses, but let them pass
	refusals  *report.Refusals
	server    Scope
	address   bounds // of each
	addresses *addressTable

	identity   bounds // of each
	identities *addressTable
}

// New returns a Limiter with the limits of all clients together and of each address.
// With tryOut, it reports excesses but lets them pass.
func New(server, address report.Quota, tryOut bool, refusals *report.Refusals) *Limiter {
	epoch := time.Now()
	now := func() int64 { return int64(time.Since(epoch)) }
	q := &Limiter{now: now, refusals: refusals, addresses: newAddressTable(), identities: newAddressTable(), server: Scope{tally: new(tally)}}
	return q.With(server, address, tryOut)
}

// With returns a Limiter with other limits that continues q's counts. Usage that
// began with q ends with q. Connections and calls count even without a limit, so a
// new limit counts those that are running. A new rate begins with a full second.
func (q *Limiter) With(server, address report.Quota, tryOut bool) *Limiter {
	with := *q
	with.tryOut = tryOut
	with.server.bounds = new(boundsOf(server, "", report.KeyLimits))
	with.address = boundsOf(address, " of this address", report.KeyAddressLimits)
	return &with
}

// NewListenerScope returns the scope of a listener's clients.
func NewListenerScope(limits report.Quota) *Scope {
	return newScope(boundsOf(limits, " on this listener", report.KeyListenerLimits))
}

// NewMethodScope returns the scope of the methods that share a limit.
func NewMethodScope(limits report.Quota) *Scope {
	return newScope(boundsOf(limits, " of this method", report.KeyMethodLimits))
}

// NewRouteScope returns the scope of the calls of the route of that name. It continues
// the counts of before, unless that is nil.
func NewRouteScope(name string, limits report.Quota, before *Scope) *Scope {
	s := &Scope{bounds: &unlimitedRoute, tally: new(tally)}
	if r := boundsOf(limits, unlimitedRoute.of, unlimitedRoute.section); r != unlimitedRoute {
		r.entry = " of the route " + name
		s.bounds = &r
	}
	if before != nil {
		s.tally = before.tally
	}
	return s
}

// unlimitedRoute are the bounds of all routes without limits, of which there may be
// thousands.
var unlimitedRoute = boundsOf(report.Quota{}, " of this route", report.KeyRouteLimits)

func newScope(r bounds) *Scope { return &Scope{&r, new(tally)} }

// With returns the scope with other limits, like Limiter.With.
func (s *Scope) With(limits report.Quota) *Scope {
	return &Scope{new(boundsOf(limits, s.of, s.section)), s.tally}
}

// Running returns the number of calls that count with the scope.
func (s *Scope) Running() int { return int(s.tally.calls.Load()) }

// Idle reports whether the scope's counts can be forgotten without loss: it has no
// running call, and its buckets are full.
func (q *Limiter) Idle(s *Scope) bool {
	return s.tally.connections.Load() == 0 && s.tally.calls.Load() == 0 && s.rested(q.now())
}

// Mutex returns the lock that all calls with compressed messages take if the
// server has a limit of decompressed bytes, for a watchdog.
func (q *Limiter) Mutex() *sync.Mutex { return &q.server.expanding.mu }

// Locks returns the locks that connections and calls take for their addresses, for a
// watchdog.
func (q *Limiter) Locks() []*sync.Mutex {
	locks := make([]*sync.Mutex, len(q.addresses.shards))
	for i := range q.addresses.shards {
		locks[i] = &q.addresses.shards[i].mu
	}
	return locks
}

// bounds are the limits of one scope. 0 means no limit.
type bounds struct {
	of                                   string // the owner, for the text of errors
	section                              string // the prefix of their keys
	entry                                string // of section, for the log: section may have many
	connections, calls, fallbackRequests int32
	callRate, handshakes, decompressed   perSecond
}

func boundsOf(q report.Quota, of, section string) bounds {
	return bounds{
		of: of, section: section, connections: countOf(q.Connections), calls: countOf(q.Calls), fallbackRequests: countOf(q.WebRequests),
		callRate: rateOf(q.CallsPerSecond), handshakes: rateOf(q.HandshakesPerSecond), decompressed: rateOf(q.DecompressedPerSecond),
	}
}

func countOf(limit int) int32 {
	if limit <= 0 || limit >= math.MaxInt32 {
		return 0
	}
	return int32(limit)
}

func rateOf(limit int) perSecond { return perSecond(countOf(limit)) }

// A Scope is the clients that share a limit, with their usage. All addresses have the
// same bounds, and each has a tally of its own.
type Scope struct {
	*bounds
	*tally
}

// shares returns a client's shares: its address, then its listener and the server.
func (q *Limiter) shares(from *Address, l *Scope) [3]Scope {
	return [...]Scope{{&q.address, &from.tally}, *l, q.server}
}

// excess returns the fault of one of the scope's limits that was reached. The text gets the
// limit and the limit's owner.
func (s Scope) excess(key string, wait time.Duration, text string, limit any) *report.Fault {
	key = s.section + key
	f := report.OverLimit(key, wait, fmt.Sprintf(text, limit, s.of))
	f.Hint = "raise " + report.Named(key) + s.entry
	return f
}

// takeAll takes quota from each of the scopes, in order. If one refuses, takeAll
// gives back the quota of those before, and returns the excess: a refused call uses
// no quota.
func takeAll(scopes []Scope, now clock, take func(Scope, clock) *report.Fault, give func(Scope)) *report.Fault {
	for i, s := range scopes {
		x := take(s, now)
		if x == nil {
			continue
		}
		for _, before := range scopes[:i] {
			give(before)
		}
		return x
	}
	return nil
}

// refuse reports an excess. If limits are only tried out, it returns nil. The caller
// then stops counting the call or connection that it let pass: otherwise limits that
// are tried out would report more than real ones would refuse.
func (q *Limiter) refuse(f *report.Fault, peer, detail string) error {
	f.Detail = detail
	return q.refusals.Unless(q.tryOut, f, peer)
}

// A Call is a call's usage, from Begin to End. A call that hasn't begun counts
// nothing.
type Call struct {
	client
	method *Scope // nil: the call's method has no limits of its own
	route  *Scope // nil: the call has no route
}

// A client is the usage that a call or a request to the web server has of its client.
type client struct {
	quotas   *Limiter
	listener *Scope
	peer     string
	address  *Address // before hold: the address of its own connection, or nil
	begun    bool
	holds    bool // it holds the address; else its connection does
}

// hold holds the address, unless its connection does.
func (u *client) hold() {
	if u.address == nil {
		u.address, u.holds = u.quotas.addresses.hold(addressKey(u.peer), u.quotas.now()), true
	}
}

func (u *client) release() {
	if u.holds {
		u.holds = false
		u.address.holders.Add(-1)
		u.address = nil
	}
}

// Memory returns the memory of the address. It is valid from Begin to End.
func (u *client) Memory() *memory.Address { return &u.address.memory }

// Call returns the usage of a call, or of a WebSocket, on a listener. method is the
// scope of the call's method, or nil. from is the usage of the address of the call's
// own connection; it is nil if the peer has another address.
func (q *Limiter) Call(listener, method *Scope, peer string, from *Address) Call {
	return Call{client: client{quotas: q, listener: listener, peer: peer, address: from}, method: method}
}

// Move makes the call count with the scopes of another method and route; either may
// be nil. The method's name is for the log. If a new scope has no room, Move returns
// why, and the call counts as before.
func (u *Call) Move(method, route *Scope, name string) error {
	had, gets := [...]*Scope{u.method, u.route}, [...]*Scope{method, route}
	if u.begun {
		var room [2]Scope
		if x := takeAll(others(room[:0], gets, had), u.quotas.now, Scope.beginCall, Scope.cancelCall); x != nil {
			if err := u.quotas.refuse(x, u.peer, name); err != nil {
				return err
			}
			u.stopCounting()
		} else {
			for _, s := range others(room[:0], had, gets) {
				s.cancelCall()
			}
		}
	}
	u.method, u.route = method, route
	return nil
}

// others appends to room the shares of scopes that differ from those beside them.
func others(room []Scope, of, beside [2]*Scope) []Scope {
	for i, s := range of {
		if s != nil && s != beside[i] {
			room = append(room, *s)
		}
	}
	return room
}

// Begin counts the call until End, or returns why the call is refused. The method is
// for the log.
//
// A refused call uses neither a place nor a token of any of its scopes: most of them
// are shared with others, and the call got nothing for its own. An attacker gains no
// attempts by that: begun calls are bounded all the same, and a refusal by a full
// server is as cheap, for both sides, as one by an empty bucket. A call that fails
// later, for any other reason, has begun, and its token is spent.
func (u *Call) Begin(method string) error {
	u.hold()
	var room [maxShares]Scope
	if x := takeAll(u.shares(&room), u.quotas.now, Scope.beginCall, Scope.cancelCall); x != nil {
		err := u.quotas.refuse(x, u.peer, method)
		if err != nil {
			u.release()
		}
		return err
	}
	u.begun = true
	return nil
}

// AddressKey returns a key of the call's address: the same for all addresses that count as
// one.
func (u *Call) AddressKey() uint64 { return addressKey(u.peer) }

// beginCall counts a call, or returns why it is refused: then it counts nothing.
func (s Scope) beginCall(now clock) *report.Fault {
	if limit := s.bounds.calls; !enter(&s.tally.calls, limit) {
		return s.excess("calls", report.AnyMoment, "%d calls%s are running, which is the limit", limit)
	}
	if wait := s.tally.calling.take(s.callRate, now); wait > 0 {
		s.endCall()
		return s.excess("calls_per_second", wait, "more than %d calls%s begin within a second", s.callRate)
	}
	return nil
}

func (s Scope) cancelCall() {
	s.endCall()
	s.calling.give(s.callRate)
}

func (s Scope) endCall() { s.tally.calls.Add(-1) }

// End gives back the call's usage, and releases its address.
func (u *Call) End() {
	u.stopCounting()
	u.release()
}

func (u *Call) stopCounting() {
	if !u.begun {
		return
	}
	u.begun = false
	var room [maxShares]Scope
	for _, s := range u.shares(&room) {
		s.endCall()
	}
}

// maxShares is how many shares a call counts with at most.
const maxShares = 5

// shares returns, in room, all the shares that the call counts with, the narrowest
// first.
func (u *Call) shares(room *[maxShares]Scope) []Scope {
	q := u.quotas
	shares := append(room[:0], Scope{&q.address, &u.address.tally})
	for _, s := range [...]*Scope{u.method, u.route, u.listener} {
		if s != nil {
			shares = append(shares, *s)
		}
	}
	return append(shares, q.server)
}

// MayExpand judges compressed bytes before their decompression. The decompressed size
// is not known: bytes over the limit become a debt, which the next calls wait for.
func (u *Call) MayExpand() error {
	if !u.begun {
		return nil
	}
	var room [maxShares]Scope
	for _, s := range u.shares(&room) {
		if wait := s.expanding.debt(s.decompressed, u.quotas.now); wait > 0 {
			return u.expandedTooMuch(s, wait)
		}
	}
	return nil
}

// ExpandLarge waits for the call's turn to decompress a message that may be large, and then
// judges it like MayExpand. The caller must call done after it. Only so many messages of an
// address are decompressed at one time as there are processors, at least two: if hundreds
// began together, each would use a part of the limit and of the processor, and none would be
// done before the limit is reached.
func (u *Call) ExpandLarge(ctx context.Context) (done func(), err error) {
	if !u.begun {
		return func() {}, nil
	}
	done, err = u.quotas.addresses.turns.take(ctx, u.address)
	if err != nil {
		return nil, err
	}
	if err := u.MayExpand(); err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// Expanded counts n decompressed bytes of a message that may have at most most. A
// message may begin unless there is a debt, and many may begin at once. So Expanded
// refuses the rest of a message if the debt is more than one message makes. Otherwise
// one address could begin so many that all others would wait for its debt.
func (u *Call) Expanded(n int, most int64) error {
	if !u.begun {
		return nil
	}
	now := u.quotas.now()
	var over Scope
	var wait time.Duration
	var room [maxShares]Scope
	for _, s := range u.shares(&room) {
		debt := s.expanding.spend(s.decompressed, now, int64(n))
		if wait == 0 && debt > 0 && int64(debt) > s.decompressed.cost(most) {
			over, wait = s, debt
		}
	}
	if wait == 0 {
		return nil
	}
	return u.expandedTooMuch(over, wait)
}

// expandedTooMuch refuses further decompression, by the limit of one of the call's
// shares.
func (u *Call) expandedTooMuch(s Scope, wait time.Duration) error {
	x := s.excess("decompressed_bytes_per_second", wait, "compressed messages%[2]s decompress to more than %[1]d bytes within a second", s.decompressed)
	if u.quotas.tryOut {
		u.stopCounting() // it continues, and was reported
	}
	return u.quotas.refuse(x, u.peer, "")
}

// Handshake judges a WebSocket before it opens. A refused one uses no token, as with
// Begin.
func (u *Call) Handshake(method string) error {
	from := u.address
	if from == nil {
		from = u.quotas.addresses.hold(addressKey(u.peer), u.quotas.now())
		defer from.holders.Add(-1)
	}
	shares := u.quotas.shares(from, u.listener)
	if x := takeAll(shares[:], u.quotas.now, Scope.beginUpgrade, Scope.cancelUpgrade); x != nil {
		return u.quotas.refuse(x, u.peer, method)
	}
	return nil
}

// beginUpgrade counts a WebSocket that opens, or returns why it is refused.
func (s Scope) beginUpgrade(now clock) *report.Fault {
	if wait := s.upgrading.take(s.handshakes, now); wait > 0 {
		return s.excess("handshakes_per_second", wait, "more than %d WebSockets%s are opened within a second", s.handshakes)
	}
	return nil
}

func (s Scope) cancelUpgrade() { s.upgrading.give(s.handshakes) }
