package zone

import "testing"

func TestZones(t *testing.T) {
	for _, c := range []struct{ address, escaped, without string }{
		{"[fe80::1%eth0]:9000", "[fe80::1%25eth0]:9000", "[fe80::1]:9000"},
		{"[fe80::1%25eth0]:9000", "[fe80::1%25eth0]:9000", "[fe80::1]:9000"},
		{"[fe80::1%ee0]:9000", "[fe80::1%25ee0]:9000", "[fe80::1]:9000"},
		{"[fe80::1%2]:9000", "[fe80::1%252]:9000", "[fe80::1]:9000"},
		{"[fe80::1%25]:9000", "[fe80::1%2525]:9000", "[fe80::1]:9000"},
		{"[fe80::1%255]:9000", "[fe80::1%25255]:9000", "[fe80::1]:9000"},
		{"dns:///[fe80::1%eth0]:9000", "dns:///[fe80::1%25eth0]:9000", "dns:///[fe80::1]:9000"},
		{"http://[fe80::1%eth0]", "http://[fe80::1%25eth0]", "http://[fe80::1]"},
		{"[::1]:9000", "[::1]:9000", "[::1]:9000"},
		{"localhost:9000", "localhost:9000", "localhost:9000"},
		{"unix:/run/a%b", "unix:/run/a%b", "unix:/run/a%b"},
		{"[fe80::1%]:9000", "[fe80::1%]:9000", "[fe80::1%]:9000"},
		{"[fe80::1%%]:9000", "[fe80::1%%]:9000", "[fe80::1%%]:9000"},
		{"]:[", "]:[", "]:["},
		{"", "", ""},
	} {
		if got := Escape(c.address); got != c.escaped {
			t.Errorf("%q is escaped to %q, want %q", c.address, got, c.escaped)
		}
		if got := Remove(c.address); got != c.without {
			t.Errorf("%q without its zone is %q, want %q", c.address, got, c.without)
		}
	}
}
