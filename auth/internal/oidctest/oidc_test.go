package oidctest

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/culvert-grpc/culvert/auth/internal/claim"
	"github.com/culvert-grpc/culvert/auth/internal/jwk"
	"github.com/culvert-grpc/culvert/auth/internal/jwt"
	"github.com/culvert-grpc/culvert/e2e/identity/provider"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// open returns a source of the provider's keys, by discovery, and the states that it tells.
func open(t *testing.T, p *provider.Provider, age time.Duration) (*jwk.Source, chan jwk.State) {
	t.Helper()
	states := make(chan jwk.State, 1)
	source, err := jwk.Open(jwk.Options{
		Issuer: p.URL, Access: jwk.Access{CAFile: p.CAFile}, MinAge: age, MaxAge: age,
		Notify: func(st jwk.State) { // the newest one
			select {
			case <-states:
			default:
			}
			states <- st
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(source.Close)
	return source, states
}

func judge(t *testing.T, issuer jwt.Issuer) *jwt.Judge {
	t.Helper()
	j, err := jwt.NewJudge(jwt.Options{Issuers: []jwt.Issuer{issuer}})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func refused(t *testing.T, j *jwt.Judge, token string) *jwt.Error {
	t.Helper()
	_, err := j.Verify(t.Context(), token, jwt.Thumbprint{})
	about, is := errors.AsType[*jwt.Error](err)
	if !is {
		t.Fatalf("the token is accepted, or %v", err)
	}
	return about
}

func TestClientCredentials(t *testing.T) {
	p := provider.Start(t, provider.RSA("one"))
	source, _ := open(t, p, time.Hour)
	j := judge(t, jwt.Issuer{Name: p.URL, Keys: source, Audiences: []string{provider.Service}, Metadata: []jwt.Mapping{{Claim: must(claim.ParsePath("realm_access.roles")), Name: "x-roles"}}})
	got, err := j.Verify(t.Context(), p.ServiceToken(t, "read", "write"), jwt.Thumbprint{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Issuer != p.URL || got.Subject != provider.Service || !slices.Contains(got.Scopes, "read") || !slices.Contains(got.Scopes, "write") || slices.Contains(got.Scopes, "admin") || time.Until(got.Expires) > 6*time.Minute || len(got.Metadata) != 1 || strings.Join(got.Metadata["x-roles"], "|") != "reader,writer" {
		t.Errorf("the token is %+v", got)
	}

	elsewhere := judge(t, jwt.Issuer{Name: p.URL, Keys: source, Audiences: []string{"other"}})
	if got := refused(t, elsewhere, p.ServiceToken(t)); got.Kind != jwt.Invalid || !strings.Contains(got.Text, "aud") {
		t.Errorf("for another audience: %v", got)
	}
	p.GiveOpaque(true)
	if got := refused(t, j, p.ServiceToken(t)); got.Kind != jwt.Opaque {
		t.Errorf("an opaque token, which this provider encrypts for itself: %v", got)
	}
}

func TestDeviceFlow(t *testing.T) {
	p := provider.Start(t, provider.EC("one"))
	source, _ := open(t, p, time.Hour)
	j := judge(t, jwt.Issuer{Name: p.URL, Keys: source, Audiences: []string{provider.Device}, Scopes: []string{"read"}})
	access, id := p.UserToken(t)
	got, err := j.Verify(t.Context(), access, jwt.Thumbprint{})
	if err != nil || got.Subject != provider.User {
		t.Errorf("the access token is %+v, %v", got, err)
	}
	if id == "" {
		t.Fatal("no ID token")
	}
	// This provider gives its ID tokens the same typ and aud: scopes tell them apart.
	if got := refused(t, j, id); got.Kind != jwt.Denied {
		t.Errorf("the ID token: %v", got)
	}
}

// TestRotation: the provider gets a new key of another type, publishes both for a while, and
// then withdraws the old one. culvert asks for nothing to be restarted.
func TestRotation(t *testing.T) {
	one, two := provider.RSA("one"), provider.EC("two")
	p := provider.Start(t, one)
	source, states := open(t, p, 20*time.Millisecond)
	j := judge(t, jwt.Issuer{Name: p.URL, Keys: source, Audiences: []string{provider.Service}})
	verify := func(token string) {
		t.Helper()
		if _, err := j.Verify(t.Context(), token, jwt.Thumbprint{}); err != nil {
			t.Error(err)
		}
	}
	until := func(keys int) {
		t.Helper()
		for st := range states {
			if st.Err != nil {
				t.Fatal(st.Err)
			}
			if st.Keys == keys {
				return
			}
		}
	}
	old := p.ServiceToken(t)
	verify(old)
	p.Rotate(two, one)
	verify(p.ServiceToken(t)) // waits for the new key
	verify(old)
	until(2)
	p.Rotate(two)
	until(1)
	if got := refused(t, j, old); got.Kind != jwt.Invalid {
		t.Errorf("a token of the withdrawn key: %v", got)
	}
	verify(p.ServiceToken(t))
	p.Rotate(provider.Ed("three"), two)
	until(2)
	verify(p.ServiceToken(t))
}

// TestOutage: the provider is gone; its tokens, seen or not, stay good.
func TestOutage(t *testing.T) {
	p := provider.Start(t, provider.RSA("one"))
	source, states := open(t, p, 20*time.Millisecond)
	j := judge(t, jwt.Issuer{Name: p.URL, Keys: source, Audiences: []string{provider.Service}})
	seen, unseen := p.ServiceToken(t), p.ServiceToken(t)
	if _, err := j.Verify(t.Context(), seen, jwt.Thumbprint{}); err != nil {
		t.Fatal(err)
	}
	p.SignWith(provider.RSA("not published yet"))
	strange := p.ServiceToken(t)
	p.Close()
	for st := range states {
		if st.Failures > 1 {
			break
		}
	}
	for _, token := range []string{seen, unseen} {
		if _, err := j.Verify(t.Context(), token, jwt.Thumbprint{}); err != nil {
			t.Errorf("in the outage: %v", err)
		}
	}
	if got := refused(t, j, strange); got.Kind != jwt.Unavailable {
		t.Errorf("a key that nobody can ask for: %v", got)
	}
}

// TestWrongIssuer: the provider's metadata is that of its own name, not of another one for the
// same server.
func TestWrongIssuer(t *testing.T) {
	p := provider.Start(t, provider.RSA("one"))
	p.URL += "/"
	_, states := open(t, p, time.Hour)
	if st := <-states; st.Err == nil || !strings.Contains(st.Err.Error(), "byte by byte") {
		t.Errorf("the state is %+v", st)
	}
}
