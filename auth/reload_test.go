package auth

import (
	"bytes"
	"crypto"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestReloadOfFiles: withdrawn keys end, new ones count, and broken files change nothing.
func TestReloadOfFiles(t *testing.T) {
	keys, key := keysOf(t, time.Time{}, "ci")
	issuer := staff(t)
	a := newAuth(t, Config{Issuers: []Issuer{issuer}, APIKeys: keys})
	if want := sorted([]string{keys.File, issuer.KeysFile}); !slices.Equal(sorted(a.Files()), want) {
		t.Errorf("the files are %q, want %q", a.Files(), want)
	}
	token, ci := aCall{own: "Bearer " + staffToken(nil)}, aCall{key: key["ci"]}
	wantBoth := func(ofToken, ofKey string) {
		t.Helper()
		wantJudged(t, a, token, ofToken)
		wantJudged(t, a, ci, ofKey)
	}
	wantBoth("alice", "ci")

	writeFile(t, keys.File, []byte("hush"))
	writeFile(t, issuer.KeysFile, []byte("{"))
	err := a.Reload()
	if err == nil || !strings.Contains(err.Error(), keys.File) || !strings.Contains(err.Error(), issuer.KeysFile) || strings.Contains(err.Error(), "hush") {
		t.Errorf("the error of broken files is %v", err)
	}
	wantBoth("alice", "ci")
	if s := a.State(); s.APIKeys.Problem == "" || s.APIKeys.Keys != 1 || s.Issuers[0].Problem == "" || s.Issuers[0].Failures != 1 {
		t.Errorf("the state is %+v", s)
	}

	writeFile(t, keys.File, nil)
	writeFile(t, issuer.KeysFile, keySet(map[string]crypto.Signer{"new": strangeKey()}))
	if err := a.Reload(); err != nil {
		t.Error(err)
	}
	wantBoth(unauthenticated, unauthenticated)
	wantJudged(t, a, aCall{own: "Bearer " + sign(strangeKey(), `{"alg":"ES256","kid":"new"}`, usualClaims(staffIssuer, "carol"))}, "carol")
	if s := a.State(); s.APIKeys.Problem != "" || s.APIKeys.Keys != 0 || s.APIKeys.Read.IsZero() || s.Issuers[0].Problem != "" || s.Issuers[0].Keys != 1 {
		t.Errorf("the state is %+v", s)
	}
}

// TestTakenOver: an Authenticator goes on with what the one before has, as far as its settings
// are the same; and closing one of them leaves the other working.
func TestTakenOver(t *testing.T) {
	var j judge
	keys, key := keysOf(t, time.Time{}, "ci")
	cfg := Config{
		Issuers: []Issuer{staff(t), shop(t)}, APIKeys: keys, External: j.serveGRPC(t),
		RateLimit: &RateLimit{Target: "127.0.0.1:1", Domain: "d", Timeout: time.Millisecond, Descriptors: [][]DescriptorEntry{{{Key: "k", From: "subject"}}}},
	}
	first := newAuth(t, cfg)
	token := aCall{own: "Bearer " + staffToken(nil)}
	wantJudged(t, first, token, "alice")

	same := newAfter(t, cfg, first)
	if same.tokens.verdicts != first.tokens.verdicts || same.external.value != first.external.value || same.limiter.value != first.limiter.value || same.keyFile != first.keyFile {
		t.Error("nothing is taken over")
	}
	changed := cfg
	changed.Issuers = []Issuer{cfg.Issuers[1], cfg.Issuers[0]}
	changed.Issuers[0].Audiences = []string{"other"}
	changed.External = &External{Target: cfg.External.Target, Timeout: time.Second}
	other := newAfter(t, changed, same)
	if other.tokens.verdicts == first.tokens.verdicts || other.external.value == first.external.value || other.tokens.issuers[1].keys != first.tokens.issuers[0].keys || other.limiter.value != first.limiter.value {
		t.Error("the verdicts or the answers of other settings are taken over, or not the keys")
	}
	// The files break: a reload of everything else goes on with the last good keys.
	writeFile(t, cfg.Issuers[0].KeysFile, []byte("{"))
	writeFile(t, keys.File, []byte("hush"))
	later := newAfter(t, cfg, other)
	for _, a := range []*Authenticator{first, same, other} {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		a.Retire() // as the bridge does, too
	}
	wantJudged(t, later, token, "alice")
	wantJudged(t, later, aCall{own: "Bearer secret-bob"}, "bob")
	wantJudged(t, later, aCall{key: key["ci"]}, "ci")
	if later.State().RateLimit.Open == 0 {
		t.Error("the rate limit service isn't asked")
	}
	// What is closed isn't taken over.
	if err := later.Close(); err != nil {
		t.Error(err)
	}
	if _, err := New(cfg, later); err == nil || !strings.Contains(err.Error(), "keys_file") {
		t.Errorf("with broken files and nothing to take over: %v", err)
	}
}

// TestClaimsOverReloads: a token that was seen is judged by the claims of each reload's rules,
// whatever a reload before has asked of it. Verdicts stay only if all rules ask the same.
func TestClaimsOverReloads(t *testing.T) {
	token := aCall{own: "Bearer " + staffToken(claims{"role": []string{"user", "admin"}, "tenant": map[string]any{"id": 7}, "suspended": false})}
	issuers := []Issuer{staff(t), shop(t)}
	ask := func(name string, values ...string) []Requirement { return []Requirement{{Claim: name, Values: values}} }
	allow := func(r []Requirement) []Rule {
		return []Rule{{Name: "allow", Claims: r, Methods: []string{"shop.v1.Orders/*"}}}
	}
	deny := func(r []Requirement) []Rule { return []Rule{{Name: "deny", Claims: r, Deny: true}} }
	a := newAuth(t, Config{Issuers: issuers})
	wantJudged(t, a, token, "alice")
	for _, step := range []struct {
		name  string
		rules []Rule
		want  string
		same  bool // the verdicts stay
	}{
		{"a claim that it has", allow(ask("role", "admin")), "alice", false},
		{"the same, in another rule", []Rule{{Name: "all", Claims: ask("role", "admin")}}, "alice", true},
		{"the same, in a deny rule", deny(ask("role", "admin")), denied, false},
		{"another value", deny(ask("role", "guest")), "alice", false},
		{"a claim that it lacks, in the other's place", allow(ask("email")), denied, false},
		{"a claim in an object", allow(ask("tenant.id", "7")), "alice", false},
		{"two claims", allow(append(ask("tenant.id", "7"), ask("role", "root", "user")...)), "alice", false},
		{"the two in another order", allow(append(ask("role", "root", "user"), ask("tenant.id", "8")...)), denied, false},
		{"a claim of a deny rule", deny(ask("suspended", "true")), "alice", false},
		{"that it has", deny(ask("suspended", "false", "true")), denied, false},
		{"no claims", nil, "alice", false},
		{"none of another rule either", []Rule{{Name: "scopes", Scopes: []string{"read"}}}, "alice", true},
	} {
		next := newAfter(t, Config{Issuers: issuers, Rules: step.rules}, a)
		for range 2 { // at first it is new to the verdicts, or isn't; then it is known
			if got, _ := judged(t, next, token); got != step.want {
				t.Errorf("%s: got %s, want %s", step.name, got, step.want)
			}
		}
		if same := next.tokens.verdicts == a.tokens.verdicts; same != step.same {
			t.Errorf("%s: the verdicts stay: %v", step.name, same)
		}
		if next.tokens.issuers[0].keys != a.tokens.issuers[0].keys {
			t.Errorf("%s: the keys are fetched again", step.name)
		}
		a = next
	}
}

// TestClaimsOfOtherWays: only tokens have claims, and one that all_of needs beside a certificate
// brings its own.
func TestClaimsOfOtherWays(t *testing.T) {
	keys, key := keysOf(t, time.Time{}, "ci")
	admins := []Rule{{Name: "admins", Claims: []Requirement{{Claim: "role", Values: []string{"admin"}}}}}
	proxy := &report.ClientNames{SPIFFE: "spiffe://example.org/proxy"}
	admin, user := "Bearer "+staffToken(claims{"role": "admin"}), "Bearer "+staffToken(claims{"role": "user"})
	any := newAuth(t, Config{Issuers: []Issuer{staff(t)}, APIKeys: keys, Certificates: true, Rules: admins})
	wantJudged(t, any, aCall{own: admin}, "alice")
	wantJudged(t, any, aCall{own: user}, denied)
	wantJudged(t, any, aCall{conn: admin}, "alice")
	wantJudged(t, any, aCall{conn: admin, own: user}, denied)
	wantJudged(t, any, aCall{key: key["ci"]}, denied)
	wantJudged(t, any, aCall{client: proxy}, denied)
	both := newAuth(t, Config{Issuers: []Issuer{staff(t)}, Certificates: true, AllOf: []string{WayCertificates, "staff"}, Rules: admins})
	wantJudged(t, both, aCall{client: proxy, own: admin}, proxy.SPIFFE)
	wantJudged(t, both, aCall{client: proxy, own: user}, denied)
}

// TestFailedNewLeavesNothing: what was taken over or opened before a mistake is given back.
func TestFailedNewLeavesNothing(t *testing.T) {
	cfg := Config{Issuers: []Issuer{staff(t)}}
	a := newAuth(t, cfg)
	cfg.Issuers = append(cfg.Issuers, shop(t))
	cfg.APIKeys = &APIKeys{File: "/nonexistent"}
	if _, err := New(cfg, a); err == nil {
		t.Fatal("no error")
	}
	if n := a.tokens.issuers[0].keys.users.Load(); n != 1 {
		t.Errorf("the keys have %d users, want 1", n)
	}
}

// TestKeysAreLogged: fetches, failures and skipped keys, once each; and never their contents.
func TestKeysAreLogged(t *testing.T) {
	var log bytes.Buffer
	issuer := staff(t)
	a := newAuth(t, Config{Issuers: []Issuer{issuer}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	lines := func() []string {
		defer log.Reset()
		return strings.Split(strings.TrimSpace(log.String()), "\n")
	}
	if got := lines(); len(got) != 1 || !strings.Contains(got[0], "fetched") || !strings.Contains(got[0], "keys=2") {
		t.Errorf("at first: %q", got)
	}
	_ = a.Reload()
	if got := lines(); got[0] != "" {
		t.Errorf("the same keys again: %q", got)
	}
	good, err := os.ReadFile(issuer.KeysFile)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, issuer.KeysFile, []byte("{"))
	for range 3 {
		_ = a.Reload()
	}
	if got := lines(); len(got) != 1 || !strings.Contains(got[0], "level=WARN") || !strings.Contains(got[0], "can't be fetched") {
		t.Errorf("three failures: %q", got)
	}
	writeFile(t, issuer.KeysFile, bytes.Replace(good, []byte(`{"keys":[`), []byte(`{"keys":[{"kty":"oct","k":"aHVzaA","kid":"secret"},`), 1))
	_ = a.Reload()
	if got := lines(); len(got) != 2 || !strings.Contains(got[0], "keys=2") || !strings.Contains(got[1], "kid=secret") || strings.Contains(strings.Join(got, ""), "aHVzaA") {
		t.Errorf("the end of the outage: %q", got)
	}
	if got := a.State().Issuers[0].Skipped["secret"]; got == "" || strings.Contains(got, "aHVzaA") {
		t.Errorf("the key is skipped because %q", got)
	}
}
