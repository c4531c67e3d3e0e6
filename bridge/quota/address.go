package quota

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/memory"
)

// An addressTable has what each client address uses. An entry takes about 100
// bytes, and is kept only while somebody holds it or a bucket of it isn't
// full: an attack from millions of addresses leaves nothing behind. When
// maxAddresses have entries that can't be forgotten, further ones share one
// entry a shard, with the limits of one address: some are then refused that an
// entry of their own would let in, and no memory is taken.
type addressTable struct {
	seed   maphash.Seed // nobody outside knows it, so that nobody can fill one shard
	shards [1 << addressShardBits]addressShard
}

const (
	addressShardBits = 6
	shardAddresses   = 1 << 12
	maxAddresses     = shardAddresses << addressShardBits

	// A shard is looked through for entries to forget when it has grown to
	// twice what was left the last time, so that a new entry costs little on
	// average, and every sweepEvery while it is used. While it is full, each
	// look may find nothing, so fullSweepEvery is between two.
	minSweep       = 64
	sweepEvery     = 10 * time.Second
	fullSweepEvery = time.Second
)

type addressShard struct {
	mu      sync.Mutex
	entries map[uint64]*Address
	sweepAt int     // entries
	swept   int64   // when
	crowd   Address // who found no place
}

// An Address is what a client address uses. Only the table gives its first
// holder to an entry, with mu held; whoever is one may add another.
type Address struct {
	holders atomic.Int32
	tally
	memory memory.Address
}

func newAddressTable() *addressTable {
	t := &addressTable{seed: maphash.MakeSeed()}
	for i := range t.shards {
		t.shards[i].entries, t.shards[i].sweepAt = make(map[uint64]*Address), minSweep
	}
	return t
}

// addressKey is an address as the table knows it: IPv6 by its first 64 bits,
// since whoever has one such address has all of them, and IPv4 as a network
// that no IPv6 client can come from (multicast). What isn't an address has 0,
// as has IPv6's loopback.
func addressKey(peer string) uint64 {
	addr, err := netip.ParseAddr(gate.HostOf(peer))
	if err != nil {
		return 0
	}
	return ipKey(addr)
}

func ipKey(addr netip.Addr) uint64 {
	if addr = addr.Unmap(); addr.Is4() {
		b := addr.As4()
		return 0xff<<56 | uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := addr.As16()
	return binary.BigEndian.Uint64(b[:8])
}

// hold returns the entry of an address, which is held until its holders are
// one less.
func (t *addressTable) hold(key uint64, now int64) *Address {
	s := &t.shards[maphash.Comparable(t.seed, key)>>(64-addressShardBits)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.entries) > minSweep && now-s.swept >= int64(sweepEvery) {
		s.sweep(now)
	}
	a := s.entries[key]
	if a == nil {
		a = s.add(key, now)
	}
	a.holders.Add(1)
	return a
}

// add makes an entry, if there is a place. mu is held.
func (s *addressShard) add(key uint64, now int64) *Address {
	if len(s.entries) >= s.sweepAt && (s.sweepAt < shardAddresses || now-s.swept >= int64(fullSweepEvery)) {
		s.sweep(now)
	}
	if len(s.entries) >= shardAddresses {
		return &s.crowd
	}
	a := new(Address)
	s.entries[key] = a
	return a
}

// sweep forgets who is not there any more. mu is held.
func (s *addressShard) sweep(now int64) {
	kept := make(map[uint64]*Address) // a map doesn't shrink
	for key, a := range s.entries {
		if a.holders.Load() > 0 || a.calls.Load() > 0 || !a.rested(now) { // calls end after the connection that held it
			kept[key] = a
		}
	}
	s.entries, s.swept = kept, now
	s.sweepAt = min(max(2*len(kept), minSweep), shardAddresses)
}
