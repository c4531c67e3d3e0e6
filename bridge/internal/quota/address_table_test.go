package quota

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
)

func TestAddressKey(t *testing.T) {
	for _, same := range [][]string{
		{"192.0.2.1:443", "192.0.2.1", "[::ffff:192.0.2.1]:1", "::ffff:192.0.2.1"},
		{"192.0.2.2"},
		{"[2001:db8:1:2::1]:443", "2001:db8:1:2:ffff:ffff:ffff:ffff", "[2001:db8:1:2::5%eth0]:80"},
		{"2001:db8:1:3::1"},
		{"fe80::1%eth0", "fe80::2%eth1"},
		{"[::1]:80", "::1", "", "nobody", "@", "unix", "1.2.3"},
	} {
		for _, peer := range same {
			if got, want := addressKey(peer), addressKey(same[0]); got != want {
				t.Errorf("%q counts as %x, want %x as does %q", peer, got, want, same[0])
			}
		}
	}
	seen := map[uint64]string{}
	for _, peer := range []string{"192.0.2.1", "192.0.2.2", "0.0.0.0", "255.255.255.255", "2001:db8:1:2::1", "2001:db8:1:3::1", "::c000:201:0:0:0:0", "fe80::1", ""} {
		key := addressKey(peer)
		if other, taken := seen[key]; taken {
			t.Errorf("%q counts with %q", peer, other)
		}
		seen[key] = peer
	}
}

// FuzzAddressKey: no two networks are one, and an IPv4 address is itself in
// each way of writing it.
func FuzzAddressKey(f *testing.F) {
	f.Add("192.0.2.1:443", "[::ffff:192.0.2.1]:443")
	f.Add("[2001:db8::1]:1", "2001:db8::2")
	f.Add("[fe80::1%eth0]:1", "ff00::c000:201")
	f.Add("unix", "")
	f.Fuzz(func(t *testing.T, a, b string) {
		network := func(peer string) netip.Prefix {
			addr, err := netip.ParseAddr(gate.HostOf(peer))
			if err != nil {
				addr = netip.IPv6Loopback()
			}
			addr = addr.Unmap().WithZone("")
			bits := 64
			if addr.Is4() {
				bits = 32
			}
			p, _ := addr.Prefix(bits) // it has as many
			return p
		}
		pa, pb := network(a), network(b)
		if pa.Addr().IsMulticast() || pb.Addr().IsMulticast() {
			return // nobody's
		}
		if (pa == pb) != (addressKey(a) == addressKey(b)) {
			t.Errorf("%q is in %v, %q in %v: they count as %x and %x", a, pa, b, pb, addressKey(a), addressKey(b))
		}
	})
}

// TestAddressesAreForgotten as soon as nothing is lost by it.
func TestAddressesAreForgotten(t *testing.T) {
	table := newAddressTable()
	size := func() (n int) {
		for i := range table.shards {
			n += len(table.shards[i].entries)
		}
		return n
	}
	held := table.hold(1, 0)
	busy := table.hold(2, 0)
	busy.calling.full.Store(int64(time.Hour))
	busy.holders.Add(-1)
	owing := table.hold(3, 0)
	owing.expanding.spend(1, 0, 3600)
	owing.holders.Add(-1)
	for key := range uint64(100_000) {
		table.hold(1000+key, 0).holders.Add(-1)
	}
	if got := size(); got > 2*minSweep<<addressShardBits {
		t.Errorf("%d addresses are kept that nobody holds", got)
	}
	now := int64(time.Minute)
	for key := range uint64(100_000) {
		table.hold(1<<40+key, now).holders.Add(-1)
	}
	if table.hold(1, now) != held || table.hold(2, now) != busy || table.hold(3, now) != owing {
		t.Error("one is forgotten that is held, or whose bucket isn't full")
	}
}

// TestNobodyComesBackAnew: an address whose tokens are spent gets no others when it
// is forgotten, whichever addresses come meanwhile. The same applies to an address
// whose calls are still ending when its connection has gone.
func TestNobodyComesBackAnew(t *testing.T) {
	const second = int64(time.Second)
	table := newAddressTable()
	visit := func(key uint64, now int64) *Address {
		a := table.hold(key, now)
		a.holders.Add(-1)
		return a
	}
	visit(2, 0).calls.Store(1)
	taken, key := 0, uint64(1000)
	for now := int64(0); now < 20*second; now += second / 10 {
		for visit(1, now).calling.take(100, at(now)) == 0 {
			taken++
		}
		for range 2000 {
			visit(key, now).calling.take(1, at(now)) // each is kept for a second
			key++
		}
	}
	// One second's worth at first, and then what time brings.
	if want := 100 + 100*20; taken > want || taken < want-100 {
		t.Errorf("in 20 s an address took %d tokens of 100 a second, want %d or a few less", taken, want)
	}
	if n := visit(2, 20*second).calls.Load(); n != 1 {
		t.Errorf("an address with a call that is ending has %d", n)
	}
}

// TestOneUsedShardForgetsByTheTime: what an attack leaves goes, although no
// new address comes.
func TestOneUsedShardForgetsByTheTime(t *testing.T) {
	table := newAddressTable()
	var attack []*Address
	for key := range uint64(10_000) {
		attack = append(attack, table.hold(key, 0))
	}
	for _, a := range attack {
		a.holders.Add(-1)
	}
	for key := range uint64(10_000) { // every shard
		table.hold(key%5000, int64(sweepEvery)).holders.Add(-1)
	}
	for i := range table.shards {
		if n := len(table.shards[i].entries); n > minSweep {
			t.Errorf("shard %d has %d entries left", i, n)
		}
	}
}

// TestMillionsOfAddresses take the memory of maxAddresses at most, also while
// all are held, and who finds no place has the limits of one.
func TestMillionsOfAddresses(t *testing.T) {
	table := newAddressTable()
	before := heapBytes()
	random := rand.New(rand.NewPCG(1, 2))
	for range 2_000_000 {
		table.hold(random.Uint64(), 0)
	}
	entries, crowded := 0, int32(0)
	for i := range table.shards {
		s := &table.shards[i]
		entries += len(s.entries)
		crowded += s.crowd.holders.Load()
	}
	if entries > maxAddresses || entries < maxAddresses*9/10 {
		t.Errorf("%d entries, want %d or a little less", entries, maxAddresses)
	}
	if want := int32(2_000_000 - entries); crowded != want {
		t.Errorf("%d share an entry, want %d", crowded, want)
	}
	if each := (heapBytes() - before) / uint64(entries); each > 184 {
		t.Errorf("an entry takes %d bytes, want at most 184", each)
	} else {
		t.Logf("an entry takes %d bytes", each)
	}
	runtime.KeepAlive(table)
}

func heapBytes() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestSharedTable is for the race detector: an address is held, counted and
// forgotten by many at once, and never twice in the table.
func TestSharedTable(t *testing.T) {
	table := newAddressTable()
	var work sync.WaitGroup
	for worker := range 8 {
		work.Go(func() {
			for i := range 2000 {
				now := int64(i) * int64(time.Second)
				key := addressKey(fmt.Sprintf("192.0.2.%d", i%200))
				a := table.hold(key, now)
				b := table.hold(key, now)
				if a != b {
					t.Errorf("worker %d: an address that is held is there twice", worker)
				}
				a.holders.Add(-2)
			}
		})
	}
	work.Wait()
}
