package jwt

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/auth/internal/claim"
	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

// TestSeen: what Verify has found is known afterwards, and looks at no certificate.
func TestSeen(t *testing.T) {
	j := newJudge(t)
	bound := token(map[string]any{"cnf": map[string]any{"x5t#S256": encode(strings.Repeat("x", 32))}})
	forged := sign("ES256", strangeEC(), `{"alg":"ES256","kid":"p256"}`, asJSON(claims(nil)))
	for name, text := range map[string]string{"good": token(nil), "bound": bound, "expired": token(map[string]any{"exp": 1}), "forged": forged} {
		if _, seen, err := j.Seen(text); seen || err != nil {
			t.Errorf("%s: seen before it came, or %v", name, err)
		}
		want, wantErr := j.Verify(t.Context(), text, thumbprintOfXs)
		got, seen, err := j.Seen(text)
		if !seen || got != want || !errors.Is(err, wantErr) || err == nil && wantErr != nil {
			t.Errorf("%s: got %v, %v, %v; want %v, %v", name, got, seen, err, want, wantErr)
		}
		if about, is := errors.AsType[*Error](err); is && !about.Costly {
			t.Errorf("%s: its refusal cost nothing", name)
		}
	}
	got, _, _ := j.Seen(bound)
	if err := got.PresentedWith(thumbprintOfXs); err != nil || got.PresentedWith(Thumbprint{}) == nil || got.PresentedWith(Thumbprint{1}) == nil {
		t.Errorf("with its certificate: %v; or with another one it is accepted", err)
	}
	// What costs no signature isn't kept.
	for name, c := range map[string]struct {
		text   string
		costly bool // since it is read
	}{
		"text": {"garbage", false}, "too long": {strings.Repeat("a", MaxTokenBytes-1) + "..", false}, "encrypted": {token(nil) + ".AA.AA", false},
		"of no key":         {sign("ES256", strangeEC(), `{"alg":"ES256","kid":"no"}`, asJSON(claims(nil))), true},
		"of another issuer": {token(map[string]any{"iss": "x"}), true},
		"of no algorithm":   {sign("ES256", strangeEC(), `{"alg":"none"}`, asJSON(claims(nil))), true},
		"of no JSON":        {"a.b.c", true},
	} {
		text := c.text
		if about := refused(t, j, text); about.Costly != c.costly || Looks(text) != c.costly {
			t.Errorf("%s: costly is %v, and it looks like a token: %v", name, about.Costly, Looks(text))
		}
		if _, seen, _ := j.Seen(text); seen {
			t.Errorf("%s: it is kept", name)
		}
	}
}

// thumbprintOfXs is that of the certificate of a token above.
var thumbprintOfXs = Thumbprint([]byte(strings.Repeat("x", 32)))

func TestIssuerOf(t *testing.T) {
	for text, want := range map[string]string{
		token(nil): issuerName,
		token(map[string]any{"iss": "x", "exp": 1}):   "x",
		token(map[string]any{"iss": nil}):             "",
		"garbage":                                     "",
		token(nil) + ".AA.AA":                         "",
		strings.Replace(token(nil), ".", "..", 1)[1:]: "",
	} {
		if got := IssuerOf(text); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestIdentityOfAToken: the rules learn the same of it as a caller of Verify.
func TestIdentityOfAToken(t *testing.T) {
	issuer := newIssuer(t)
	issuer.Metadata = []Mapping{{claim.Path{"email"}, "x-email"}, {claim.Path{"none"}, "x-none"}}
	got := accepted(t, newJudge(t, issuer), token(map[string]any{"scope": "read write", "email": "a@example.com"}))
	want := &identity.Identity{
		Subject: "alice", Issuer: issuerName, Kind: identity.JWT, Scopes: []string{"read", "write"}, Expires: got.Expires,
		Metadata: map[string][]string{"x-email": {"a@example.com"}},
	}
	want.Prepare()
	if !reflect.DeepEqual(got.Identity, want) {
		t.Errorf("got %+v, want %+v", got.Identity, want)
	}
	if plain := accepted(t, newJudge(t), token(nil)); plain.Identity.Metadata != nil {
		t.Errorf("got the metadata %v", plain.Identity.Metadata)
	}
}
