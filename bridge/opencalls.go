package bridge

import (
	"cmp"
	"container/heap"
	"slices"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// An OpenCall is a call under way. Its strings may be of any length: the client chose some.
type OpenCall struct {
	ID        string // in the log and in x-request-id; a client may use one for several calls
	Method    string
	Route     string // the name of its route; "" if it has none, or hasn't been decided
	Backend   string // as Route
	Transport string // as in logs
	Listener  string // the name of its listener; "" if it has none
	Peer      string
	Client    string // the most specific name in its verified certificate; "" if there is none
	Identity  string // from the Authenticator; "" if there is none
	Begin     time.Time

	MessagesIn, MessagesOut int64 // from the client; to it
	BytesIn, BytesOut       int64 // of these
	HeldBytes               int64 // of memory that are counted for it

	// The Server looks at each call once a second, so these are late by up to a second.
	LastMessage time.Time // when one passed in either direction; zero: none has
	WaitsFor    Wait      // what it waits for, at the last look
	WaitsSince  time.Time // zero if it waits for nothing
}

// A Wait is what a call waits for.
type Wait uint8

// What a call may wait for.
const (
	WaitsNot        Wait = iota // for nothing that culvert knows of
	WaitsForClient              // the client doesn't read what is ready for it
	WaitsForBackend             // the backend doesn't read what is ready for it
	WaitsForMemory              // for room for the call or for one of its messages
	WaitsForPlace               // for a connection to the backend, or for a place on one
	WaitsForAnswer              // the backend has a message, and has sent none
)

// OpenCalls are the calls under way, requests to the web server left out.
type OpenCalls struct{ registry *registry }

// OpenCalls returns the calls of the Server that are open when a method of them is called.
func (s *Server) OpenCalls() OpenCalls { return OpenCalls{s.registry} }

// Top returns the calls with the greatest keys, greatest first, and at most so many
// of them. judge gets each open call, in no order, and returns its key and whether it may be
// among them. It runs without a lock, and must not keep c.
//
// Top holds the lock that calls begin and end with only while it lists them.
func (o OpenCalls) Top(most int, judge func(c *OpenCall) (key int64, selected bool)) []OpenCall {
	now := time.Now()
	var top topCalls
	open := new(OpenCall) // judge gets its address, so one for each call would be an allocation
	for _, w := range o.registry.list() {
		c, ok := w.held.Call.(*call)
		if !ok {
			continue // a request to the web server
		}
		*open = OpenCall{}
		c.show(open, now)
		key, selected := judge(open)
		switch {
		case !selected || most <= 0:
		case len(top) < most:
			heap.Push(&top, &topCall{*open, key})
		case top[0].compare(key, open) < 0:
			*top[0] = topCall{*open, key}
			heap.Fix(&top, 0)
		}
	}
	slices.SortFunc(top, func(a, b *topCall) int { return b.compare(a.key, &a.OpenCall) })
	calls := make([]OpenCall, len(top))
	for i := range top {
		calls[i] = top[i].OpenCall
	}
	return calls
}

// A topCall is a call with its key.
type topCall struct {
	OpenCall
	key int64
}

// compare compares with another call. Calls with the same key have an order all the same, so
// that two lists of them agree.
func (t *topCall) compare(key int64, c *OpenCall) int {
	return cmp.Or(cmp.Compare(t.key, key), c.Begin.Compare(t.Begin), cmp.Compare(c.ID, t.ID))
}

// topCalls is a heap, with the least call first.
type topCalls []*topCall

func (h topCalls) Len() int           { return len(h) }
func (h topCalls) Less(i, j int) bool { return h[i].compare(h[j].key, &h[j].OpenCall) < 0 }
func (h topCalls) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *topCalls) Push(x any)        { *h = append(*h, x.(*topCall)) } //nolint:forcetypeassert // of Top
func (h *topCalls) Pop() any          { panic("BUG: nothing pops") }

// errStopped ends a call that an operator stops.
var errStopped = report.New(report.ReasonStopped, "an operator of this server stopped the call")

