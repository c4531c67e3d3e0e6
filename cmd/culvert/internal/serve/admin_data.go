package serve

import (
	"cmp"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/bridge"
)

func (p *program) data() admin.Data {
	return admin.Data{
		Calls: p.openCalls, StopCall: p.stopCall, Connections: p.connections, Backends: p.backendStates, Memory: p.heldMemory,
		Routes: p.observers.recent.Routes, Limits: p.observers.recent.Limits, Failures: p.observers.recent.Failures,
		Certificates: p.certificates, Auth: p.authState,
	}
}

// keysOf are the orders of open calls. The first call of an order has the greatest key.
var keysOf = map[string]func(c *bridge.OpenCall, now time.Time) int64{
	"age":      func(c *bridge.OpenCall, _ time.Time) int64 { return -c.Begin.UnixNano() },
	"messages": func(c *bridge.OpenCall, _ time.Time) int64 { return c.MessagesIn + c.MessagesOut },
	"bytes":    func(c *bridge.OpenCall, _ time.Time) int64 { return c.BytesIn + c.BytesOut },
	"memory":   func(c *bridge.OpenCall, _ time.Time) int64 { return c.HeldBytes },
	"last_message": func(c *bridge.OpenCall, _ time.Time) int64 {
		if c.LastMessage.IsZero() {
			return -c.Begin.Unix()
		}
		return -c.LastMessage.Unix()
	},
	"waiting": func(c *bridge.OpenCall, now time.Time) int64 {
		if c.WaitsFor == bridge.WaitsNot {
			return -1
		}
		return now.Unix() - c.WaitsSince.Unix()
	},
}

var namesOfWaits = [...]string{
	bridge.WaitsNot: admin.WaitsNot, bridge.WaitsForClient: admin.WaitsForClient, bridge.WaitsForBackend: admin.WaitsForBackend,
	bridge.WaitsForMemory: admin.WaitsForMemory, bridge.WaitsForPlace: admin.WaitsForPlace, bridge.WaitsForAnswer: admin.WaitsForAnswer,
}

func (p *program) openCalls(q admin.CallQuery) admin.Calls {
	now := time.Now()
	all := admin.Calls{At: now.UTC(), Calls: []admin.Call{}}
	key := keysOf[q.Order]
	var waiting [len(namesOfWaits)]int
	for _, c := range p.bridge.OpenCalls().Top(q.Limit, func(c *bridge.OpenCall) (int64, bool) {
		all.Open++
		if !selects(&q, c) {
			return 0, false
		}
		waiting[c.WaitsFor]++
		if !waits(q.WaitsFor, c.WaitsFor) {
			return 0, false
		}
		all.Matching++
		return key(c, now), true
	}) {
		all.Calls = append(all.Calls, shownCall(&c, now))
	}
	all.Waiting = admin.WaitingCalls{
		Client: waiting[bridge.WaitsForClient], Backend: waiting[bridge.WaitsForBackend],
		Memory: waiting[bridge.WaitsForMemory], Place: waiting[bridge.WaitsForPlace], Answer: waiting[bridge.WaitsForAnswer],
	}
	return all
}

// waits reports whether a call that waits for this is one of those wanted.
func waits(wanted string, has bridge.Wait) bool {
	return wanted == "" || wanted == admin.WaitsForAny && has != bridge.WaitsNot || wanted == namesOfWaits[has]
}

// selects reports whether the query selects the call, whatever that waits for.
func selects(q *admin.CallQuery, c *bridge.OpenCall) bool {
	is := func(wanted, has string) bool { return wanted == "" || wanted == has }
	has := func(wanted, in string) bool { return wanted == "" || strings.Contains(in, wanted) }
	return is(q.ID, c.ID) && is(q.Route, c.Route) && is(q.Backend, c.Backend) && is(q.Transport, c.Transport) && is(q.Listener, c.Listener) &&
		has(q.Method, c.Method) && has(q.Peer, c.Peer) && (has(q.Identity, c.Identity) || has(q.Identity, c.Client))
}

func shownCall(c *bridge.OpenCall, now time.Time) admin.Call {
	shown := admin.Call{
		ID: admin.Text(c.ID), Method: admin.Text(c.Method), Route: admin.Text(c.Route), Backend: admin.Text(c.Backend), Transport: admin.Text(c.Transport), Listener: admin.Text(c.Listener),
		Peer: admin.Text(c.Peer), Client: admin.Text(c.Client), Identity: admin.Text(c.Identity), Began: c.Begin.UTC(), AgeSeconds: max(seconds(now.Sub(c.Begin)), 0),
		MessagesIn: c.MessagesIn, MessagesOut: c.MessagesOut, BytesIn: c.BytesIn, BytesOut: c.BytesOut, MemoryBytes: c.HeldBytes,
		WaitsFor: namesOfWaits[c.WaitsFor],
	}
	if !c.LastMessage.IsZero() {
		shown.LastMessage = c.LastMessage.UTC()
	}
	if c.WaitsFor != bridge.WaitsNot {
		shown.WaitingSeconds = max(seconds(now.Sub(c.WaitsSince).Truncate(time.Second)), 0)
	}
	return shown
}

// seconds returns a time to the millisecond.
func seconds(d time.Duration) float64 { return d.Truncate(time.Millisecond).Seconds() }

