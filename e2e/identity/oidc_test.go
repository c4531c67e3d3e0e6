package identity

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/culvert-grpc/culvert/e2e/identity/provider"
)

// secure is the configuration of a page with a certificate of the test, and a client of it.
func secure(t *testing.T, config, name string) (string, *client) {
	t.Helper()
	ca := newAuthority(t)
	cert, key := ca.server(t, name)
	return with(t, config, `":443"`, "127.0.0.1:0", "/etc/culvert/tls/fullchain.pem", cert, "/etc/culvert/tls/privkey.pem", key, "localhost:9000", startBackend(t)),
		&client{name: name, tls: ca.trusting(name)}
}

// startWithProvider starts culvert with the page's configuration, changed by pairs, and a
// provider whose tokens are for its audience.
func startWithProvider(t *testing.T, g *guide, pairs ...string) (*provider.Provider, *program, *client) {
	t.Helper()
	p := provider.Start(t, provider.RSA("one"))
	p.GiveFor(0, "orders")
	config, c := secure(t, g.block(t, "yaml", 0), "grpc.example.com")
	config = with(t, config, "issuer: https://login.example.com/realms/staff", "issuer: "+p.URL+"\n      ca: "+p.CAFile)
	culvert := startCulvert(t, with(t, config, pairs...))
	c.address = culvert.address
	return p, culvert, c
}

// TestProvider: tokens of a real provider, by the configuration of the page.
func TestProvider(t *testing.T) {
	t.Parallel()
	g := readGuide(t, "oidc.md")
	p, culvert, c := startWithProvider(t, g)
	reader, writer := p.ServiceToken(t, "orders.read"), p.ServiceToken(t, "orders.read", "orders.write")
	_, idToken := p.UserToken(t)
	p.GiveFor(0, "other")
	foreign := p.ServiceToken(t, "orders.read")
	other := provider.Start(t, provider.EC("one"))
	other.GiveFor(0, "orders")
	stranger := other.ServiceToken(t, "orders.read")
	p.GiveFor(-time.Hour, "orders")
	late := p.ServiceToken(t, "orders.read")

	for way := range ways {
		forged := []string{"x-roles", "admin", "x-culvert-subject", "root"}
		got := c.call(t, way, "shop.v1.Orders/Get", append(forged, "authorization", "Bearer "+reader)...)
		if got.code != codes.OK || got.got("x-culvert-subject") != provider.Service || got.got("x-culvert-issuer") != p.URL || got.got("x-culvert-scopes") != "orders.read" || got.got("x-culvert-kind") != "jwt" {
			t.Errorf("%s: %v", on(way, "a good call"), got)
		}
		if roles := got.got("x-roles"); roles != "reader,writer" {
			t.Errorf("%s: x-roles is %q", way, roles)
		}
		if got := c.call(t, way, "shop.v1.Orders/Cancel", "authorization", "Bearer "+writer); got.code != codes.OK {
			t.Errorf("%s: %v", on(way, "a writer's call"), got)
		}
		for token, want := range map[string]codes.Code{"": codes.Unauthenticated, reader: codes.PermissionDenied, foreign: codes.Unauthenticated, stranger: codes.Unauthenticated, late: codes.Unauthenticated, idToken: codes.Unauthenticated, "opaque": codes.Unauthenticated} {
			var md []string
			if token != "" {
				md = []string{"authorization", "Bearer " + token}
			}
			got := c.call(t, way, "shop.v1.Orders/Cancel", md...)
			if got.code != want || got.header["got-authorization"] != nil {
				t.Errorf("%s with %.30q: %v, want %v", on(way, "Cancel"), token, got, want)
			}
			g.explains(t, got.message)
		}
	}
	g.wasSeen(t, "the token can't be verified now: try again")
	culvert.logged(t, "call", map[string]string{"identity": provider.Service, "rule": "readers", "code": "OK"})
	culvert.logged(t, "call", map[string]string{"reason": "UNAUTHENTICATED", "cause": "its issuer is \"" + other.URL})
	culvert.logged(t, "call", map[string]string{"identity": provider.Service, "reason": "PERMISSION_DENIED", "rule": "no rule allows"})
	culvert.hides(t, reader, writer, foreign, stranger, late, idToken)
}

// TestProviderBeforeUpgrades: a program sends its token with the request for a WebSocket, once.
func TestProviderBeforeUpgrades(t *testing.T) {
	t.Parallel()
	p, _, c := startWithProvider(t, readGuide(t, "oidc.md"))
	c.upgrade = http.Header{"Authorization": {"Bearer " + p.ServiceToken(t, "orders.read")}}
	for _, way := range []string{"h2ts+grpc", "grpc-websockets"} {
		if got := c.call(t, way, "shop.v1.Orders/Get"); got.code != codes.OK || got.got("x-culvert-subject") != provider.Service {
			t.Errorf("%s: %v", way, got)
		}
		// The call's own token counts, also if it is worse than the connection's.
		if got := c.call(t, way, "shop.v1.Orders/Get", "authorization", "Bearer x.y.z"); got.code != codes.Unauthenticated {
			t.Errorf("%s with a bad token of its own: %v", way, got)
		}
	}
}

