package auth

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestSecretsStayInside: no credential is in a log, an error, a state or anything that is
// printed, whatever becomes of its call. Clients learn nothing of addresses and files either.
func TestSecretsStayInside(t *testing.T) {
	var log bytes.Buffer
	var j judge
	keys, key := keysOf(t, time.Time{}, "ci")
	tokenFile := writeFile(t, "token", []byte("hush-of-a-token-file"))
	// The server of keys repeats what it was sent, and fails.
	served, _ := keyServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Echo", r.Header.Get("Authorization"))
		http.Error(w, r.Header.Get("Authorization"), http.StatusBadRequest)
	}))
	served.Access.TokenFile = tokenFile
	external := j.serveGRPC(t)
	a := newAuth(t, Config{
		Issuers: []Issuer{staff(t), served}, APIKeys: keys, External: external, Cookie: "session",
		Rules:  []Rule{{Name: "no-eve", Deny: true, Identities: []string{"eve"}}},
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	secrets := map[string]string{
		"good":             staffToken(nil),
		"refused":          staffToken(claims{"sub": "eve"}),
		"expired":          staffToken(claims{"exp": 1}),
		"badly signed":     sign(strangeKey(), es256, usualClaims(staffIssuer, "alice")),
		"of no known key":  sign(strangeKey(), `{"alg":"ES256","kid":"other"}`, usualClaims(staffIssuer, "alice")),
		"unjudged":         sign(strangeKey(), es256, usualClaims(served.Issuer, "alice")),
		"of no JSON":       encode([]byte("{hush-hush")) + "." + encode([]byte("hush-hush")) + "." + encode([]byte("hush-hush")),
		"opaque":           "secret-alice-and-more-to-it",
		"opaque, refused":  "an-opaque-token-that-nobody-knows",
		"an API key":       key["ci"],
		"a damaged key":    key["ci"][:55],
		"an unknown key":   strings.Repeat("unknown-", 8),
		"a password":       "YWxpY2U6aHVzaC1odXNo",
		"with a line more": "bad\r\nx-culvert-subject:root",
	}
	var said strings.Builder
	for _, secret := range secrets {
		for _, c := range []aCall{
			{own: "Bearer " + secret},
			{own: "Basic " + secret},
			{own: secret},
			{conn: "Bearer " + secret},
			{bearer: secret},
			{ownCookie: "session=" + secret},
			{cookie: "session=" + secret},
			{key: secret},
		} {
			r := c.request(t, a)
			id, err := a.Authenticate(t.Context(), r)
			fmt.Fprintf(&said, "%+v %v %+v %s %+v\n", id, err, r.Refused, r.Rule, r.Conn)
			if f, is := errors.AsType[*report.Fault](err); is {
				fmt.Fprintf(&said, "%s %+v %v\n", f.Status("id", true), f, f.Cause)
				if text := f.Status("id", false).String(); strings.Contains(text, "127.0.0.1") || strings.Contains(text, os.TempDir()) {
					t.Errorf("the client learns of an inside: %s", text)
				}
			}
			if r.Conn != nil {
				fmt.Fprintf(&said, "%v %+v %#v\n", r.Conn.Value, r.Conn.Value, r.Conn.Value)
			}
		}
	}
	_ = a.Reload()
	state := a.State()
	fmt.Fprintf(&said, "%+v %+v %+v %v %+v %#v\n", state, *state.APIKeys, *state.External, a, a, a.places)
	all := said.String() + log.String()
	secrets["of the token file"] = "hush-of-a-token-file"
	for name, secret := range secrets {
		for _, part := range strings.FieldsFunc(secret, func(r rune) bool { return strings.ContainsRune(".\r\n", r) }) {
			if at := strings.Index(all, part); at >= 0 && len(part) > 10 && part != "x-culvert-subject:root" {
				t.Errorf("the token %s is told: …%s…", name, all[max(0, at-200):at+len(part)])
			}
		}
	}
	if strings.Contains(all, "sha256:") || !strings.Contains(log.String(), "can't be fetched") {
		t.Errorf("hashes are told, or nothing is logged: %s", log.String())
	}
}

// TestServicesRepeatNoAPIKey: a key is a secret in metadata of any name. A reload that changes the
// name keeps no checker that doesn't know it.
func TestServicesRepeatNoAPIKey(t *testing.T) {
	keys, key := keysOf(t, time.Time{}, "ci")
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		http.Error(w, "not with "+r.Header.Get("X-Caller"), http.StatusForbidden)
	}))
	t.Cleanup(service.Close)
	var before *Authenticator
	for _, header := range []string{"x-api-key", "x-caller"} {
		cfg := Config{
			APIKeys: &APIKeys{File: keys.File, Header: header}, AllOf: []string{WayAPIKeys, WayExternal},
			External: &External{URL: service.URL, Timeout: 10 * time.Second, Names: []string{"x-api-key", "x-caller"}},
		}
		before = newAfter(t, cfg, before)
	}
	r := aCall{}.request(t, before)
	r.Metadata = metadata.MD{"x-caller": {key["ci"]}}
	_, err := before.Authenticate(t.Context(), r)
	f, is := errors.AsType[*report.Fault](err)
	if !is || f.Reason != report.ReasonPermissionDenied {
		t.Fatalf("got %v, want a refusal of the service", err)
	}
	if said := fmt.Sprint(f.Text, f.Cause, before.State().Refused); strings.Contains(said, key["ci"]) {
		t.Errorf("the key is told: %s", said)
	}
}

