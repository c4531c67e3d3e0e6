package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// A tokenIssuer signs tokens, and writes its keys to a file.
type tokenIssuer struct {
	key  *ecdsa.PrivateKey
	file string
}

func newTokenIssuer(t testing.TB) *tokenIssuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "a", Algorithm: string(jose.ES256), Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	i := &tokenIssuer{key, filepath.Join(t.TempDir(), "keys.json")}
	if err := os.WriteFile(i.file, set, 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

func (i *tokenIssuer) token(t testing.TB, subject, scope string) string {
	t.Helper()
	return i.tokenUntil(t, subject, scope, time.Now().Add(time.Hour))
}

func (i *tokenIssuer) tokenUntil(t testing.TB, subject, scope string, expires time.Time) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: i.key}, (&jose.SignerOptions{}).WithHeader("kid", "a").WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := json.Marshal(map[string]any{"iss": "e2e", "sub": subject, "aud": "probe", "scope": scope, "exp": expires.Unix()})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestTokensReachTheRulesAndTheBackend: by each protocol, a token decides whether the call
// reaches the backend, which learns who calls and doesn't get the token. Neither the log, the metrics
// nor the admin address has one.
func TestTokensReachTheRulesAndTheBackend(t *testing.T) {
	t.Parallel()
	b, i := startBackend(t, backendOptions{}), newTokenIssuer(t)
	c := startCulvert(t, b.address, culvertOptions{args: []string{"--admin", "127.0.0.1:0"}, config: `auth:
  issuers: [{name: staff, issuer: e2e, keys_file: ` + i.file + `, audiences: [probe]}]
  public_methods: ["grpc.reflection.*/*"]
  strip: true
  rules: [{name: readers, scopes: [read]}]
`})
	set := probeSet(t)
	reader, other := i.token(t, "alice", "read"), i.token(t, "bob", "write")
	for _, via := range []string{"grpc", "grpc-web", "grpc-web-text", "connect", "connect-json", "websocket", "h2ts"} {
		for _, call := range []struct {
			token  string
			reason string // "": it reaches the backend
		}{
			{"Bearer " + reader, ""},
			{"Bearer " + other, "PERMISSION_DENIED"},
			{"Bearer " + reader + "x", "UNAUTHENTICATED"},
			{"Basic YTpi", "UNAUTHENTICATED"},
			{"", "UNAUTHENTICATED"},
		} {
			id := newID(t)
			args := []string{"http://" + c.address, "culvert.e2e.v1.Probe/Unary", "--via", via, "--protoset", set, "-H", "probe-id: " + id, "-H", "x-culvert-subject: root", "-H", "x_culvert_subject: root"}
			if call.token != "" {
				args = append(args, "-H", "authorization: "+call.token)
			}
			got := callBy(t, "", args...)
			seen, reached := b.saw(t, id)
			switch {
			case reached != (call.reason == ""):
				t.Errorf("%s, %q: the call reaches the backend: %v; %+v", via, call.reason, reached, got)
			case call.reason != "" && !strings.Contains(got.stderr, `"reason":"`+call.reason+`"`):
				t.Errorf("%s: %+v, want %s", via, got, call.reason)
			case reached:
				if subject := seen.Metadata["x-culvert-subject"]; len(subject) != 1 || string(subject[0]) != "alice" || len(seen.Metadata["authorization"])+len(seen.Metadata["x_culvert_subject"]) > 0 {
					t.Errorf("%s: the backend gets %q", via, seen.Metadata)
				}
			}
		}
	}
	told := map[string]string{"the log": strings.Join(c.output.all(), "\n"), "/metrics": get(t, c.health, "/metrics")}
	admin := c.logged(t, "serving the admin address", "address")["address"].(string)
	for _, path := range []string{"/", "/calls", "/connections", "/backends", "/routes", "/memory", "/limits", "/failures", "/auth", "/status"} {
		told[path] = get(t, admin, path)
	}
	if !strings.Contains(told["/auth"], "UNAUTHENTICATED") || !strings.Contains(told["/failures"], "PERMISSION_DENIED") || !strings.Contains(told["/metrics"], "UNAUTHENTICATED") {
		t.Errorf("the refusals aren't told: %s %s", told["/auth"], told["/failures"])
	}
	for where, text := range told {
		for _, token := range []string{reader, other} {
			if strings.Contains(text, token[len(token)-40:]) || strings.Contains(text, token[:40]) {
				t.Errorf("%s has a token: %s", where, text)
			}
		}
	}
}
