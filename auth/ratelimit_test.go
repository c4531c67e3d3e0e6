package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// A counter is a rate limit service that lets each count pass once, and notes what it counts.
type counter struct {
	ratelimitv3.UnimplementedRateLimitServiceServer
	asked chan string
	seen  map[string]bool
}

// ShouldRateLimit implements the service.
func (c *counter) ShouldRateLimit(_ context.Context, r *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
	var all []string
	for _, d := range r.GetDescriptors() {
		for _, e := range d.GetEntries() {
			all = append(all, e.GetKey()+"="+e.GetValue())
		}
	}
	count := strings.Join(all, " ")
	response := &ratelimitv3.RateLimitResponse{OverallCode: ratelimitv3.RateLimitResponse_OK, ResponseHeadersToAdd: []*corev3.HeaderValue{{Key: "x-ratelimit-limit", Value: "1"}, {Key: "Set-Cookie", Value: "a=b"}}}
	if c.seen[count] {
		response.OverallCode = ratelimitv3.RateLimitResponse_OVER_LIMIT
	}
	c.seen[count] = true
	c.asked <- count
	return response, nil
}

func serveCounter(t testing.TB) (*counter, *RateLimit) {
	t.Helper()
	c := &counter{asked: make(chan string, 16), seen: make(map[string]bool)}
	ln := parts.Listen(t, "127.0.0.1:0")
	s := grpc.NewServer()
	ratelimitv3.RegisterRateLimitServiceServer(s, c)
	parts.ServeGRPC(t, ln, s)
	return c, &RateLimit{Target: ln.Addr().String(), Domain: "culvert", Timeout: time.Second}
}

// TestRateLimit: the service is asked last, with the identity, and of no call that is refused
// anyway.
func TestRateLimit(t *testing.T) {
	c, limit := serveCounter(t)
	for _, from := range []string{"identity", "subject", "issuer", "kind", "method", "service", "route", "peer", "metadata:x-role"} {
		limit.Descriptors = append(limit.Descriptors, []DescriptorEntry{{Key: from, From: from}})
	}
	limit.Descriptors = append(limit.Descriptors, []DescriptorEntry{{Key: "all", Value: "calls"}})
	a := newAuth(t, Config{Issuers: []Issuer{staff(t)}, RateLimit: limit, Routes: []string{"orders"}, Rules: []Rule{{Name: "no-eve", Deny: true, Identities: []string{"eve"}}}})
	alice := aCall{own: "Bearer " + staffToken(claims{"role": "admin"}), route: "orders", md: metadata.MD{"x-role": {"forged"}}}
	r := wantJudged(t, a, alice, "alice")
	want := fmt.Sprintf("identity=jwt %s alice subject=alice issuer=%s kind=jwt method=%s service=shop.v1.Orders route=orders peer=192.0.2.7 metadata:x-role=admin all=calls", staffIssuer, staffIssuer, method)
	if got := <-c.asked; got != want {
		t.Errorf("it counts\n%s, want\n%s", got, want)
	}
	header := metadata.MD{}
	r.EditHeader(header)
	if !slices.Equal(header["x-ratelimit-limit"], []string{"1"}) {
		t.Errorf("the client gets %v", header)
	}
	r = alice.request(t, a)
	_, err := a.Authenticate(t.Context(), r)
	<-c.asked
	f, _ := errors.AsType[*report.Fault](err)
	if f == nil || f.Reason != report.ReasonLimitExceeded || f.Key != report.KeyAuthRateLimit || f.HTTPStatus() != 429 || !slices.Equal(f.Header, []string{"x-ratelimit-limit", "1"}) || r.Refused == nil || r.Refused.Name != "alice" {
		t.Errorf("over the limit: %+v, of %+v", f, r.Refused)
	}
	for call, want := range map[string]string{"": unauthenticated, "Bearer bad": unauthenticated, "Bearer " + staffToken(claims{"sub": "eve"}): denied} {
		wantJudged(t, a, aCall{own: call}, want)
	}
	if len(c.asked) > 0 {
		t.Errorf("it counts refused calls: %s", <-c.asked)
	}
	if s := a.State().RateLimit; s.Allowed != 1 || s.Denied != 1 {
		t.Errorf("the state is %+v", s)
	}
}

// TestRateLimitAway: calls pass, or fail closed if that is wanted.
func TestRateLimitAway(t *testing.T) {
	limit := &RateLimit{Target: "127.0.0.1:1", Domain: "d", Timeout: time.Millisecond, Descriptors: [][]DescriptorEntry{{{Key: "k", Value: "v"}}}}
	a := newAuth(t, Config{Issuers: []Issuer{staff(t)}, RateLimit: limit})
	wantJudged(t, a, aCall{own: "Bearer " + staffToken(nil)}, "alice")
	closed := *limit
	closed.FailClosed = true
	a = newAfter(t, Config{Issuers: []Issuer{staff(t)}, RateLimit: &closed}, a)
	f := faultOfCall(t, a, aCall{own: "Bearer " + staffToken(nil)})
	if f.Reason != report.ReasonAuthUnavailable || f.Sent != report.SentNo || strings.Contains(f.Text, "127.0.0.1") {
		t.Errorf("got %+v", f)
	}
}
