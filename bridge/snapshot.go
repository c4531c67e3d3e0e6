package bridge

import (
	"cmp"
	"slices"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/upstream"
)

// A Snapshot is what a Server has at one moment, for gauges and for people who
// look at it. Its parts are read one after the other, so that they may differ by
// what happens meanwhile.
type Snapshot struct {
	Calls       []CallCount        // under way; sorted by listener, then transport
	Connections []edge.Connections // open; likewise

	// HeldBytes is what is held of messages, with up to 4 KiB for each running call that
	// is counted ahead. HeldLimit is limits.buffered_bytes.
	HeldBytes, HeldLimit int64

	// ClientBytes is what is held for clients in all, ClientLimit is the bound of that
	// or 0: Config.Memory.
	ClientBytes, ClientLimit int64

	Evicted int64 // calls so far that were ended because others needed the memory; no connections

	Upstreams []upstream.State // sorted by name; a replaced one until its last call has ended

	Draining bool // the Server takes no new calls
}

// A CallCount says how many calls of one transport came in on a listener.
type CallCount struct {
	Listener  string // its name
	Transport string // as in logs: "grpc-web", "h2ts+grpc"
	Calls     int
}

// Snapshot returns what the Server has now. It holds the lock that calls begin and
// end with while it counts them.
func (s *Server) Snapshot() Snapshot {
	return Snapshot{
		Calls:       s.registry.count(),
		Connections: s.edge.Tally(),
		HeldBytes:   s.account.Used(),
		HeldLimit:   s.account.Messages,
		ClientBytes: s.account.Held(),
		ClientLimit: s.cfg.Memory,
		Evicted:     s.registry.evicted.Load(),
		Upstreams:   s.upstreams.States(),
		Draining:    s.draining.Load(),
	}
}

// count counts the calls under way.
func (g *registry) count() []CallCount {
	type key struct{ listener, transport string }
	counts := make(map[key]int)
	g.mu.Lock()
	for r := range g.calls {
		counts[key{r.call.info.Listener, r.call.info.Transport}]++
	}
	g.mu.Unlock()
	all := make([]CallCount, 0, len(counts))
	for k, n := range counts {
		all = append(all, CallCount{k.listener, k.transport, n})
	}
	slices.SortFunc(all, func(a, b CallCount) int {
		return cmp.Or(cmp.Compare(a.Listener, b.Listener), cmp.Compare(a.Transport, b.Transport))
	})
	return all
}
