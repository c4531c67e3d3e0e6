package edge

import (
	"net"
	"reflect"
	"sync"
)

// takeovers are the connections that a WebSocket of culvert's is about to take over.
// net/http reports every takeover, but not which code takes the connection over.
type takeovers struct{ conns sync.Map }

// announce is called before a takeover.
func (t *takeovers) announce(c net.Conn) {
	if reflect.ValueOf(c).Comparable() {
		t.conns.Store(c, nil)
	}
}

// forget reports whether the takeover was announced, and forgets it. It returns true
// for a connection that it can't tell from others.
func (t *takeovers) forget(c net.Conn) bool {
	if !reflect.ValueOf(c).Comparable() {
		return true
	}
	_, announced := t.conns.LoadAndDelete(c)
	return announced
}
