package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/identity/opa"
)

// TestOPA: OPA's library judges by the page's policy.
func TestOPA(t *testing.T) {
	t.Parallel()
	g := readGuide(t, "opa.md")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := jose.JSONWebKey{Key: key.Public(), KeyID: "one", Algorithm: "ES256", Use: "sig"}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	service, target := opa.Start(t, "shop.authz", g.block(t, "rego", 0), map[string]any{"keys": `{"keys":[` + string(public) + `]}`})
	culvert := startCulvert(t, with(t, "listen: 127.0.0.1:0\n"+g.block(t, "yaml", 0), "localhost:9000", startBackend(t), "localhost:9191", target))
	c := &client{address: culvert.address}
	token := func(tenant, audience string) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "one"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.Signed(signer).Claims(map[string]any{"sub": "alice", "tenant": tenant, "aud": audience, "exp": time.Now().Add(time.Hour).Unix()}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	alice := token("blue", "orders")
	for way := range ways {
		got := c.call(t, way, "shop.v1.Orders/Get", "authorization", "Bearer "+alice, "x-tenant", "forged")
		if got.code != codes.OK || got.got("x-tenant") != "blue" || got.got("x-culvert-subject") != "alice" || got.got("x-culvert-kind") != "external" {
			t.Errorf("%s: %v", way, got)
		}
		if got := c.call(t, way, "shop.v1.Catalog/List", "x-tenant", "forged"); got.code != codes.OK || got.got("x-tenant") != "" {
			t.Errorf("%s without a token: %v", way, got)
		}
		for name, row := range map[string]struct {
			token, method string
			want          codes.Code
		}{
			"no token":         {"", "shop.v1.Orders/Get", codes.Unauthenticated},
			"another audience": {token("blue", "other"), "shop.v1.Orders/Get", codes.Unauthenticated},
			"another method":   {alice, "shop.v1.Orders/Cancel", codes.PermissionDenied},
		} {
			var md []string
			if row.token != "" {
				md = []string{"authorization", "Bearer " + row.token}
			}
			got := c.call(t, way, row.method, md...)
			if got.code != row.want || row.want == codes.Unauthenticated && got.message != "a token is needed" {
				t.Errorf("%s: %s: %v, want %v", way, name, got, row.want)
			}
		}
	}
	if service.Asked.Load() == 0 {
		t.Error("OPA wasn't asked")
	}
	culvert.logged(t, "call", map[string]string{"identity": "alice", "code": "OK"})
	culvert.hides(t, alice)
}

// TestOPAIsGone: calls are refused.
func TestOPAIsGone(t *testing.T) {
	t.Parallel()
	g := readGuide(t, "opa.md")
	const nobody = "127.0.0.1:1"
	config := with(t, "listen: 127.0.0.1:0\n"+g.block(t, "yaml", 0), "localhost:9000", startBackend(t), "localhost:9191", nobody)
	culvert := startCulvert(t, config)
	if got := (&client{address: culvert.address}).call(t, "grpc", "shop.v1.Catalog/List"); got.code != codes.Unavailable || strings.Contains(got.message, nobody) {
		t.Errorf("%v", got)
	}
	culvert.logged(t, "call", map[string]string{"reason": "AUTH_UNAVAILABLE"})
	open := startCulvert(t, with(t, config, "    own: ", "    fail_open: true\n    own: "))
	if got := (&client{address: open.address}).call(t, "grpc", "shop.v1.Catalog/List", "x-tenant", "forged"); got.code != codes.OK || got.got("x-tenant") != "" {
		t.Errorf("with fail_open: %v", got)
	}
}
