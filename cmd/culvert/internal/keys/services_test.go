package keys

import (
	"crypto/tls"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
)

// TestServicesKeepTheirTLS: package auth takes another pointer for another service.
func TestServicesKeepTheirTLS(t *testing.T) {
	load := func(external, limits string) *config.Loaded {
		return cmdtest.Load(t, "backend: {address: localhost:1}\nauth:\n  external: {"+external+"}\n  rate_limit: {"+limits+", domain: a, descriptors: [{entries: [{key: a, value: b}]}]}\n")
	}
	const external, limits = "url: https://auth.example/verify", "address: limits.example:1, tls: {enabled: true}"
	first := load(external, limits)
	k, err := Open(first, slog.New(slog.DiscardHandler), nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close(Patience) })
	of := func(c *config.Loaded) (external, limits *tls.Config) {
		a := wiring.Auth(c)
		k.SecureAuth(a)
		return a.External.TLS, a.RateLimit.TLS
	}
	e, l := of(first)
	if e == nil || l == nil || e.ServerName != "auth.example" || l.ServerName != "limits.example" {
		t.Fatalf("the services have %+v and %+v", e, l)
	}
	k.SecureAuth(nil) // nobody is asked
	for _, step := range []struct {
		what         string
		next         *config.Loaded
		keepsE, hasE bool
	}{
		{"the same", load(external, limits), true, true},
		{"another path", load("url: https://auth.example/other", limits), true, true},
		{"another name", load(external+", tls: {server_name: other.example}", limits), false, true},
		{"plaintext", load("url: http://localhost:1", limits), false, false},
	} {
		_, undo, err := k.ChangeClients(first, step.next)
		if err != nil {
			t.Fatal(err)
		}
		nowE, nowL := of(step.next)
		if nowE == e != step.keepsE || nowE != nil != step.hasE || nowL != l {
			t.Errorf("%s: the services have %p and %p, before %p and %p", step.what, nowE, nowL, e, l)
		}
		undo()
		if nowE, nowL := of(first); nowE != e || nowL != l {
			t.Errorf("%s: undo doesn't take it back", step.what)
		}
	}
}

// TestFilesOfServicesHaveTheirPlaces, and their certificates are known to those who forget.
func TestFilesOfServicesHaveTheirPlaces(t *testing.T) {
	dir := t.TempDir()
	cmdtest.WritePair(t, dir, "one.example.com")
	c := cmdtest.Load(t, strings.ReplaceAll("backend: {address: localhost:1}\nauth:\n  external:\n    address: auth.example:1\n    tls:\n      ca: DIR/none.pem\n      cert: DIR/one.example.com.pem\n      key: DIR/one.example.com.key\n", "DIR", dir))
	_, err := Open(c, slog.New(slog.DiscardHandler), nil, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "proxy.yaml:6: auth.external.tls.ca: ") {
		t.Errorf("got %v, want the place of the CA", err)
	}
	if !slices.Contains(certificateFiles(c), dir+"/one.example.com.pem") {
		t.Error("a reload forgets when the certificate expires")
	}
}
