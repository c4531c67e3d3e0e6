package jwt

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/claim"
	"github.com/culvert-grpc/culvert/auth/internal/object"
	"github.com/culvert-grpc/culvert/codec"
)

func TestAcceptedTokens(t *testing.T) {
	j := newJudge(t)
	payload := asJSON(claims(nil))
	for _, header := range []string{
		`{"alg":"ES256","kid":"p256"}`, `{"alg":"ES256"}`, `{"alg":"ES256","kid":""}`,
		`{"alg":"ES256","kid":"p256","typ":"JWT"}`, `{"alg":"ES256","kid":"p256","typ":"jwt"}`, `{"alg":"ES256","kid":"p256","typ":"application/at+jwt"}`,
		`{"alg":"ES256","kid":"p256","typ":"AT+JWT"}`, `{"alg":"ES256","kid":"p256","cty":"json","unknown":[1]}`, ` { "alg" : "ES256" } `,
	} {
		got := accepted(t, j, sign("ES256", private["p256"](), header, payload))
		if got.Issuer != issuerName || got.Subject != "alice" || !got.For(audience) || got.BoundToCertificate() {
			t.Errorf("%s: the token is %+v", header, got)
		}
	}
}

func TestTypesByOption(t *testing.T) {
	issuer := newIssuer(t)
	issuer.Types = []string{"application/AT+JWT"}
	j := newJudge(t, issuer)
	for typ, good := range map[string]bool{`,"typ":"at+jwt"`: true, `,"typ":"application/at+jwt"`: true, `,"typ":"JWT"`: false, ``: false, `,"typ":""`: false} {
		text := sign("ES256", private["p256"](), `{"alg":"ES256","kid":"p256"`+typ+`}`, asJSON(claims(nil)))
		if _, err := j.Verify(t.Context(), text, Thumbprint{}); (err == nil) != good {
			t.Errorf("with %q: %v", typ, err)
		}
	}
}

func TestAlgorithmsByOption(t *testing.T) {
	issuer := newIssuer(t)
	issuer.Algorithms = []string{"ES256"}
	j := newJudge(t, issuer)
	accepted(t, j, token(nil))
	if got := refused(t, j, sign("RS256", private["rsa"](), `{"alg":"RS256","kid":"rsa"}`, asJSON(claims(nil)))); got.Kind != Invalid || !strings.Contains(got.Text, "algorithm isn't accepted") {
		t.Errorf("refused with %v", got)
	}
}

func TestIssuersAreToldApart(t *testing.T) {
	one, two := newIssuer(t), newIssuer(t)
	two.Name, two.Keys = "https://two.example", newKeyFile(t, "rsa")
	j := newJudge(t, one, two)
	accepted(t, j, token(nil))
	if got := refused(t, j, token(map[string]any{"iss": two.Name})); got.Kind != Invalid || !strings.Contains(got.Text, "key of its issuer") {
		t.Errorf("with the key of another issuer: %v", got)
	}
	accepted(t, j, sign("RS256", private["rsa"](), `{"alg":"RS256","kid":"rsa"}`, asJSON(claims(map[string]any{"iss": two.Name}))))
}

