package edge

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A kind is the protocol of a connection, as far as the client has shown it.
type kind uint32

const ( // in the order that a connection goes through them
	kindUnheard kind = iota // no request has come
	kindHTTP1
	kindHTTP2
	kindWebSocket
	kindGone // it has ended
	kinds
)

var kindNames = [kindGone]string{kindUnheard: "", kindHTTP1: "http/1.1", kindHTTP2: "h2", kindWebSocket: "websocket"}

// A tally counts the open connections of a listener by their kind.
type tally [kinds]atomic.Int64

// Tally returns how many connections are open, by listener and transport, sorted and
// without zeros. Their sum equals Open, unless connections begin or end meanwhile. A
// connection that changes its transport meanwhile may count twice: the counts are read
// one after the other. A tunnel doesn't count: its WebSocket does.
func (e *Edge) Tally() []report.Connections {
	open := make(map[report.Connections]int) // listeners may share a name
	for _, l := range e.listenings() {
		for k := range kindGone {
			if n := l.open[k].Load(); n > 0 {
				open[report.Connections{Listener: l.Name, Transport: kindNames[k]}] += int(n)
			}
		}
	}
	var all []report.Connections
	for c, n := range open {
		c.Open = n
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b report.Connections) int {
		return cmp.Or(cmp.Compare(a.Listener, b.Listener), cmp.Compare(a.Transport, b.Transport))
	})
	return all
}

// listenings returns the listeners that may have connections.
func (e *Edge) listenings() []*Listening {
	all := []*Listening{e.own}
	for _, ln := range e.listeners() {
		if !slices.Contains(all, ln.of) {
			all = append(all, ln.of)
		}
	}
	return all
}

// became counts the connection as another kind. Several requests may call it at the
// same time. A connection that Serve didn't accept stays kindUnheard: its requests and
// its end find different Conns.
func (c *Conn) became(k kind) {
	if c.tunnel != nil || c.client == nil {
		return
	}
	for {
		old := kind(c.kind.Load())
		if old == k || old == kindGone { // net/http's HTTP/2 may report the end before a handler begins
			return
		}
		if c.kind.CompareAndSwap(uint32(old), uint32(k)) {
			c.listening.open[k].Add(1) // first: see Listening.Open
			c.listening.open[old].Add(-1)
			return
		}
	}
}
