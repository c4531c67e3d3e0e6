package oidctest

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/auth"
	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/e2e/identity/provider"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// startBridge runs a bridge whose backend answers with the caller's subject and roles, and
// returns a call by a token.
func startBridge(t *testing.T, a *auth.Authenticator) (call func(token string) (who string, err error)) {
	t.Helper()
	backend := parts.StartBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		return ss.SendMsg([]byte(strings.Join(md["x-culvert-subject"], ",") + " " + strings.Join(md["x-roles"], ",")))
	})
	s, err := bridge.New(bridge.Config{Backend: bridge.Backend{Target: backend}, Authenticator: a, VouchedHeaders: a.Vouched()})
	if err != nil {
		t.Fatal(err)
	}
	cc, err := grpc.NewClient("passthrough:///"+parts.Serve(t, s), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(parts.BytesCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return func(token string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var who []byte
		err := cc.Invoke(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token, "x-roles", "root", "x-culvert-subject", "root"), "/shop.v1.Orders/Get", []byte{}, &who)
		return string(who), err
	}
}

// TestCallsByTheProvidersTokens, through a bridge: users and services call by their tokens, the
// provider rotates its keys, and then it is gone. Nothing is restarted.
func TestCallsByTheProvidersTokens(t *testing.T) {
	one, two := provider.RSA("one"), provider.EC("two")
	p := provider.Start(t, one)
	cfg := auth.Config{
		Issuers: []auth.Issuer{{
			Name: "provider", Issuer: p.URL, Access: auth.Access{CAFile: p.CAFile}, Audiences: []string{provider.Service, provider.Device},
			Metadata: []auth.ClaimMetadata{{Claim: "realm_access.roles", Name: "x-roles"}},
		}},
		Rules: []auth.Rule{{Name: "readers", Issuers: []string{"provider"}, Scopes: []string{"read"}}},
	}
	a, err := auth.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Retire()
	call := startBridge(t, a)
	want := func(token, who string, code codes.Code) {
		t.Helper()
		if got, err := call(token); status.Code(err) != code || err == nil && got != who {
			t.Errorf("got %q, %v; want %q, %v", got, err, who, code)
		}
	}
	access, id := p.UserToken(t)
	want(access, provider.User+" reader,writer", codes.OK)
	want(id, "", codes.PermissionDenied) // it has no scope
	old := p.ServiceToken(t, "read")
	want(old, provider.Service+" reader,writer", codes.OK)
	want(p.ServiceToken(t, "write"), "", codes.PermissionDenied)
	p.GiveOpaque(true)
	want(p.ServiceToken(t, "read"), "", codes.Unauthenticated)
	p.GiveOpaque(false)

	p.Rotate(two, one)
	want(p.ServiceToken(t, "read"), provider.Service+" reader,writer", codes.OK) // waits for the new key
	want(old, provider.Service+" reader,writer", codes.OK)

	p.Close()
	b, err := auth.New(cfg, a) // as a reload does
	if err != nil {
		t.Fatal(err)
	}
	defer b.Retire()
	call = startBridge(t, b)
	want(old, provider.Service+" reader,writer", codes.OK)
}