func (p *program) stopCall(s admin.Stop) admin.Stopped {
	found := p.bridge.OpenCalls().Stop(s.ID, s.Began)
	if len(found) != 1 {
		return admin.Stopped{Found: len(found)}
	}
	c := &found[0]
	p.log.Info("call stopped by an operator", "call_id", c.ID, "method", c.Method, "peer", c.Peer, "asked_by", s.By)
	return admin.Stopped{Stopped: 1, Call: shownCall(c, time.Now())}
}

func (p *program) connections() admin.Connections {
	now := p.bridge.Snapshot()
	all := admin.Connections{At: time.Now().UTC(), Connections: []admin.ConnectionCount{}, Calls: []admin.CallCount{}}
	for _, c := range now.Connections {
		all.Connections = append(all.Connections, admin.ConnectionCount{Listener: admin.Text(c.Listener), Transport: admin.Text(c.Transport), Open: c.Open, Tunnels: c.Tunnels})
	}
	for _, c := range now.Calls {
		all.Calls = append(all.Calls, admin.CallCount{Listener: admin.Text(c.Listener), Transport: admin.Text(c.Transport), Open: c.Calls})
	}
	return all
}

func (p *program) backendStates() admin.Backends {
	all := admin.Backends{At: time.Now().UTC(), Backends: []admin.BackendState{}}
	for _, u := range p.bridge.Upstreams() {
		shown := admin.BackendState{
			Name: admin.Text(u.Name), State: strings.ToLower(u.Conns.String()), Draining: u.Draining, Calls: u.Calls, Waiting: u.Waiting, LostPings: u.LostPings,
			RetriesByPolicy: u.Retries.ByPolicy, RetriesElsewhere: u.Retries.Elsewhere, RetriesWithheld: u.Retries.Withheld, Addresses: []admin.Address{},
		}
		for _, a := range u.Addresses {
			shown.Addresses = append(shown.Addresses, admin.Address{
				Address: admin.Text(a.Address), Accepts: a.Accepts, Unhealthy: a.Unhealthy, Failure: admin.Text(a.Failure), Connections: a.Connections, Calls: a.Calls, Places: a.Places, Picks: a.Picks,
			})
		}
		all.Backends = append(all.Backends, shown)
	}
	return all
}

// maxACMEOnDemand is how many names are shown that clients asked for.
const maxACMEOnDemand = 200

func (p *program) certificates() admin.Certificates {
	now := time.Now()
	all := admin.Certificates{At: now.UTC(), Certificates: p.observers.certificates.List(now), Problems: []admin.Text{}, ACME: []admin.ACMEName{}}
	for _, problem := range p.keys.Problems() {
		all.Problems = append(all.Problems, admin.Text(problem))
	}
	names, left := p.keys.ACMENames(maxACMEOnDemand)
	for _, n := range names {
		all.ACME = append(all.ACME, admin.ACMEName{
			Name: admin.Text(n.Name), OnDemand: n.OnDemand, State: n.State, NotAfter: n.NotAfter.UTC(), NextTry: n.NextTry.UTC(), FailingSince: n.Since.UTC(), Failures: n.Failures, Problem: admin.Text(n.Problem),
		})
	}
	all.ACMELeft = left
	return all
}

// heldMemory shows so many of the calls, connections and addresses that hold most. With many open
// calls the look at all of them is what costs, so 0 spares it.
func (p *program) heldMemory(holders int) admin.Memory {
	now, conns := p.bridge.Memory(holders)
	at := time.Now()
	all := admin.Memory{
		At: at.UTC(), HeldBytes: now.ClientBytes, LimitBytes: now.ClientLimit, MessageBytes: now.HeldBytes, MessageLimit: now.HeldLimit, Evicted: now.Evicted,
		Calls: []admin.Call{}, Addresses: []admin.AddressMemory{}, Connections: []admin.ConnectionMemory{},
	}
	if holders == 0 {
		return all
	}
	by := make(map[string]*admin.AddressMemory)
	for _, c := range p.bridge.OpenCalls().Top(holders, func(c *bridge.OpenCall) (int64, bool) {
		address := addressOf(c.Peer)
		of := by[address]
		if of == nil {
			of = &admin.AddressMemory{Address: admin.Text(address)}
			by[address] = of
		}
		of.Calls++
		of.MemoryBytes += c.HeldBytes
		all.CallBytes += c.HeldBytes
		return c.HeldBytes, true
	}) {
		all.Calls = append(all.Calls, shownCall(&c, at))
	}
	all.OtherBytes = max(all.HeldBytes-all.CallBytes, 0)
	for _, of := range by {
		all.Addresses = append(all.Addresses, *of)
	}
	slices.SortFunc(all.Addresses, func(a, b admin.AddressMemory) int {
		return cmp.Or(cmp.Compare(b.MemoryBytes, a.MemoryBytes), cmp.Compare(a.Address, b.Address))
	})
	if more := len(all.Addresses) - holders; more > 0 {
		all.Addresses, all.AddressesLeft = all.Addresses[:holders], more
	}
	for _, c := range conns {
		all.Connections = append(all.Connections, admin.ConnectionMemory{Peer: admin.Text(c.Peer), Listener: admin.Text(c.Listener), Transport: admin.Text(c.Transport), Calls: c.Calls, MemoryBytes: c.HeldBytes})
	}
	return all
}

// addressOf returns a peer's address without its port, and allocates nothing.
func addressOf(peer string) string {
	if host, _, err := net.SplitHostPort(peer); err == nil {
		return host
	}
	return peer
}