func TestDates(t *testing.T) {
	for _, c := range []struct {
		skew          time.Duration
		exp, nbf, iat float64 // seconds from now; 0 for none
		want          Kind    // 0 for accepted
	}{
		{exp: 1},
		{exp: -59},
		{exp: -60, want: Expired},
		{exp: -59.5},
		{exp: -60.5, want: Expired},
		{skew: -1, exp: 1},
		{skew: -1, exp: -1, want: Expired},
		{skew: 5 * time.Minute, exp: -299},
		{skew: 5 * time.Minute, exp: -300, want: Expired},
		{exp: 600, nbf: 60},
		{exp: 600, nbf: 61, want: Invalid},
		{exp: 600, iat: 60},
		{exp: 600, iat: 60.5, want: Invalid},
		{skew: -1, exp: 600, nbf: 1, want: Invalid},
		{exp: 100 * 365 * 24 * 3600, nbf: -1e8, iat: -1e8},
	} {
		synctest.Test(t, func(t *testing.T) {
			issuer := newIssuer(t)
			issuer.Skew = c.skew
			j, now := newJudge(t, issuer), float64(time.Now().Unix())
			change := map[string]any{"exp": now + c.exp, "nbf": nil, "iat": nil}
			if c.nbf != 0 {
				change["nbf"] = now + c.nbf
			}
			if c.iat != 0 {
				change["iat"] = now + c.iat
			}
			got, err := j.Verify(t.Context(), token(change), Thumbprint{})
			if c.want != 0 {
				if kind(err) != c.want {
					t.Errorf("%+v: %v", c, err)
				}
				return
			}
			if err != nil || !got.Expires.Equal(time.Unix(0, int64((now+c.exp)*1e9)).Add(max(0, issuerSkew(c.skew)))) {
				t.Errorf("%+v: %+v, %v", c, got, err)
			}
		})
	}
}

func issuerSkew(skew time.Duration) time.Duration {
	if skew == 0 {
		return time.Minute
	}
	return skew
}

func TestEndlessTokens(t *testing.T) {
	issuer := newIssuer(t)
	issuer.Endless = true
	j := newJudge(t, issuer)
	if got := accepted(t, j, token(map[string]any{"exp": nil})); !got.Expires.IsZero() {
		t.Errorf("the token ends: %+v", got)
	}
	if got := refused(t, j, token(map[string]any{"exp": 1})); got.Kind != Expired {
		t.Errorf("an old token: %v", got)
	}
	if got := refused(t, j, token(map[string]any{"exp": "never"})); got.Kind != Invalid {
		t.Errorf("a token with a wrong end: %v", got)
	}
}

func TestAudiences(t *testing.T) {
	issuer := newIssuer(t)
	issuer.Audiences = []string{"a", "b"}
	j := newJudge(t, issuer)
	for _, c := range []struct {
		aud  raw
		want []string // nil: it is refused
	}{
		{`"a"`, []string{"a"}},
		{`["x","b"]`, []string{"x", "b"}},
		{`"x"`, nil},
		{``, nil},
		{`[]`, nil},
		{`[1]`, nil},
		{`["a",1]`, nil},
		{`null`, nil},
	} {
		got, err := j.Verify(t.Context(), token(map[string]any{"aud": c.aud}), Thumbprint{})
		if (err == nil) != (c.want != nil) || err == nil && !slices.Equal(got.Audience, c.want) {
			t.Errorf("aud %s: %+v, %v", c.aud, got, err)
		}
	}
}

func TestScopes(t *testing.T) {
	j := newJudge(t)
	for _, c := range []struct {
		scope, scp raw
		want       []string
	}{
		{`"read write"`, ``, []string{"read", "write"}},
		{`"  read  "`, ``, []string{"read"}},
		{`""`, ``, nil},
		{``, `["read","write"]`, []string{"read", "write"}},
		{``, `"read write"`, []string{"read", "write"}},
		{`["read"]`, `["write"]`, []string{"read", "write"}},
		{`[]`, `[]`, nil},
		{``, `["read write"]`, []string{"read write"}}, // one scope, which nothing asks for
		{``, ``, nil},
	} {
		if got := accepted(t, j, token(map[string]any{"scope": c.scope, "scp": c.scp})); !slices.Equal(got.Scopes, c.want) {
			t.Errorf("scope %s, scp %s: %q, want %q", c.scope, c.scp, got.Scopes, c.want)
		}
	}
	issuer := newIssuer(t)
	issuer.Scopes = []string{"read", "write"}
	j = newJudge(t, issuer)
	accepted(t, j, token(map[string]any{"scope": "write x read"}))
	for _, scope := range []raw{`"read"`, `"read,write"`, `["read write"]`, `"Read Write"`, ``} {
		if got := refused(t, j, token(map[string]any{"scope": scope})); got.Kind != Denied || !strings.Contains(got.Text, "scope") {
			t.Errorf("scope %s: %v", scope, got)
		}
	}
}

