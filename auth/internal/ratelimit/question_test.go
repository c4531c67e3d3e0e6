package ratelimit

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
)

// pairs returns a question's descriptors as texts.
func pairs(q *ratelimitv3.RateLimitRequest) (list []string) {
	for _, d := range q.GetDescriptors() {
		var texts []string
		for _, e := range d.GetEntries() {
			texts = append(texts, e.GetKey()+"="+e.GetValue())
		}
		list = append(list, strings.Join(texts, "; "))
	}
	return list
}

func TestQuestions(t *testing.T) {
	o := patient()
	o.Descriptors = []Descriptor{
		{{Key: "identity", Source: FromIdentity}},
		{{Key: "subject", Source: FromSubject}, {Key: "issuer", Source: FromIssuer}},
		{{Key: "kind", Source: FromKind}},
		{{Key: "class", Text: "all"}, {Key: "method", Source: FromMethod}},
		{{Key: "service", Source: FromService}, {Key: "route", Source: FromRoute}},
		{{Key: "peer", Source: FromPeer}},
		{{Key: "tenant", Source: FromMetadata, Text: "x-tenant"}, {Key: "several", Source: FromMetadata, Text: "x-several"}},
	}
	l := fakeLimiter(t, o, &fakeService{})
	whole := []string{
		"identity=jwt https://idp.example alice", "subject=alice; issuer=https://idp.example", "kind=jwt",
		"class=all; method=/shop.v1.Orders/Get", "service=shop.v1.Orders; route=orders", "peer=192.0.2.1", "tenant=blue; several=a,b",
	}
	without := func(left ...int) (list []string) {
		for i, text := range whole {
			if !slices.Contains(left, i) {
				list = append(list, text)
			}
		}
		return list
	}
	for name, c := range map[string]struct {
		change func(*Facts)
		want   []string
	}{
		"everything":        {func(*Facts) {}, whole},
		"no identity":       {func(f *Facts) { f.Subject = "" }, without(0, 1, 2)},
		"no issuer":         {func(f *Facts) { f.Kind, f.Issuer = "mtls", "" }, append([]string{"identity=mtls  alice", "kind=mtls"}, whole[3:]...)},
		"no metadata":       {func(f *Facts) { f.Metadata = nil }, without(6)},
		"one of two":        {func(f *Facts) { delete(f.Metadata, "x-several") }, without(6)},
		"an empty value":    {func(f *Facts) { f.Metadata["x-tenant"] = []string{""} }, without(6)},
		"no route, no peer": {func(f *Facts) { f.Route, f.Peer = "", netip.Addr{} }, without(4, 5)},
		"no method":         {func(f *Facts) { f.Method = "" }, without(3, 4)},
	} {
		f := aCall()
		c.change(&f)
		q := l.question(&f)
		if got := pairs(q); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
		if q.GetDomain() != "shop" || q.GetHitsAddend() != 1 {
			t.Errorf("%s: got %v", name, q)
		}
	}
	if q := fakeLimiter(t, patient(), &fakeService{}).question(&Facts{}); q != nil {
		t.Errorf("without facts: got %v", q)
	}
}

// TestAddressesOfOneOwnerShareALimit in the spellings that there are.
func TestAddressesOfOneOwnerShareALimit(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1":               "192.0.2.1",
		"::ffff:192.0.2.1":        "192.0.2.1",
		"2001:db8:1:2:3:4:5:6":    "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::1":    "2001:db8:1:2::/64",
		"fe80::1%eth0":            "fe80::/64",
		"::1":                     "::/64",
		"2001:db8:1:3:3:4:5:6%en": "2001:db8:1:3::/64",
	} {
		if got := peer(netip.MustParseAddr(in)); got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
	if got := peer(netip.Addr{}); got != "" {
		t.Errorf("an unknown address: got %q", got)
	}
}

// TestIdentitiesDontShareALimit whose parts are put together in other places.
func TestIdentitiesDontShareALimit(t *testing.T) {
	seen := map[string]Facts{}
	for _, f := range []Facts{
		{Kind: "jwt", Issuer: "a", Subject: "b c"},
		{Kind: "jwt", Issuer: "a b", Subject: "c"},
		{Kind: "jwt", Issuer: "a%20b", Subject: "c"},
		{Kind: "jwt", Issuer: "", Subject: "a b c"},
		{Kind: "jwt", Issuer: "", Subject: " a b c"},
		{Kind: "mtls", Issuer: "a", Subject: "b c"},
		{Kind: "api-key", Issuer: "", Subject: "b c"},
	} {
		v := f.identity()
		if other, there := seen[v]; there {
			t.Errorf("%+v and %+v are both %q", f, other, v)
		}
		seen[v] = f
	}
}
