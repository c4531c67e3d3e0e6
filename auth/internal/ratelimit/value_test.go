package ratelimit

import (
	"strings"
	"testing"
	"unicode/utf8"
)

var joint = jointsOf([]Descriptor{{{Key: "subject"}, {Key: "tenant"}}, {{Key: "remote_address"}}})

func TestValuesThatAreHashed(t *testing.T) {
	hash := func(v string) bool { return strings.HasPrefix(joint.bounded(v), hashPrefix) }
	for v, want := range map[string]bool{
		"alice":                        false,
		"caf\u00e9":                    false,
		"svc_batch":                    false,
		"tenant":                       false,
		strings.Repeat("a", 256):       false,
		strings.Repeat("a", 257):       true,
		"sha256:" + "0123":             true,
		"a\nb":                         true,
		"\x7f":                         true,
		"a\xffb":                       true,
		"right \u202eto left":          true,
		"alice_tenant_blue":            true,
		"alice_tenant":                 true,
		"subject_alice":                true,
		"a_remote_address_b":           true,
		"a_remote_addres_b":            false,
		"alice_tenants_blue":           false,
		"alice tenant blue":            false,
		"spiffe://shop.example/cart_1": false,
	} {
		if got := hash(v); got != want {
			t.Errorf("%.40q is hashed: %v, want %v", v, got, want)
		}
	}
	if got, want := joint.bounded("a\nb"), "sha256:7e18f737311b2dc3b2f269dd78396b0351f14fb66efa879f768cb23181883c78"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLongValuesStayApart: neither by their beginnings, nor by the hash of another.
func TestLongValuesStayApart(t *testing.T) {
	long := strings.Repeat("a", 300)
	seen := map[string]string{}
	for _, v := range []string{long, long + "b", "b" + long, long[:256], joint.bounded(long), joint.bounded(joint.bounded(long))} {
		got := joint.bounded(v)
		if other, there := seen[got]; there {
			t.Errorf("%q and %q are both %q", v, other, got)
		}
		seen[got] = v
	}
}

// FuzzValue: a value has its bound and is text. Different values stay so, also when Envoy's
// service joins them with their keys.
func FuzzValue(f *testing.F) {
	f.Add("alice", "blue", "alice", "green")
	f.Add("alice_tenant_blue", "green", "alice", "blue_tenant_green")
	f.Add("alice_tenant", "blue", "alice", "tenant_blue")
	f.Add("sha256:00", strings.Repeat("a", 257), "a\xff", "caf\u00e9")
	f.Add("_", "_", "__", "")
	counted := func(a, b string) string {
		return "subject_" + joint.bounded(a) + "_tenant_" + joint.bounded(b) + "_"
	}
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		for _, v := range []string{a, b, c, d} {
			if got := joint.bounded(v); len(got) > MaxValueBytes || !utf8.ValidString(got) || strings.ContainsAny(got, "\r\n\x00") {
				t.Errorf("%q is %q", v, got)
			}
			if (v == a) != (joint.bounded(v) == joint.bounded(a)) {
				t.Errorf("%q and %q are both %q", v, a, joint.bounded(a))
			}
		}
		if got := counted(a, b); (got == counted(c, d)) != (a == c && b == d) {
			t.Errorf("%q, %q and %q, %q share the count %q", a, b, c, d, got)
		}
		if alone := "subject_" + joint.bounded(c) + "_"; alone == counted(a, b) {
			t.Errorf("%q alone and %q, %q share the count %q", c, a, b, alone)
		}
	})
}