func TestRequiredClaims(t *testing.T) {
	path := func(text string) claim.Path { return must(claim.ParsePath(text)) }
	for _, c := range []struct {
		claim  string
		values []string
		claims map[string]any
		good   bool
	}{
		{"role", []string{"admin"}, map[string]any{"role": "admin"}, true},
		{"role", []string{"admin", "root"}, map[string]any{"role": "root"}, true},
		{"role", []string{"admin"}, map[string]any{"role": []string{"x", "admin"}}, true},
		{"role", []string{"admin"}, map[string]any{"role": "admin,x"}, false},
		{"role", []string{"admin"}, map[string]any{"role": "Admin"}, false},
		{"role", []string{"admin"}, map[string]any{"role": []any{"admin", nil}}, false},
		{"role", []string{"admin"}, map[string]any{"role": map[string]any{"admin": true}}, false},
		{"role", []string{"admin"}, nil, false},
		{"role", nil, map[string]any{"role": "x"}, true},
		{"role", nil, map[string]any{"role": raw("null")}, false},
		{"role", nil, map[string]any{"role": []string{}}, false},
		{"email_verified", []string{"true"}, map[string]any{"email_verified": true}, true},
		{"email_verified", []string{"true"}, map[string]any{"email_verified": false}, false},
		{"level", []string{"12"}, map[string]any{"level": 12}, true},
		{"level", []string{"12"}, map[string]any{"level": raw("12.0")}, false},
		{"realm_access.roles", []string{"admin"}, map[string]any{"realm_access": map[string]any{"roles": []string{"admin"}}}, true},
		{"realm_access.roles", []string{"admin"}, map[string]any{"realm_access.roles": "admin"}, false},
		{"realm_access.roles", []string{"admin"}, map[string]any{"realm_access": "admin"}, false},
		{`https://example\.com/role`, []string{"admin"}, map[string]any{"https://example.com/role": "admin"}, true},
	} {
		issuer, asked := newIssuer(t), claim.Requirement{Claim: path(c.claim), Values: c.values}
		issuer.Required = []claim.Requirement{asked}
		j := newJudge(t, issuer)
		// Rules ask the same, and refuse no token by it.
		free := must(NewJudge(Options{Issuers: []Issuer{newIssuer(t)}, Claims: []claim.Requirement{{Claim: path("absent")}, asked, {Claim: path("sub")}}}))
		if got := accepted(t, free, token(c.claims)).Claims; got.Met(0) || got.Met(1) != c.good || !got.Met(2) {
			t.Errorf("%s of %v: answered %v, want %v", c.claim, c.claims, got, c.good)
		}
		if c.good {
			accepted(t, j, token(c.claims))
		} else if got := refused(t, j, token(c.claims)); got.Kind != Denied || !strings.Contains(got.Text, c.claim) || strings.Contains(got.Error(), "admin") {
			t.Errorf("%s of %v: %v, want a denial with the claim's name, and no value", c.claim, c.claims, got)
		}
	}
}

