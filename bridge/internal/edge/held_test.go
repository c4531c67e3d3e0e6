package edge

import (
	"net"
	"slices"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A silentConn is a connection that has an address alone.
type silentConn struct {
	net.Conn
	port int
}

func (c silentConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: c.port}
}

// TestHeaviestConnections: those with most come first, of the same those with the least
// address, and no more than asked for.
func TestHeaviestConnections(t *testing.T) {
	account := memory.New(1<<30, 0)
	e := New(Options{Memory: account})
	for port, bytes := range []int{30, 10, 20, 30, 30, 0} {
		c := e.newClient(silentConn{port: port}, NewListening(report.Listener{Name: "near"}), Bounds{})
		held := account.NewEntry()
		held.Add(memory.Fixed, bytes)
		e.clients.add(c, held)
		c.on.kind.Store(uint32(port % int(kinds)))
	}
	const peers = "192.0.2.1:"
	all := []HeldConn{
		{Bytes: 30, Peer: peers + "0"},
		{Bytes: 30, Peer: peers + "3", Transport: "websocket"},
		{Bytes: 30, Peer: peers + "4"}, // it has just ended
		{Bytes: 20, Peer: peers + "2", Transport: "h2"},
		{Bytes: 10, Peer: peers + "1", Transport: "http/1.1"},
		{Bytes: 0, Peer: peers + "5"},
	}
	for _, most := range []int{0, 1, 2, 4, 6, 100} {
		got := e.Heaviest(most)
		for i := range got {
			if got[i].Entry.Total() != got[i].Bytes || got[i].Listener != "near" {
				t.Errorf("got %+v", got[i])
			}
			got[i].Entry, got[i].Listener = nil, ""
		}
		if want := all[:min(most, len(all))]; !slices.Equal(got, want) {
			t.Errorf("the first %d: got %+v, want %+v", most, got, want)
		}
	}
}
