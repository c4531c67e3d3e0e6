package quota

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// An addressTable has the usage of each client address. An entry takes about 100
// bytes, and is kept only while a connection or call holds it or one of its buckets
// isn't full: an attack from millions of addresses leaves nothing behind. When
// maxAddresses addresses have entries that can't be forgotten, further addresses
// share one entry a shard, with the limits of one address. Some of them are then
// refused that their own entry would let in, but the table takes no more memory.
type addressTable struct {
	seed   maphash.Seed // secret, so that nobody can fill one shard
	turns  turns
	shards [1 << addressShardBits]addressShard
}

const (
	addressShardBits = 6
	shardAddresses   = 1 << 12
	maxAddresses     = shardAddresses << addressShardBits

	// A shard is swept for entries to forget when it has grown to twice the size left
	// by the last sweep, so that a new entry costs little on average, and every
	// sweepEvery while it is used. While the shard is full, each sweep may find
	// nothing, so fullSweepEvery is between two.
	minSweep       = 64
	sweepEvery     = 10 * time.Second
	fullSweepEvery = time.Second
)

type addressShard struct {
	mu      sync.Mutex
	entries map[uint64]*Address
	sweepAt int     // entries
	swept   int64   // when
	crowd   Address // shared by addresses that found no place
}

// An Address is the usage of one client address. Only the table adds the first holder
// to an entry, with mu held; a holder may add another one.
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

// addressKey returns the table's key for an address: for IPv6 its first 64 bits,
// since an owner of one such address has all of them; for IPv4 a network that no IPv6
// client can come from (multicast). The key of anything else is 0, and so is that of
// IPv6's loopback.
func addressKey(peer string) uint64 {
	addr, err := netip.ParseAddr(gate.HostOf(peer))
	if err != nil {
		return 0
	}
	if addr = addr.Unmap(); addr.Is4() {
		b := addr.As4()
		return 0xff<<56 | uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := addr.As16()
	return binary.BigEndian.Uint64(b[:8])
}

// hold returns the entry of an address and adds a holder.
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

// sweep forgets the entries that nobody uses. mu is held.
func (s *addressShard) sweep(now int64) {
	kept := make(map[uint64]*Address) // a map doesn't shrink
	for key, a := range s.entries {
		if a.holders.Load() > 0 || a.calls.Load() > 0 || a.fallbackRequests.Load() > 0 || !a.rested(now) { // both end after the connection that held it
			kept[key] = a
		}
	}
	s.entries, s.swept = kept, now
	s.sweepAt = min(max(2*len(kept), minSweep), shardAddresses)
}
