package quota

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Quota bounds what one address, or one listener, may use of a Server. A
// zero field means its default, which is no limit but for addresses
// (bridge.DefaultLimits has theirs); a negative one means that there is no such
// limit. What is bounded by the second may all come at one moment of it.
type Quota struct {
	Connections           int // at once
	Calls                 int // at once
	CallsPerSecond        int
	HandshakesPerSecond   int // WebSocket upgrades and, counted apart from them, TLS handshakes
	DecompressedPerSecond int // bytes that compressed requests expand to
}

// A Limiter judges connections, handshakes and calls by the limits of each scope
// that they count with: their address, their method, their listener, the server.
// It asks the narrowest scope first, so that an address that is over its own
// limit takes nothing from the others.
type Limiter struct {
	now       clock // of the buckets
	tryOut    bool  // what is over a limit is told, and goes on
	refusals  *report.Refusals
	server    Scope
	address   rules // of each
	addresses *addressTable
}

// New returns a Limiter by the limits of all clients together and of each
// address. With tryOut, what is over a limit is reported and goes on.
func New(server, address Quota, tryOut bool, refusals *report.Refusals) *Limiter {
	epoch := time.Now()
	now := func() int64 { return int64(time.Since(epoch)) }
	q := &Limiter{now: now, refusals: refusals, addresses: newAddressTable(), server: Scope{tally: new(tally)}}
	return q.With(server, address, tryOut)
}

// With returns a Limiter of other limits that goes on counting where q is. What
// began with q ends with q. Connections and calls are counted where there is no limit,
// too, so a new limit counts those that run. A new rate begins with a full second.
func (q *Limiter) With(server, address Quota, tryOut bool) *Limiter {
	with := *q
	with.tryOut = tryOut
	with.server.rules = rulesOf(server, "", report.KeyLimits)
	with.address = rulesOf(address, " of this address", report.KeyAddressLimits)
	return &with
}

// NewListenerScope returns the scope of a listener's clients.
func NewListenerScope(limits Quota) *Scope {
	return &Scope{rulesOf(limits, " on this listener", report.KeyListenerLimits), new(tally)}
}

// NewMethodScope returns the scope of the methods that share a limit.
func NewMethodScope(limits Quota) *Scope {
	return &Scope{rulesOf(limits, " of this method", report.KeyMethodLimits), new(tally)}
}

// With returns the scope with other limits, as Limiter.With does.
func (s *Scope) With(limits Quota) *Scope {
	return &Scope{rulesOf(limits, s.of, s.section), s.tally}
}

// Idle reports whether nothing is lost if the scope's counts are forgotten: no call
// of it runs, and its buckets are full.
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

// rules are the limits of one scope. 0 is none.
type rules struct {
	of                                 string // whose they are, within a sentence
	section                            string // what their keys begin with
	connections, calls                 int32
	callRate, handshakes, decompressed perSecond
}

