package tries

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func client(text string) netip.Prefix { return Client(netip.MustParseAddr(text)) }

func TestClient(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
		"127.0.0.9": "127.0.0.0/8", "::1": "127.0.0.0/8", "::ffff:127.0.0.1": "127.0.0.0/8",
	} {
		if got := client(in).String(); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	if got := Client(netip.Addr{}); got.IsValid() {
		t.Errorf("no address is %v", got)
	}
}

// TestShare: an address has its own share, which comes back with time.
func TestShare(t *testing.T) {
	var tries Tries
	share := Share{3, time.Second}
	now, one := time.Now(), client("192.0.2.7")
	for i := range 3 {
		if wait := tries.Wait(one, now); wait != 0 {
			t.Errorf("waits %v after %d tries", wait, i)
		}
		tries.Failed(one, share, now)
	}
	for ago, want := range map[time.Duration]time.Duration{0: time.Second, time.Second / 4: 3 * time.Second / 4, time.Second: 0} {
		if got := tries.Wait(one, now.Add(ago)); got.Round(time.Millisecond) != want {
			t.Errorf("after %v: waits %v, want %v", ago, got, want)
		}
	}
	if tries.Wait(client("192.0.2.8"), now) != 0 {
		t.Error("another address waits, too")
	}
}

// TestTriesAreBounded: an attacker with many addresses fills no memory, and those that there
// is no room for have one count. That of this host is its own in any case.
func TestTriesAreBounded(t *testing.T) {
	var tries Tries
	share := Share{10, time.Second}
	now := time.Now()
	address := func(i int) netip.Prefix { return client(fmt.Sprintf("2001:db8:%x:%x::%x", i>>16, i&0xffff, i)) }
	for i := range maxAddresses + 100 {
		tries.Failed(address(i), share, now)
	}
	if len(tries.of) != maxAddresses {
		t.Errorf("%d addresses", len(tries.of))
	}
	other, own := client("198.51.100.1"), client("127.0.0.1")
	if tries.Wait(other, now) == 0 {
		t.Error("an address without room doesn't wait for the others")
	}
	if tries.Wait(address(0), now) != 0 {
		t.Error("an address with room waits for the others")
	}
	for i := range share.AtOnce {
		if tries.Wait(own, now) != 0 {
			t.Errorf("this host waits for the others after %d of its tries", i)
		}
		tries.Failed(own, share, now)
	}
	if tries.Wait(own, now) == 0 || len(tries.of) != maxAddresses+1 {
		t.Errorf("this host never waits; %d addresses", len(tries.of))
	}
	later := now.Add(time.Duration(share.AtOnce) * share.Every)
	tries.Failed(other, share, later)
	if len(tries.of) != 1 {
		t.Errorf("%d addresses later", len(tries.of))
	}
}
