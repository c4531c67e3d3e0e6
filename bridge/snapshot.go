package bridge

import "github.com/culvert-grpc/culvert/bridge/report"

// A Snapshot is the state of a Server at one moment, for gauges and for people.
// Snapshot reads the parts one after the other, so they may differ by events in
// between.
type Snapshot struct {
	Calls       []CallCount          // under way; sorted by listener, then transport
	Connections []report.Connections // open; sorted by listener, then transport
	Traffic     []Traffic            // since the Server was made; sorted by listener, then transport
	Ages        []AgeCount           // of the calls under way: all classes, the youngest first
	Blocked     []Blocked            // since the Server was made; sorted by route, then backend, with the others last

	// HeldBytes counts the bytes of held messages, with up to 4 KiB for each running
	// call that is counted ahead. HeldLimit is limits.buffered_bytes.
	HeldBytes, HeldLimit int64

	// ClientBytes counts all bytes held for clients. ClientLimit is its bound, or 0:
	// Config.Memory.
	ClientBytes, ClientLimit int64

	Evicted int64 // calls so far that were ended because others needed the memory; without connections

	Panics int64 // recovered so far: each is a defect of culvert, or of what its embedder gave it

	DroppedValues int64 // of metadata so far, that gRPC can't carry

	Upstreams []UpstreamState // sorted by name; a replaced one until its last call has ended

	Draining bool // the Server accepts no new calls
}

// A CallCount is the number of calls of one transport on one listener.
type CallCount struct {
	Listener  string // its name
	Transport string // as in logs: "grpc-web", "h2ts+grpc"; "web": requests to the web server
	Calls     int
}

// Snapshot returns the Server's current state. It holds the lock that calls begin and end
// with only while it lists them.
func (s *Server) Snapshot() Snapshot {
	now, _ := s.Memory(0)
	s.registry.count(&now)
	now.Connections = countTunnels(s.edge.Tally(), s.tunnels.Tally())
	now.Panics = s.panics.Count()
	now.DroppedValues = s.droppedValues.Load()
	now.Upstreams = s.Upstreams()
	now.Draining = s.refusing.Load()
	return now
}

// Memory returns what a Snapshot says of memory, without the cost of the rest, which it leaves
// unset, and the connections that hold most themselves: most first, and at most so many.
func (s *Server) Memory(conns int) (Snapshot, []HeldConn) {
	now := Snapshot{
		HeldBytes:   s.account.Used(),
		HeldLimit:   s.account.Messages(),
		ClientBytes: s.account.Held(),
		ClientLimit: s.account.Total(),
		Evicted:     s.registry.evicted.Load(),
	}
	return now, heldConns(s, conns)
}

// countTunnels adds the tunnels of each listener to the WebSockets that carry them.
func countTunnels(all []report.Connections, tunnels map[string]int) []report.Connections {
	for i := range all {
		if c := &all[i]; c.Transport == "websocket" { // the two counts may differ for a moment
			c.Tunnels = min(tunnels[c.Listener], c.Open)
		}
	}
	return all
}

// Upstreams returns the Upstreams of a Snapshot, without the cost of the rest.
func (s *Server) Upstreams() []UpstreamState {
	states := s.upstreams.States()
	for _, u := range states {
		for i := range u.Addresses {
			u.Addresses[i].Failure = s.cfg.Words.Say(u.Addresses[i].Failure)
		}
	}
	return states
}

// An UpstreamState is the state of a backend and its connections.
type UpstreamState = report.UpstreamState