// Stop ends the call with the id, with ABORTED (STOPPED). Clients choose ids, so
// several calls may have one: begin is the Begin of the call that is meant, or zero. Stop
// returns the calls that have both. If there are several, it ends none.
func (o OpenCalls) Stop(id string, begin time.Time) []OpenCall {
	now := time.Now()
	var found []OpenCall
	var last *call
	var open OpenCall
	for _, w := range o.registry.list() {
		c, ok := w.held.Call.(*call)
		if !ok || !begin.IsZero() && !c.info.Begin.Equal(begin) {
			continue
		}
		open = OpenCall{}
		if c.show(&open, now); open.ID == id {
			found, last = append(found, open), c
		}
	}
	if len(found) == 1 {
		last.cancel(errStopped)
	}
	return found
}

// show describes the call.
func (c *call) show(o *OpenCall, now time.Time) {
	c.naming.Lock()
	o.ID, o.Method, o.Route, o.Backend, o.Identity = c.info.ID, c.info.Method, c.info.Route, c.info.Backend, c.info.Identity
	c.naming.Unlock()
	o.Transport, o.Listener, o.Peer, o.Client, o.Begin = c.info.Transport, c.info.Listener, c.info.Peer, c.info.Client, c.info.Begin
	o.MessagesIn, o.MessagesOut = c.in.messages.Load(), c.out.messages.Load()
	o.BytesIn, o.BytesOut = c.in.bytes.Load(), c.out.bytes.Load()
	o.HeldBytes = c.held.Total()
	if o.MessagesIn+o.MessagesOut > 0 {
		if last := c.looked.message.Load(); last > 0 && c.lastSeen.Load() < c.registry.now() {
			o.LastMessage = time.Unix(last, 0)
		} else {
			o.LastMessage = now.Truncate(time.Second) // since the last look
		}
	}
	var since int64
	if o.WaitsFor, since = c.looked.waits(); o.WaitsFor != WaitsNot {
		o.WaitsSince = time.Unix(since, 0)
	}
}

// A stage is how far a call is.
type stage int32

const (
	stageSteps   stage = iota // it passes the steps
	stageOpening              // it waits until the upstream has a stream for it
	stageOpen                 // it has the stream
)

// looked is what the last look has found out about a call, for people: a call itself reads no
// clock when a message passes. Only look writes it. Times are seconds of Unix time.
type looked struct {
	message atomic.Int64 // when the last message passed; 0: none had at the last look
	wait    atomic.Int64 // since when it waits, and in the last waitBits what for
	seen    int64        // lastSeen at the last look
}

const waitBits = 3

func (l *looked) waits() (what Wait, since int64) {
	packed := l.wait.Load()
	return Wait(packed & (1<<waitBits - 1)), packed >> waitBits
}

// noteWait notes what the call waits for at a look. in and out are the results of blocked.
func (w *watched) noteWait(now int64, in, out bool) {
	seen := w.lastSeen.Load()
	moved := seen != w.looked.seen
	if moved && w.in.messages.Load()+w.out.messages.Load() > 0 {
		w.looked.message.Store(now)
	}
	w.looked.seen = seen
	wait := w.waitsFor(in, out)
	before, since := w.looked.waits()
	switch {
	case wait == WaitsNot:
		since = 0
	case wait != before || moved:
		since = now
	}
	if packed := since<<waitBits | int64(wait); packed != w.looked.wait.Load() {
		w.looked.wait.Store(packed)
	}
}

// waitsFor returns what the call waits for. in and out are the results of blocked.
func (w *watched) waitsFor(in, out bool) Wait {
	at := stage(w.stage.Load())
	switch {
	case out:
		return WaitsForClient
	case w.held.Waiting():
		return WaitsForMemory
	case in:
		return WaitsForBackend
	case at == stageOpening:
		return WaitsForPlace
	case at == stageOpen && w.out.messages.Load() == 0 && w.in.messages.Load() > 0:
		return WaitsForAnswer
	}
	return WaitsNot
}
