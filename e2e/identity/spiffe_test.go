package identity

import (
	"crypto/tls"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/identity/provider"
)

const (
	trustDomain = "spiffe://example.org/ns/"
	web         = trustDomain + "shop/sa/web"
)

// startWithWorkloads starts culvert with a page's configuration and the certificates of a CA. The
// function returns a client with a certificate of these SPIFFE IDs, or without one.
func startWithWorkloads(t *testing.T, config string, pairs ...string) (*program, func(ids ...string) *client) {
	t.Helper()
	ca := newAuthority(t)
	own, err := url.Parse(trustDomain + "shop/sa/culvert")
	if err != nil {
		t.Fatal(err)
	}
	cert, key := ca.server(t, "grpc.example.com", own)
	config = with(t, config, `":443"`, "127.0.0.1:0", "/run/spiffe/svid.pem", cert, "/run/spiffe/svid_key.pem", key, "/run/spiffe/svid_bundle.pem", ca.file, "localhost:9000", startBackend(t))
	culvert := startCulvert(t, with(t, config, pairs...))
	return culvert, func(ids ...string) *client {
		var certs []tls.Certificate
		if len(ids) > 0 {
			certs = append(certs, ca.workload(t, ids...))
		}
		return &client{address: culvert.address, name: "grpc.example.com", tls: ca.trusting("grpc.example.com", certs...)}
	}
}

// TestRulesBySPIFFEID: rules by SPIFFE ID, by the configuration of the page.
func TestRulesBySPIFFEID(t *testing.T) {
	t.Parallel()
	g := readGuide(t, "spiffe.md")
	culvert, as := startWithWorkloads(t, g.block(t, "yaml", 0))
	for _, row := range []struct {
		id, method string
		want       codes.Code
	}{
		{web, "Get", codes.OK},
		{web, "Cancel", codes.PermissionDenied},
		{trustDomain + "shop/sa/web2", "Get", codes.PermissionDenied},
		{trustDomain + "shop/sa/batch", "Cancel", codes.OK},
		{trustDomain + "any/sa/batch", "Delete", codes.OK},
		{trustDomain + "any/more/sa/batch", "Get", codes.PermissionDenied},
		{trustDomain + "test/sa/batch", "Cancel", codes.OK},
		{trustDomain + "test/sa/batch", "Delete", codes.PermissionDenied},
		{strings.Replace(web, "example.org", "example.com", 1), "Get", codes.PermissionDenied},
	} {
		c := as(row.id)
		for way := range ways {
			got := c.call(t, way, "shop.v1.Orders/"+row.method, "x-culvert-subject", "root")
			if got.code != row.want {
				t.Errorf("%s by %s: %v, want %v", on(way, row.method), row.id, got, row.want)
			}
			if row.want == codes.OK && (got.got("x-culvert-subject") != row.id || got.got("x-culvert-kind") != "mtls") {
				t.Errorf("%s by %s: the backend has got %v", on(way, row.method), row.id, got.header)
			}
			if row.want != codes.OK {
				g.explains(t, got.message)
			}
		}
	}
	g.wasSeen(t)
	culvert.logged(t, "call", map[string]string{"identity": web, "rule": "web-reads", "code": "OK"})
	culvert.logged(t, "call", map[string]string{"rule": "no-deletes-from-test", "reason": "PERMISSION_DENIED"})
	if got := as(web, trustDomain+"shop/sa/batch").call(t, "grpc", "shop.v1.Orders/Cancel"); got.code == codes.OK {
		t.Errorf("a certificate with two SPIFFE IDs: %v", got)
	}
	if _, err := overGRPCWeb(t.Context(), as(), "shop.v1.Orders/Get", nil); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: %v", err)
	}
}

// TestUsersBehindAWorkload: both credentials are needed, and the user is the subject.
func TestUsersBehindAWorkload(t *testing.T) {
	t.Parallel()
	g := readGuide(t, "spiffe.md")
	p := provider.Start(t, provider.EC("one"))
	p.GiveFor(0, "orders")
	_, as := startWithWorkloads(t, g.block(t, "yaml", 1), "issuer: https://login.example.com/realms/staff", "issuer: "+p.URL+"\n      ca: "+p.CAFile)
	c, token := as(web), p.ServiceToken(t)
	for way := range ways {
		if got := c.call(t, way, "shop.v1.Orders/Get", "authorization", "Bearer "+token); got.code != codes.OK || got.got("x-culvert-subject") != provider.Service {
			t.Errorf("%s: %v", way, got)
		}
		for _, md := range [][]string{nil, {"authorization", "Bearer x.y.z"}} {
			if got := c.call(t, way, "shop.v1.Orders/Get", md...); got.code != codes.Unauthenticated {
				t.Errorf("%s with %q: %v", way, md, got)
			}
		}
	}
}