func TestMetadata(t *testing.T) {
	issuer := newIssuer(t)
	issuer.Metadata = []Mapping{{claim.Path{"sub"}, "x-user"}, {claim.Path{"a", "b"}, "x-nested"}, {claim.Path{"v"}, "x-value"}}
	j := newJudge(t, issuer)
	for _, c := range []struct {
		value raw
		want  string // "" for none
	}{
		{`"plain"`, "plain"},
		{`"a,b"`, "a,b"},
		{`["a","b"]`, "a,b"},
		{`["a"]`, "a"},
		{`12`, "12"},
		{`1e3`, "1e3"},
		{`true`, "true"},
		{`[1,true,"x"]`, "1,true,x"},
		{`"two  words"`, "two  words"},
		{``, ""},
		{`null`, ""},
		{`[]`, ""},
		{`""`, ""},
		{`["a,b"]`, ""},
		{`["a",""]`, ""},
		{`["a"," b"]`, ""},
		{`" a"`, ""},
		{`"a "`, ""},
		{`"a\nx-admin: true"`, ""},
		{`"a\u0000"`, ""},
		{`"a\u007f"`, ""},
		{`"Jürgen"`, ""},
		{`{"x":1}`, ""},
		{`["a",["b"]]`, ""},
		{`["a",null]`, ""},
		{raw(`"` + strings.Repeat("x", maxMetadataBytes) + `"`), strings.Repeat("x", maxMetadataBytes)},
		{raw(`"` + strings.Repeat("x", maxMetadataBytes+1) + `"`), ""},
	} {
		got := accepted(t, j, token(map[string]any{"v": c.value, "a": raw(`{"b":"n"}`)}))
		want := map[string][]string{"x-user": {"alice"}, "x-nested": {"n"}}
		if c.want != "" {
			want["x-value"] = []string{c.want}
		}
		if !reflect.DeepEqual(got.Metadata, want) {
			t.Errorf("%.60s: metadata %v, want %v", c.value, got.Metadata, want)
		}
	}
}

// TestConfirmation: a token that is bound to a certificate is good with that one alone, also
// when its verdict is kept.
func TestConfirmation(t *testing.T) {
	j := newJudge(t)
	one, two := ThumbprintOf(&x509.Certificate{Raw: []byte("one")}), ThumbprintOf(&x509.Certificate{Raw: []byte("two")})
	bound := token(map[string]any{"cnf": map[string]any{"x5t#S256": encode(string(one[:]))}})
	free := token(nil)
	for range 2 {
		for _, c := range []struct {
			token       string
			certificate Thumbprint
			want        string
		}{
			{bound, Thumbprint{}, "the connection has none"},
			{bound, two, "another client certificate"},
			{bound, one, ""},
			{free, Thumbprint{}, ""},
			{free, two, ""},
		} {
			got, err := j.Verify(t.Context(), c.token, c.certificate)
			if c.want == "" {
				if err != nil || got.BoundToCertificate() != (c.token == bound) {
					t.Errorf("with certificate %x: %+v, %v", c.certificate[:2], got, err)
				}
			} else if kind(err) != Invalid || !strings.Contains(err.Error(), c.want) {
				t.Errorf("with certificate %x: %v, want %q", c.certificate[:2], err, c.want)
			}
		}
	}
}

// FuzzParse: what parse accepts is canonical: its parts, encoded again, are the token.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		token(nil), "..", "a.b.c", encode(`{"alg":"none"}`) + "." + encode(`{"iss":"a"}`) + ".", encode(`{"alg":"RS256","crit":[]}`) + ".e30.AA",
		encode(`{"alg":"RS256","kid":"\u0000","typ":"application/JWT"}`) + "." + encode(`{"iss":"a","iss":"b"}`) + ".AB", "a.b.c.d.e",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		c, refused := parse(in)
		if (c == nil) == (refused == nil) {
			t.Fatalf("%q: %v and %v", in, c, refused)
		}
		if refused != nil {
			return
		}
		for encoded := range strings.SplitSeq(in, ".") {
			data, err := part(encoded)
			if err != nil || encode(string(data)) != encoded {
				t.Errorf("%q is accepted with the part %q: %q, %v", in, encoded, data, err)
			}
		}
		if c.algorithm == "" || c.issuer == "" {
			t.Errorf("%q is accepted without alg or iss", in)
		}
	})
}

