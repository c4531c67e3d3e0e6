package network

import (
	"net/url"
	"testing"
)

// TestNamesInASCII: a name with other letters goes to name servers, into certificates' checks
// and into requests as DNS has it.
func TestNamesInASCII(t *testing.T) {
	for in, want := range map[string]string{
		"https://bücher.example":      "https://xn--bcher-kva.example",
		"https://BÜCHER.example:8443": "https://xn--bcher-kva.example:8443",
		"http://例え。テスト/grpc":          "http://xn--r8jz45g.xn--zckzah/grpc",
		"https://my_host":             "https://my_host",
		"https://[::1]:1":             "https://[::1]:1",
		"https://b\u200dücher.a":      "", // a joiner where none may be
		"https://a\ufffd.example":     "",
	} {
		got, err := ParseTarget(in)
		if (err != nil) != (want == "") || err == nil && got.String() != want {
			t.Errorf("%s: %s, %v, want %q", in, got, err, want)
		}
	}
	through, err := Through("http://u:p@bücher.example:3128")
	if err != nil {
		t.Fatal(err)
	}
	n := &Network{Proxy: through, ConnectTo: "bücher.example:1"}
	p, err := n.ProxyFor(Target{Host: "edge.example.com", Port: "80"})
	if want, _ := url.Parse("http://u:p@xn--bcher-kva.example:3128"); err != nil || p.String() != want.String() {
		t.Errorf("%v, %v, want %v", p, err, want)
	}
	if got, want := n.address(Target{}), "xn--bcher-kva.example:1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
