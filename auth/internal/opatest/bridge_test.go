package opatest

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
	"github.com/culvert-grpc/culvert/auth/internal/check"
	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/e2e/identity/opa"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestCallsJudgedByOPAThroughABridge: the policy's answer names the caller, chooses the backend
// and edits the metadata of both directions; its refusals reach the client.
func TestCallsJudgedByOPAThroughABridge(t *testing.T) {
	_, target := opa.Start(t, "culvert.authz", policy, map[string]any{"secret": secret})
	a, err := auth.New(auth.Config{
		External: &auth.External{Target: target, Timeout: check.MaxTimeout, Own: []string{"x-tenant"}}, Routes: []string{"shop"},
		Rules: []auth.Rule{{Name: "no-eve", Deny: true, Identities: []string{"eve"}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Retire()
	cfg := bridge.Config{
		Authenticator: a, VouchedHeaders: a.Vouched(),
		Routes: []bridge.Route{{Name: "shop", Split: []report.Target{{Backend: "green", Weight: 1}, {Backend: "blue"}}}},
	}
	for _, name := range []string{"green", "blue"} {
		backend := parts.StartBackend(t, func(ss grpc.ServerStream) error {
			md, _ := metadata.FromIncomingContext(ss.Context())
			said := []string{name}
			for _, n := range []string{"x-culvert-subject", "x-culvert-kind", "x-tenant", "authorization"} {
				said = append(said, strings.Join(md[n], ","))
			}
			return ss.SendMsg([]byte(strings.Join(said, "|")))
		})
		cfg.Backends = append(cfg.Backends, bridge.NamedBackend{Name: name, Backend: bridge.Backend{Target: backend}})
	}
	s, err := bridge.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cc, err := grpc.NewClient("passthrough:///"+parts.Serve(t, s), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithDisableRetry(), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(parts.BytesCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	const catalog = "/shop.v1.Catalog/List"
	for name, row := range map[string]struct {
		method, token string
		code          codes.Code
		want          string
	}{
		"with a token":          {catalog, token(`{"sub":"alice","tenant":"blue","exp":1800000000}`, secret), codes.OK, "blue|alice|external|blue|"},
		"of another tenant":     {catalog, token(`{"sub":"bob","tenant":"green","exp":1800000000}`, secret), codes.OK, "green|bob|external|green|"},
		"public":                {catalog, "", codes.OK, "green||||"},
		"refused by culvert":    {catalog, token(`{"sub":"eve","tenant":"green","exp":1800000000}`, secret), codes.PermissionDenied, "isn't permitted"},
		"refused by the policy": {"/shop.v1.Admin/Rebuild", token(`{"sub":"bob","tenant":"green","exp":1800000000}`, secret), codes.PermissionDenied, "bob may not call /shop.v1.Admin/Rebuild"},
		"a forged token":        {"/shop.v1.Orders/Get", token(`{"sub":"bob","tenant":"green"}`, "another secret"), codes.Unauthenticated, "a token is needed"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		ctx = metadata.AppendToOutgoingContext(ctx, "x-tenant", "forged", "x-culvert-subject", "root")
		if row.token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+row.token)
		}
		var said []byte
		var header metadata.MD
		err := cc.Invoke(ctx, row.method, []byte{}, &said, grpc.Header(&header))
		cancel()
		text := string(said) + status.Convert(err).Message()
		if status.Code(err) != row.code || !strings.HasPrefix(text, row.want) && (row.code == codes.OK || !strings.Contains(text, row.want)) {
			t.Errorf("%s: got %v %q, want %v %q", name, status.Code(err), text, row.code, row.want)
		}
		if row.code == codes.OK && strings.Join(header["x-judged-by"], ",") != "opa" {
			t.Errorf("%s: the client gets %v", name, header)
		}
	}
}
