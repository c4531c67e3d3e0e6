package proxytls

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

func acmeChallenge(name string) acme.Challenge {
	return acme.Challenge{Type: HTTP01, Token: "token", KeyAuthorization: "token.thumb", Identifier: acme.Identifier{Type: "dns", Value: name}}
}

func TestACMEOptionsAreChecked(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	noCA := filepath.Join(folder, "no-ca.pem")
	if err := os.WriteFile(noCA, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*ACMEOptions)
		want   []string
	}{
		"no domain":              {func(o *ACMEOptions) { o.Domains = nil }, []string{"tls.acme.domains: "}},
		"an address":             {func(o *ACMEOptions) { o.Domains = []string{"192.0.2.1"} }, []string{`tls.acme.domains: "192.0.2.1"`}},
		"a wildcard":             {func(o *ACMEOptions) { o.Domains = []string{"*.example.com"} }, []string{"tls.acme.domains: *.example.com: ", "docs/guides/acme.md#by-dns"}},
		"no storage":             {func(o *ACMEOptions) { o.Storage = "" }, []string{"tls.acme.storage: ", "missing"}},
		"a file as storage":      {func(o *ACMEOptions) { o.Storage = noCA }, []string{"tls.acme.storage: " + noCA}},
		"plaintext":              {func(o *ACMEOptions) { o.Directory = "http://ca/dir" }, []string{"tls.acme.directory: ", "https"}},
		"a password":             {func(o *ACMEOptions) { o.Directory = "https://me:secret@ca/dir" }, []string{"tls.acme.directory: ", "password"}},
		"no CA":                  {func(o *ACMEOptions) { o.CARoot = noCA }, []string{"tls.acme.ca_root: " + noCA, "-----BEGIN CERTIFICATE-----"}},
		"a missing CA":           {func(o *ACMEOptions) { o.CARoot = folder + "/none" }, []string{"tls.acme.ca_root: " + folder + "/none: no such file"}},
		"half an account":        {func(o *ACMEOptions) { o.EABKeyID = "k" }, []string{"tls.acme.eab.hmac_key: ", "tls.acme.eab.key_id"}},
		"the other half":         {func(o *ACMEOptions) { o.EABHMACKey = "secretsecret" }, []string{"tls.acme.eab.key_id: ", "tls.acme.eab.hmac_key"}},
		"a key in other words":   {func(o *ACMEOptions) { o.EABKeyID, o.EABHMACKey = "k", "se~cretse~cret" }, []string{"tls.acme.eab.hmac_key: ", "base64url"}},
		"everybody":              {func(o *ACMEOptions) { o.OnDemand = []string{"*"} }, []string{`tls.acme.on_demand: "*"`}},
		"a whole top level":      {func(o *ACMEOptions) { o.OnDemand = []string{"*.com"} }, []string{`tls.acme.on_demand: "*.com"`}},
		"stars":                  {func(o *ACMEOptions) { o.OnDemand = []string{"*.*.example.com"} }, []string{`tls.acme.on_demand: "*.*.example.com"`}},
		"an unknown provider":    {func(o *ACMEOptions) { o.DNSProvider = "nowhere" }, []string{`tls.acme.dns_provider: "nowhere"`, "docs/guides/acme.md#by-dns"}},
		"DNS without provider":   {func(o *ACMEOptions) { o.Challenges = []string{DNS01} }, []string{"tls.acme.challenges: dns-01", "provider"}},
		"an unknown challenge":   {func(o *ACMEOptions) { o.Challenges = []string{"tls-sni-01"} }, []string{`tls.acme.challenges: "tls-sni-01"`}},
		"no address of e-mail":   {func(o *ACMEOptions) { o.Email = "Ops <ops@example.com>" }, []string{"tls.acme.email: "}},
		"several things at once": {func(o *ACMEOptions) { o.Storage, o.EABKeyID = "", "k" }, []string{"tls.acme.storage: ", "tls.acme.eab.hmac_key: "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := ACMEOptions{Domains: []string{"grpc.example.com"}, Storage: filepath.Join(folder, "storage"), ConfigKey: "tls.acme"}
			tt.change(&o)
			a, err := NewACME(o)
			if err == nil {
				a.Close()
				t.Fatal("accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
			if o.EABHMACKey != "" && strings.Contains(err.Error(), o.EABHMACKey) || strings.Contains(err.Error(), "secret@") {
				t.Errorf("%q has the secret", err)
			}
			var key *KeyError
			if !errors.As(err, &key) {
				t.Errorf("%q names no key", err)
			}
		})
	}
}

func TestACMERenewalIsPlanned(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	at := func(d time.Duration) *acme.RenewalInfo {
		return &acme.RenewalInfo{SelectedTime: begin.Add(d)}
	}
	for _, tt := range []struct {
		life             time.Duration
		info             *acme.RenewalInfo
		earliest, latest time.Duration
	}{
		{90 * day, nil, 60 * day, 63 * day},
		{90 * day, at(55 * day), 55 * day, 55 * day},
		{90 * day, at(-day), 6 * time.Hour, 6 * time.Hour}, // to be replaced at once, but not for ever again
		{90 * day, at(89 * day), 75 * day, 75 * day},
		{24 * time.Second, nil, 16 * time.Second, 17 * time.Second},
		{24 * time.Second, at(0), 12 * time.Second, 12 * time.Second},
	} {
		c := &kept{leaf: &x509.Certificate{NotBefore: begin, NotAfter: begin.Add(tt.life)}}
		c.plan(tt.info, begin)
		if got := c.renewAt.Sub(begin); got < tt.earliest || got > tt.latest {
			t.Errorf("of a life of %v, with %+v, renewed after %v, want %v to %v", tt.life, tt.info, got, tt.earliest, tt.latest)
		}
	}
}

func TestACMEAsksTheCAOnceADay(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for says, want := range map[time.Duration]time.Duration{
		0: askEvery, time.Second: askEvery, time.Hour: time.Hour, 23 * time.Hour: 23 * time.Hour, 1000 * 24 * time.Hour: 24 * time.Hour,
	} {
		info := &acme.RenewalInfo{SelectedTime: now.AddDate(0, 0, 60)}
		if says > 0 {
			later := now.Add(says)
			info.RetryAfter = &later
		}
		c := &kept{leaf: &x509.Certificate{NotBefore: now, NotAfter: now.AddDate(0, 0, 90)}}
		c.plan(info, now)
		if got := c.askAt.Sub(now); got != want {
			t.Errorf("a CA that wants to be asked in %v is asked in %v, want %v", says, got, want)
		}
	}
}

func TestACMEBacksOff(t *testing.T) {
	t.Parallel()
	refused := fmt.Errorf("order: %w", acme.Problem{Type: acme.ProblemTypeUnauthorized})
	limited := acme.Problem{Type: acme.ProblemTypeRateLimited}
	down := &url.Error{Op: "Get", URL: "https://ca/dir", Err: os.ErrDeadlineExceeded}
	short := &kept{leaf: &x509.Certificate{NotAfter: time.Time{}.Add(time.Minute)}}
	for _, tt := range []struct {
		failures int
		err      error
		before   *kept
		want     time.Duration
	}{
		{1, refused, nil, time.Minute},
		{2, refused, nil, 2 * time.Minute},
		{100, refused, nil, time.Hour},
		{1, limited, nil, time.Hour},
		{1, down, nil, 2 * time.Second},
		{100, down, nil, 10 * time.Minute},
		{1, acme.Problem{Type: acme.ProblemTypeBadNonce}, nil, 2 * time.Second},
		{100, refused, short, 3 * time.Second},
		{100, down, short, 3 * time.Second},
	} {
		if got := pauseAfter(tt.failures, tt.err, tt.before); got > tt.want || got < tt.want*9/10 {
			t.Errorf("after %d failures with %v: %v, want %v or up to a tenth less", tt.failures, tt.err, got, tt.want)
		}
	}
}

func TestReportsHideTheQueryOfTheDirectory(t *testing.T) {
	t.Parallel()
	directory := "https://ca.example.com/dir?token=pw"
	a := &ACME{secrets: (&ACMEOptions{Directory: directory}).redactor()}
	got := a.explain(fmt.Errorf("provisioning client: %w", &url.Error{Op: "Get", URL: directory, Err: os.ErrDeadlineExceeded}))
	if want := "the CA can't be reached: https://ca.example.com/dir…: i/o timeout"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
