package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/auth/internal/apikey"
	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func newEC() func() *ecdsa.PrivateKey {
	return sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
}

// The private keys of two issuers, and one that nobody publishes.
var (
	staffKey, shopKey, strangeKey = newEC(), newEC(), newEC()
	rsaKey                        = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
)

const (
	staffIssuer = "https://staff.example"
	shopIssuer  = "https://shop.example"
	audience    = "culvert"
	method      = "/shop.v1.Orders/Get"
)

// keySet returns the key set of public keys, by kid.
func keySet(keys map[string]crypto.Signer) []byte {
	var set jose.JSONWebKeySet
	for kid, key := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: kid})
	}
	return must(json.Marshal(set))
}

func writeFile(t testing.TB, name string, data []byte) string {
	t.Helper()
	if !filepath.IsAbs(name) {
		name = filepath.Join(t.TempDir(), name)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// staff and shop are issuers whose keys are in files.
func staff(t testing.TB) Issuer {
	t.Helper()
	file := writeFile(t, "staff.json", keySet(map[string]crypto.Signer{"staff": staffKey(), "rsa": rsaKey()}))
	return Issuer{Name: "staff", Issuer: staffIssuer, KeysFile: file, Audiences: []string{audience}, Metadata: []ClaimMetadata{{"role", "x-role"}}}
}

func shop(t testing.TB) Issuer {
	t.Helper()
	return Issuer{Name: "shop", Issuer: shopIssuer, KeysFile: writeFile(t, "shop.json", keySet(map[string]crypto.Signer{"shop": shopKey()})), Audiences: []string{audience}}
}

// claims are those of a token, on top of usual ones. A nil value leaves a claim out.
type claims map[string]any

func (c claims) over(usual claims) claims {
	all := claims{}
	for _, some := range []claims{usual, c} {
		for name, value := range some {
			all[name] = value
			if value == nil {
				delete(all, name)
			}
		}
	}
	return all
}

func usualClaims(issuer, subject string) claims {
	now := time.Now().Unix()
	return claims{"iss": issuer, "sub": subject, "aud": audience, "iat": now, "exp": now + 600, "scope": "read write"}
}

func staffToken(c claims) string {
	return sign(staffKey(), `{"alg":"ES256","kid":"staff","typ":"at+jwt"}`, c.over(usualClaims(staffIssuer, "alice")))
}

func shopToken(c claims) string {
	return sign(shopKey(), `{"alg":"ES256","kid":"shop","typ":"at+jwt"}`, c.over(usualClaims(shopIssuer, "bob")))
}

func encode(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// sign returns a token that is signed with ES256 or RS256, whatever its header is.
func sign(key crypto.Signer, header string, c claims) string {
	input := encode([]byte(header)) + "." + encode(must(json.Marshal(c)))
	sum := sha256.Sum256([]byte(input))
	if key, is := key.(*rsa.PrivateKey); is {
		return input + "." + encode(must(rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])))
	}
	r, s, err := ecdsa.Sign(rand.Reader, key.(*ecdsa.PrivateKey), sum[:])
	both := r.FillBytes(make([]byte, 32))
	return input + "." + encode(append(both, must(s, err).FillBytes(make([]byte, 32))...))
}

// keysOf makes a file of API keys, and returns the keys by name.
func keysOf(t testing.TB, expires time.Time, names ...string) (*APIKeys, map[string]string) {
	t.Helper()
	keys, file := map[string]string{}, ""
	for _, name := range names {
		key, line, err := apikey.Generate(name, []string{"read"}, expires)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = key
		file += line + "\n"
	}
	return &APIKeys{File: writeFile(t, "keys", []byte(file))}, keys
}

func newAuth(t testing.TB, cfg Config) *Authenticator { return newAfter(t, cfg, nil) }

func newAfter(t testing.TB, cfg Config, before *Authenticator) *Authenticator {
	t.Helper()
	a, err := New(cfg, before)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// aCall is a call with credentials in several places.
type aCall struct {
	method, route, origin string
	own, ownCookie        string // authorization; field
	conn, cookie, bearer  string // of the connection; it has one if any is set
	connected             bool   // it has one anyway
	key                   string // x-api-key
	client                *report.ClientNames
	md                    metadata.MD
}

func (c aCall) peer() bridge.Peer {
	return bridge.Peer{Addr: "192.0.2.7:1234", Transport: "grpc", Client: c.client}
}

// request returns the request for the call, and judges its connection first.
func (c aCall) request(t testing.TB, a *Authenticator) *bridge.AuthRequest {
	t.Helper()
	if c.method == "" {
		c.method = method
	}
	r := &bridge.AuthRequest{ID: "c0ffee", Method: c.method, Authority: "shop.example", Scheme: "https", Route: c.route, Origin: c.origin, Peer: c.peer(), Metadata: c.md.Copy()}
	if c.own != "" {
		r.Metadata["authorization"] = []string{c.own}
		r.Own.Authorization = r.Metadata["authorization"]
	}
	if c.ownCookie != "" {
		r.Own.Cookie = []string{c.ownCookie}
	}
	if c.key != "" {
		r.Metadata["x-api-key"] = []string{c.key}
	}
	if c.connected || c.conn+c.cookie+c.bearer != "" {
		r.Conn = must(a.AuthenticateConn(t.Context(), c.connRequest()))
		if c.conn != "" && c.own == "" {
			r.Metadata["authorization"] = []string{c.conn} // as the bridge does
		}
	}
	return r
}

func (c aCall) connRequest() *bridge.ConnRequest {
	r := &bridge.ConnRequest{Authority: "shop.example", Scheme: "https", Origin: c.origin, Peer: c.peer()}
	if c.conn != "" {
		r.Credentials.Authorization = []string{c.conn}
	}
	if c.cookie != "" {
		r.Credentials.Cookie = []string{c.cookie}
	}
	r.Credentials.Bearer = c.bearer
	return r
}

// verdict is what became of a call, in a few words: the subject, or the reason of its refusal.
func verdict(id *bridge.Identity, err error) string {
	switch f, is := errors.AsType[*report.Fault](err); {
	case is:
		return string(f.Reason)
	case err != nil:
		return err.Error()
	case id == nil:
		return "nobody"
	default:
		return id.Name
	}
}

// judged returns what becomes of a call.
func judged(t testing.TB, a *Authenticator, c aCall) (string, *bridge.AuthRequest) {
	t.Helper()
	r := c.request(t, a)
	id, err := a.Authenticate(t.Context(), r)
	said := verdict(id, err)
	known := ""
	switch {
	case err == nil && id != nil:
		known = id.Name
	case err != nil && r.Refused != nil: // the call passes if auth is only tried out
		known = r.Refused.Name
	}
	if sent := strings.Join(r.Metadata["x-culvert-subject"], ","); sent != known {
		t.Errorf("the backend learns that %q calls, it is %q, and the verdict is %s", sent, known, said)
	}
	return said, r
}

func wantJudged(t testing.TB, a *Authenticator, c aCall, want string) *bridge.AuthRequest {
	t.Helper()
	got, r := judged(t, a, c)
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	return r
}

const (
	unauthenticated = string(report.ReasonUnauthenticated)
	denied          = string(report.ReasonPermissionDenied)
	unavailable     = string(report.ReasonAuthUnavailable)
	limited         = string(report.ReasonLimitExceeded)
)

// faultOfCall returns the fault of a call that is refused.
func faultOfCall(t testing.TB, a *Authenticator, c aCall) *report.Fault {
	t.Helper()
	id, err := a.Authenticate(t.Context(), c.request(t, a))
	f, is := errors.AsType[*report.Fault](err)
	if !is || id != nil {
		t.Fatalf("the call passes: %v, %v", id, err)
	}
	return f
}

func sorted(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return names
}

// certificate returns one that signs itself.
func certificate(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, strangeKey().Public(), strangeKey())
	if err != nil {
		t.Fatal(err)
	}
	return must(x509.ParseCertificate(der))
}

func thumbprintText(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return encode(sum[:])
}

// stateWith returns the TLS of a client with a certificate, nil for none.
func stateWith(c *x509.Certificate) *tls.ConnectionState {
	if c == nil {
		return &tls.ConnectionState{}
	}
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}
}
