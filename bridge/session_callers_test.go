package bridge

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestRefreshOfCallsWithTokensOfTheirOwn extends those of its identity, whoever opened the tunnel, and
// nothing else.
func TestRefreshOfCallsWithTokensOfTheirOwn(t *testing.T) {
	for name, header := range map[string]string{"nobody's tunnel": "", "another one's tunnel": "alice@home", "its own tunnel": "bob@home"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, Config{Authenticator: &doorman{}, Backend: Backend{Target: startBackend(t, echo)}})
			h := bearer(header)
			if header == "" {
				h = nil
			}
			cc := dialTunnel(t, serve(t, s), h)
			begin := func(token string) grpc.ClientStream {
				ctx := metadata.AppendToOutgoingContext(within(t, patience), "authorization", "Bearer "+token)
				stream := open(ctx, t, cc, testMethod)
				echoes(t, stream, token)
				return stream
			}
			bob, carol := begin(expiring("bob@home", 2*time.Second)), begin(expiring("carol@home", 3500*time.Millisecond))
			begin("dora@home")
			if code, reason := refreshes(t, cc, "dora@home"); code != codes.OK {
				t.Errorf("a refresh of one whose token doesn't expire: %v %s", code, reason)
			}
			if code, reason := refreshes(t, cc, "eve@home"); code != codes.PermissionDenied {
				t.Errorf("a refresh of one who has no call: %v %s", code, reason)
			}
			for range 2 { // the second one may end earlier, but not now
				if code, reason := refreshes(t, cc, expiring("bob@home", time.Hour)); code != codes.OK {
					t.Fatalf("a refresh: %v %s", code, reason)
				}
			}
			if reason := ended(t, carol); reason != report.ReasonTokenExpired {
				t.Errorf("carol's call ended with %s", reason)
			}
			echoes(t, bob, "bob's call behind its token's time")
			if err := unary(within(t, patience), cc, testMethod); header == "" && reasonFor(err) != report.ReasonUnauthenticated || header != "" && err != nil {
				t.Errorf("a call without a token: %v", err)
			}
		})
	}
}

func TestCallersAreBounded(t *testing.T) {
	var cs tunnelCallers
	first := cs.begin(&Identity{Name: "first", Expires: time.Unix(2, 0)})
	for i := range 3 * maxCallers {
		cs.begin(&Identity{Name: fmt.Sprint(i), Expires: time.Unix(2, 0)})
	}
	if n := len(cs.newer); n > maxCallers {
		t.Errorf("it has %d", n)
	}
	if cs.extend(&Identity{Name: "first", Expires: time.Now().Add(time.Hour)}) || !first.passed() {
		t.Error("the oldest one is extended")
	}
	last := cs.begin(&Identity{Name: "last", Issuer: "a", Expires: time.Unix(2, 0)})
	if cs.extend(&Identity{Name: "last", Issuer: "b", Expires: time.Now().Add(time.Hour)}) || !last.passed() {
		t.Error("another issuer's identity extends it")
	}
	if !cs.extend(&Identity{Name: "last", Issuer: "a"}) || last.passed() {
		t.Error("it isn't extended")
	}
}