// TestProviderRotatesItsKeys: no restart is needed, and an outage costs nothing.
func TestProviderRotatesItsKeys(t *testing.T) {
	t.Parallel()
	p, _, c := startWithProvider(t, readGuide(t, "oidc.md"))
	call := func(token string) outcome {
		return c.call(t, "grpc", "shop.v1.Orders/Get", "authorization", "Bearer "+token)
	}
	old := p.ServiceToken(t, "orders.read")
	if got := call(old); got.code != codes.OK {
		t.Fatalf("%v", got)
	}
	two := provider.EC("two")
	p.Rotate(two)
	if got := call(p.ServiceToken(t, "orders.read")); got.code != codes.OK { // culvert asks for the key
		t.Errorf("a token of the new key: %v", got)
	}
	if got := call(old); got.code != codes.Unauthenticated {
		t.Errorf("a token of the withdrawn key: %v", got)
	}
	unseen := p.ServiceToken(t, "orders.read", "profile")
	p.Close()
	if got := call(unseen); got.code != codes.OK {
		t.Errorf("while the provider is gone: %v", got)
	}
}

// TestProviderClaims: a rule of the page asks for a role, which the provider's tokens have or lack.
func TestProviderClaims(t *testing.T) {
	t.Parallel()
	for values, want := range map[string]codes.Code{"[support, lead]": codes.PermissionDenied, "[lead, writer]": codes.OK} {
		p, culvert, c := startWithProvider(t, readGuide(t, "oidc.md"), "[support, lead]", values)
		for way := range ways {
			got := c.call(t, way, "shop.v1.Refunds/Pay", "authorization", "Bearer "+p.ServiceToken(t, "profile"))
			if got.code != want {
				t.Errorf("%s with a role of %s: %v, want %v", on(way, "Pay"), values, got, want)
			}
		}
		if want == codes.OK {
			culvert.logged(t, "call", map[string]string{"identity": provider.Service, "rule": "support", "code": "OK"})
		}
	}
}

// TestProviderIsGone: nobody can judge a token, and the page says what clients get.
func TestProviderIsGone(t *testing.T) {
	t.Parallel()
	g := readGuide(t, "oidc.md")
	p := provider.Start(t, provider.EC("one"))
	p.GiveFor(0, "orders")
	token := p.ServiceToken(t, "orders.read")
	p.Close()
	config, c := secure(t, g.block(t, "yaml", 0), "grpc.example.com")
	culvert := startCulvert(t, with(t, config, "issuer: https://login.example.com/realms/staff", "issuer: "+p.URL+"\n      ca: "+p.CAFile))
	c.address = culvert.address
	if got := c.call(t, "grpc", "shop.v1.Orders/Get", "authorization", "Bearer "+token); got.code != codes.Unavailable {
		t.Errorf("%v", got)
	} else {
		g.explains(t, got.message)
	}
	culvert.logged(t, "call", map[string]string{"reason": "AUTH_UNAVAILABLE"})
	culvert.hides(t, token)
}

// A stream is one of Watch.
type stream struct {
	grpc.ClientStream
	t *testing.T
}

func watch(t *testing.T, conn *grpc.ClientConn, md ...string) *stream {
	t.Helper()
	s, err := conn.NewStream(metadata.AppendToOutgoingContext(t.Context(), md...), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/shop.v1.Orders/Watch")
	if err != nil {
		t.Fatal(err)
	}
	return &stream{s, t}
}

// echo sends a message and waits for its answer.
func (s *stream) echo() error {
	if err := s.SendMsg(&emptypb.Empty{}); err != nil && !errors.Is(err, io.EOF) { // RecvMsg has the status then
		return err
	}
	return s.RecvMsg(&emptypb.Empty{})
}

// TestTokenExpiresInAStream: a running call ends with its token. In a tunnel, a newer token of the
// same subject keeps it.
func TestTokenExpiresInAStream(t *testing.T) {
	t.Parallel()
	p, culvert, c := startWithProvider(t, readGuide(t, "oidc.md"), "audiences: [orders]", "audiences: [orders]\n      skew: 1s")
	p.GiveFor(5*time.Second, "orders")
	short := p.ServiceToken(t, "orders.read")
	c.upgrade = http.Header{"Authorization": {"Bearer " + short}}
	p.GiveFor(0, "orders")
	long := p.ServiceToken(t, "orders.read")
	direct, err := c.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, direct)
	tunnel, err := c.tunnel()
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, tunnel)
	dies, lives := watch(t, direct, "authorization", "Bearer "+short), watch(t, tunnel)
	for _, s := range []*stream{dies, lives} {
		if err := s.echo(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+long), patience)
	defer cancel()
	if err := tunnel.Invoke(ctx, "/culvert.v1.Session/Refresh", &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
		t.Fatal(err)
	}
	err = dies.RecvMsg(&emptypb.Empty{})
	if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "expired") {
		t.Errorf("the stream ended with %v", err)
	}
	culvert.logged(t, "call", map[string]string{"reason": "TOKEN_EXPIRED"})
	if err := lives.echo(); err != nil {
		t.Errorf("the stream whose connection has a newer token: %v", err)
	}
}

func closed(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
