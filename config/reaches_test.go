package config

import (
	"net"
	"testing"
)

// TestReachesKnowsTheSpellingsOfAnAddress: whatever an address looks like, a connection
// to it reaches culvert or doesn't.
func TestReachesKnowsTheSpellingsOfAnAddress(t *testing.T) {
	for _, own := range []string{
		"127.0.0.1", "127.1", "127.0.1", "0x7f.1", "0X7F.0.0.1", "0x7f000001", "0177.0.0.1", "017700000001", "2130706433",
		"localhost", "LocalHost.", "app.localhost", "::ffff:127.0.0.1", "::ffff:7f00:1", "0.0.0.0", "0", "::", "",
	} {
		for _, at := range []string{"127.0.0.1:8080", "localhost:8080", "127.1:8080", ":8080", "0.0.0.0:8080", "[::]:8080", "[::ffff:127.0.0.1]:8080"} {
			for _, port := range []string{"8080", "08080"} {
				if !reaches(own, port, at) {
					t.Errorf("%s is said not to reach %s", net.JoinHostPort(own, port), at)
				}
			}
		}
		if reaches(own, "8081", ":8080") || reaches(own, "8080", "10.0.0.1:8080") || reaches(own, "8080", "unix:/run/x") {
			t.Errorf("%s is said to reach another port, another address or a socket", own)
		}
	}
	for _, other := range []string{
		"127.0.0.2", "127.2", "0x7f.2", "2130706434", "128.1", "localhost.example.com", "notlocalhost", "1.2.3.4.5", "127..1", "0x", "0b1", "0o177.1", "1_2", "256.1", "4294967296", "orders",
	} {
		if reaches(other, "8080", "127.0.0.1:8080") {
			t.Errorf("%s is said to reach 127.0.0.1", other)
		}
	}
	for _, c := range []struct{ to, at string }{{"127.2", ":8080"}, {"Orders.", "orders:8080"}, {"10.0xb", "10.0.0.11:8080"}, {"0:0::1", "[::1]:8080"}, {"localhost", "[::1]:8080"}} {
		if !reaches(c.to, "8080", c.at) {
			t.Errorf("%s is said not to reach %s", c.to, c.at)
		}
	}
}
