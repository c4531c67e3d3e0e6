package check

import (
	"net/netip"
	"testing"

	"google.golang.org/grpc/metadata"
)

// TestKeysDiffer: each part of a question that answers may depend on changes the key, and no
// part can be written so that it looks like two.
func TestKeysDiffer(t *testing.T) {
	names := []string{"a", "b"}
	seen := map[key]string{}
	note := func(what string, r Request) {
		k := keyOf(&r, names)
		if before, there := seen[k]; there {
			t.Errorf("%s has the key of %s", what, before)
		}
		seen[k] = what
	}
	note("a call", aCall())
	for what, change := range map[string]func(*Request){
		"method":              func(r *Request) { r.Method += "x" },
		"authority":           func(r *Request) { r.Authority += "x" },
		"method to authority": func(r *Request) { r.Method, r.Authority = r.Method+r.Authority[:1], r.Authority[1:] },
		"scheme":              func(r *Request) { r.Scheme = "http" },
		"sni":                 func(r *Request) { r.SNI = "" },
		"route":               func(r *Request) { r.Route = "other" },
		"client":              func(r *Request) { r.Peer = r.Local },
		"listener's port":     func(r *Request) { r.Local = netip.AddrPortFrom(r.Local.Addr(), r.Local.Port()+1) },
		"listener's address":  func(r *Request) { r.Local = netip.AddrPortFrom(r.Peer.Addr(), r.Local.Port()) },
		"no listener":         func(r *Request) { r.Local = netip.AddrPort{} },
		"a link":              func(r *Request) { r.Peer = netip.MustParseAddrPort("[fe80::1%a]:1") },
		"another link":        func(r *Request) { r.Peer = netip.MustParseAddrPort("[fe80::1%b]:1") },
		"listener on a link":  func(r *Request) { r.Local = netip.MustParseAddrPort("[fe80::1%a]:1") },
		"listener on another": func(r *Request) { r.Local = netip.MustParseAddrPort("[fe80::1%b]:1") },
		"no client":           func(r *Request) { r.Peer = netip.AddrPort{} },
		"certificate":         func(r *Request) { r.CertificateHash[31] = 1 },
		"no principals":       func(r *Request) { r.Principals = nil },
		"an empty principal":  func(r *Request) { r.Principals = []string{""} },
		"joined principals":   func(r *Request) { r.Principals = []string{"spiffe://shop/cartCN=cart"} },
		"a: 1":                func(r *Request) { r.Metadata = metadata.MD{"a": {"1"}} },
		"b: 1":                func(r *Request) { r.Metadata = metadata.MD{"b": {"1"}} },
		"a: 1, 1":             func(r *Request) { r.Metadata = metadata.MD{"a": {"1", "1"}} },
		"a: 11":               func(r *Request) { r.Metadata = metadata.MD{"a": {"11"}} },
		"a: 1, b: 1":          func(r *Request) { r.Metadata = metadata.MD{"a": {"1"}, "b": {"1"}} },
		"an empty a":          func(r *Request) { r.Metadata = metadata.MD{"a": {""}} },
		"a that looks like b": func(r *Request) { r.Metadata = metadata.MD{"a": {"1\x01\x011"}} },
	} {
		r := aCall()
		change(&r)
		note(what, r)
	}
}

// TestKeysAreTheSame: what the service doesn't get, or must not judge by, isn't in the key.
func TestKeysAreTheSame(t *testing.T) {
	r := aCall()
	other := r
	other.Metadata = metadata.MD{"authorization": r.Metadata["authorization"], "x-trace": {"7"}}
	other.ID, other.Peer = "c2", netip.AddrPortFrom(r.Peer.Addr(), 1)
	if names := []string{"authorization"}; keyOf(&other, names) != keyOf(&r, names) {
		t.Error("the keys differ")
	}
}

// TestCredentialsDiffer: each credential that the service gets counts, and nothing else.
func TestCredentialsDiffer(t *testing.T) {
	anonymous := func(md metadata.MD) *Request { return &Request{Metadata: md} }
	all, some := &Checker{}, &Checker{o: Options{Names: []string{"cookie", "x-a"}}}
	seen := map[key]string{}
	for what, r := range map[string]*Request{
		"a key":          anonymous(metadata.MD{"x-api-key": {"a"}, "x-a": {"1"}}),
		"a token":        anonymous(metadata.MD{"authorization": {"a"}}),
		"two tokens":     anonymous(metadata.MD{"authorization": {"a", "a"}}),
		"a longer one":   anonymous(metadata.MD{"authorization": {"aa"}}),
		"a key, a token": anonymous(metadata.MD{"authorization": {"a"}, "x-api-key": {"a"}}),
		"a certificate":  {CertificateHash: [32]byte{1}},
	} {
		k, has := all.Credentials(r)
		if before, there := seen[k]; there || !has {
			t.Errorf("%s: has %v, and the key of %q", what, has, before)
		}
		seen[k] = what
		if again, _ := all.Credentials(r); again != k {
			t.Errorf("%s has two keys", what)
		}
	}
	if _, has := all.Credentials(anonymous(metadata.MD{"x-a": {"1"}})); has {
		t.Error("any metadata is a credential")
	}
	if _, has := some.Credentials(anonymous(metadata.MD{"authorization": {"a"}, "x-a": {"1"}})); has {
		t.Error("a credential counts that the service doesn't get")
	}
	if one, has := some.Credentials(anonymous(metadata.MD{"cookie": {"a"}, "authorization": {"a"}})); !has {
		t.Error("the cookie doesn't count")
	} else if other, _ := some.Credentials(anonymous(metadata.MD{"cookie": {"a"}, "authorization": {"b"}})); one != other {
		t.Error("a credential counts that the service doesn't get")
	}
}