// TestCausesNameTheCheck: the log, which has only the cause, says which check failed and what it
// found. Details are for detailed errors, without the same words twice.
func TestCausesNameTheCheck(t *testing.T) {
	var j judge
	keys, key := keysOf(t, time.Time{}, "ci")
	lone := staff(t)
	lone.Audiences, lone.RouteAudiences, lone.Required, lone.Scopes = nil, map[string][]string{"orders": {audience}}, []Requirement{{Claim: "sub", Values: []string{"alice"}}}, []string{"read"}
	external := j.serveGRPC(t)
	of := func(header string, c claims) string {
		return "Bearer " + sign(staffKey(), header, c.over(usualClaims(staffIssuer, "alice")))
	}
	all := Config{Issuers: []Issuer{lone}, APIKeys: keys, Routes: []string{"orders"}, Rules: []Rule{{Name: "no-x", Deny: true, Methods: []string{"shop.v1.X/*"}}}}
	asks := Config{External: external}
	for name, row := range map[string]struct {
		cfg  Config
		call aCall
		want string // at the beginning
	}{
		"algorithm":   {all, aCall{own: of(`{"alg":"HS256"}`, nil)}, `the token's algorithm isn't accepted (alg): it is "HS256"`},
		"issuer":      {all, aCall{own: of(`{"alg":"ES256"}`, claims{"iss": "evil\n"})}, `the token names no issuer (iss): iss has control characters`},
		"key":         {all, aCall{own: of(`{"alg":"ES256","kid":"x"}`, nil)}, "the token isn't signed with a key of its issuer: get a new one: the issuer publishes no such key"},
		"signature":   {all, aCall{own: "Bearer " + sign(strangeKey(), es256, usualClaims(staffIssuer, "alice"))}, "the token's signature is wrong: 1 of its issuer's keys fit, and none made it"},
		"expiry":      {all, aCall{own: of(es256, claims{"exp": 1})}, "the token has expired: get a new one: its exp was 1970-01-01T00:00:01Z"},
		"audience":    {all, aCall{own: of(es256, claims{"aud": []string{"a", "b\n", "c", "d"}}), route: "orders"}, `the token is for another service (aud): get one for this service: its aud is "a", "b\n", "c", …`},
		"claim":       {all, aCall{own: of(es256, claims{"sub": "bob"}), route: "orders"}, "the token's claim sub isn't there"},
		"scope":       {all, aCall{own: of(es256, claims{"scope": "write"}), route: "orders"}, `the token lacks the scope "read"`},
		"API key":     {all, aCall{key: strings.Repeat("unknown-", 8)}, "unknown API key: ask the operator of this server for one: no line has its hash"},
		"damage":      {all, aCall{key: key["ci"][:55]}, "the API key is damaged: copy all of it again: its length"},
		"nothing":     {all, aCall{}, `the call has no credential: send one: none of "staff", "api_keys" found a credential`},
		"rule":        {all, aCall{key: key["ci"], method: "/shop.v1.X/Get"}, `this call isn't permitted: ask the operator of this server: the rule "no-x" denies it`},
		"the service": {asks, aCall{own: "Bearer secret-mallory"}, "the authorization service answered with the status 9 (FailedPrecondition): not you"},
	} {
		a := newAuth(t, row.cfg)
		f := faultOfCall(t, a, row.call)
		if got := f.Cause.Error(); !strings.HasPrefix(got, row.want) {
			t.Errorf("%s: the cause is %q, want %q", name, got, row.want)
		}
		if got := f.Status("", true).Message(); strings.Count(got, f.Text) != 1 && name != "the service" {
			t.Errorf("%s: details say %q", name, got)
		}
	}
}