// FuzzClaims: whatever an issuer signs, a good token has an end and a subject, and its metadata
// is legal.
func FuzzClaims(f *testing.F) {
	f.Add(asJSON(claims(nil)), "v")
	f.Add(asJSON(claims(map[string]any{"v": []any{"a", 1, true}, "scope": "a b", "cnf": map[string]any{"x5t#S256": "AA"}})), "v")
	f.Add(`{"iss":"a","sub":"b","aud":["culvert"],"exp":9e10,"nbf":0.5,"v":{"w":["x,y"]}}`, "v.w")
	f.Fuzz(func(t *testing.T, in, path string) {
		o, err := object.Parse([]byte(in))
		found, pathErr := claim.ParsePath(path)
		if err != nil || pathErr != nil {
			return
		}
		issuer := Issuer{Name: "a", Audiences: []string{audience}, Metadata: []Mapping{{found, "x-v"}}, Skew: time.Minute}
		got, refused := issuer.token(&candidate{issuer: "a", claims: o}, time.Unix(1_700_000_000, 0))
		if refused != nil {
			return
		}
		if got.Subject == "" || got.Expires.IsZero() || !got.For(audience) {
			t.Errorf("%s is good: %+v", in, got)
		}
		for _, values := range got.Metadata {
			if v := values[0]; !codec.ValidValue(v) || len(v) > maxMetadataBytes || v == "" {
				t.Errorf("%s became the metadata %q", in, v)
			}
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	for want, change := range map[string]func(*Issuer){
		"control characters":         func(i *Issuer) { i.Name = "a\nb" },
		"no source of keys":          func(i *Issuer) { i.Keys = nil },
		"no algorithm":               func(i *Issuer) { i.Algorithms = []string{} },
		`"HS256" isn't one of`:       func(i *Issuer) { i.Algorithms = []string{"RS256", "HS256"} },
		`"none" isn't one of`:        func(i *Issuer) { i.Algorithms = []string{"none"} },
		`"rs256" isn't one of`:       func(i *Issuer) { i.Algorithms = []string{"rs256"} },
		"skew":                       func(i *Issuer) { i.Skew = time.Hour },
		"name the audiences":         func(i *Issuer) { i.Audiences = nil },
		"empty name":                 func(i *Issuer) { i.Required = []claim.Requirement{{Claim: claim.Path{"a", ""}}} },
		"one to eight":               func(i *Issuer) { i.Required = []claim.Requirement{{Claim: claim.Path{}}} },
		`"X-User" isn't a name`:      func(i *Issuer) { i.Metadata = []Mapping{{claim.Path{"sub"}, "X-User"}} },
		`":path" isn't a name`:       func(i *Issuer) { i.Metadata = []Mapping{{claim.Path{"sub"}, ":path"}} },
		`"grpc-timeout" isn't a nam`: func(i *Issuer) { i.Metadata = []Mapping{{claim.Path{"sub"}, "grpc-timeout"}} },
		`"x-bin" isn't a name`:       func(i *Issuer) { i.Metadata = []Mapping{{claim.Path{"sub"}, "x-bin"}} },
		"two claims become":          func(i *Issuer) { i.Metadata = []Mapping{{claim.Path{"a"}, "x"}, {claim.Path{"b"}, "x"}} },
		"over 64 claims":             func(i *Issuer) { i.Required = make([]claim.Requirement, 65) },
	} {
		issuer := newIssuer(t)
		change(&issuer)
		if j, err := NewJudge(Options{Issuers: []Issuer{issuer}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v, want an error with %q", j, err, want)
		}
	}
	one := newIssuer(t)
	for want, o := range map[string]Options{
		"no issuer":    {},
		"occurs twice": {Issuers: []Issuer{one, one}},
		"bounds":       {Issuers: []Issuer{one}, Entries: -1},
		"256 claims":   {Issuers: []Issuer{one}, Claims: make([]claim.Requirement, 257)},
		"one to eight": {Issuers: []Issuer{one}, Claims: make([]claim.Requirement, 1)},
	} {
		if j, err := NewJudge(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v, want an error with %q", j, err, want)
		}
	}
}

// TestTokensAreNotShown: no value that outlives Verify has the token in it.
func TestTokensAreNotShown(t *testing.T) {
	j, text := newJudge(t), token(nil)
	got := accepted(t, j, text)
	for part := range strings.SplitSeq(text, ".") {
		if strings.Contains(fmt.Sprintf("%v %+v %#v %+v", got, got, got, j), part) || strings.Contains(string(must(json.Marshal(got))), part) {
			t.Error("a part of the token is kept")
		}
	}
}