func rulesOf(q Quota, of, section string) rules {
	return rules{
		of: of, section: section, connections: countOf(q.Connections), calls: countOf(q.Calls),
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

// A Scope is all who share a limit, and what they use of it.
type Scope struct {
	rules
	*tally
}

// A share is a scope's limits and what is used of them: an address has its
// limits from all of them, and a tally of its own.
type share struct {
	*rules
	*tally
}

// noScope stands for one that isn't there: it has no limits, so nobody reads what
// it counts.
var noScope = Scope{tally: new(tally)}

// shares are those of a client: its address, then its listener and all.
func (q *Limiter) shares(from *Address, l *Scope) [3]share {
	return [...]share{{&q.address, &from.tally}, {&l.rules, l.tally}, {&q.server.rules, q.server.tally}}
}

// An excess is a limit that is reached.
type excess struct {
	key, text string
	wait      time.Duration // until there may be room
}

// excess is one of the share's limits. The text takes the limit and whose it is.
func (s share) excess(key string, wait time.Duration, text string, limit any) *excess {
	return &excess{s.section + key, fmt.Sprintf(text, limit, s.of), wait}
}

// takeAll takes something from each of the shares, in order. If a share refuses,
// takeAll gives back what it took from those before, and returns the excess: a
// refused call uses no quota.
func takeAll(shares []share, now clock, take func(share, clock) *excess, give func(share)) *excess {
	for i, s := range shares {
		x := take(s, now)
		if x == nil {
			continue
		}
		for _, before := range shares[:i] {
			give(before)
		}
		return x
	}
	return nil
}

// refuse reports an excess. If limits are only tried out, it returns nil. The
// caller then stops counting what it let pass: otherwise limits that are tried out
// would report more than real ones would refuse.
func (q *Limiter) refuse(x *excess, peer, detail string) error {
	q.refusals.Note(report.Refusal{Reason: report.ReasonLimitExceeded, Key: x.key, Peer: peer, Detail: detail, ReportOnly: q.tryOut}, "raise "+x.key)
	if q.tryOut {
		return nil
	}
	return report.OverLimit(x.key, x.wait, x.text)
}

// A Call is what a call counts with, from Begin to End. A call that hasn't begun
// counts nothing.
type Call struct {
	quotas   *Limiter
	listener *Scope
	method   *Scope // noScope: the call's method has no limits of its own
	peer     string
	address  *Address // before begin: that of the call's own connection, or nil
	begun    bool
	holds    bool // the address; else its connection does
}

// Call returns the use of a call, or of a WebSocket, that came in on a listener.
// method is the scope of the call's method, or nil. from is what the address of
// the call's own connection uses; it is nil if the peer is another address.
func (q *Limiter) Call(listener, method *Scope, peer string, from *Address) Call {
	if method == nil {
		method = &noScope
	}
	return Call{quotas: q, listener: listener, method: method, peer: peer, address: from}
}

// Begin counts the call until end, or returns why it may not begin. The method
// is for the log.
//
// A call that is refused takes neither a place nor a token from any of its
// scopes: most are others' too, and it has had nothing for its own. An attacker
// gains no attempts by that: what begins is bounded all the same, and to be
// refused by a full server is as cheap, for both sides, as by an empty bucket.
// A call that fails later, for whatever other reason, has begun, and its token
// is spent.
func (u *Call) Begin(method string) error {
	if u.address == nil {
		u.address, u.holds = u.quotas.addresses.hold(addressKey(u.peer), u.quotas.now()), true
	}
	shares := u.shares()
	if x := takeAll(shares[:], u.quotas.now, share.beginCall, share.cancelCall); x != nil {
		err := u.quotas.refuse(x, u.peer, method)
		if err != nil {
			u.release()
		}
		return err
	}
	u.begun = true
	return nil
}

// Memory returns what the call's address holds. It is valid from Begin to End.
func (u *Call) Memory() *memory.Address { return &u.address.memory }

// beginCall counts a call, or says why it may not begin: then it counts nothing.
func (s share) beginCall(now clock) *excess {
	if limit := s.rules.calls; !enter(&s.tally.calls, limit) {
		return s.excess("calls", report.AnyMoment, "%d calls%s are running, which is the limit", limit)
	}
	if wait := s.tally.calling.take(s.callRate, now); wait > 0 {
		s.endCall()
		return s.excess("calls_per_second", wait, "more than %d calls%s begin within a second", s.callRate)
	}
	return nil
}

// cancelCall undoes beginCall.
func (s share) cancelCall() {
	s.endCall()
	s.calling.give(s.callRate)
}

// endCall counts a call less.
func (s share) endCall() { s.tally.calls.Add(-1) }

// End gives back what the call counts, and lets go of its address.
func (u *Call) End() {
	u.stopCounting()
	u.release()
}

// release lets go of the address, if the call holds it itself.
func (u *Call) release() {
	if u.holds {
		u.holds = false
		u.address.holders.Add(-1)
		u.address = nil
	}
}

// stopCounting gives back what the call counts.
func (u *Call) stopCounting() {
	if !u.begun {
		return
	}
	u.begun = false
	for _, s := range u.shares() {
		s.endCall()
	}
}

// shares are all that the call counts with, the narrowest first.
func (u *Call) shares() [4]share {
	q, l, m := u.quotas, u.listener, u.method
	return [...]share{{&q.address, &u.address.tally}, {&m.rules, m.tally}, {&l.rules, l.tally}, {&q.server.rules, q.server.tally}}
}

// MayExpand judges compressed bytes before they are expanded. To how many is
// not known: what is more than the limit is a debt, which the next wait for.
func (u *Call) MayExpand() error {
	if !u.begun {
		return nil
	}
	for _, s := range u.shares() {
		if wait := s.expanding.debt(s.decompressed, u.quotas.now); wait > 0 {
			return u.expandedTooMuch(s, wait)
		}
	}
	return nil
}

// Expanded counts n bytes that came of it, of a message that may have most. A
// message may begin unless there is a debt, and many may at once: so Expanded
// refuses the rest of a message if the debt is more than one message makes. Without
// that one address could begin so many that all others would wait for its debt.
func (u *Call) Expanded(n int, most int64) error {
	if !u.begun {
		return nil
	}
	now := u.quotas.now()
	var over share
	var wait time.Duration
	for _, s := range u.shares() {
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

// expandedTooMuch refuses to expand more, by the limit of one of the call's shares.
func (u *Call) expandedTooMuch(s share, wait time.Duration) error {
	x := s.excess("decompressed_bytes_per_second", wait, "compressed messages%[2]s decompress to more than %[1]d bytes within a second", s.decompressed)
	if u.quotas.tryOut {
		u.stopCounting() // it goes on, and was told of
	}
	return u.quotas.refuse(x, u.peer, "")
}

// Handshake judges a WebSocket that is to be opened. One that is refused takes
// no token, as with Begin.
func (u *Call) Handshake(method string) error {
	from := u.address
	if from == nil {
		from = u.quotas.addresses.hold(addressKey(u.peer), u.quotas.now())
		defer from.holders.Add(-1)
	}
	shares := u.quotas.shares(from, u.listener)
	if x := takeAll(shares[:], u.quotas.now, share.beginUpgrade, share.cancelUpgrade); x != nil {
		return u.quotas.refuse(x, u.peer, method)
	}
	return nil
}

// beginUpgrade counts a WebSocket that is opened, or returns why it may not be.
func (s share) beginUpgrade(now clock) *excess {
	if wait := s.upgrading.take(s.handshakes, now); wait > 0 {
		return s.excess("handshakes_per_second", wait, "more than %d WebSockets%s are opened within a second", s.handshakes)
	}
	return nil
}

// cancelUpgrade undoes beginUpgrade.
func (s share) cancelUpgrade() { s.upgrading.give(s.handshakes) }
