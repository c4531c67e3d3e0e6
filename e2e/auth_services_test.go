package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// A rateLimit is a service of Envoy's RateLimitService, which answers by the tenant of a call.
type rateLimit struct {
	ratelimitv3.UnimplementedRateLimitServiceServer
	deadlines chan time.Duration // of questions that it lets wait
}

func (s *rateLimit) ShouldRateLimit(ctx context.Context, q *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
	header := func(name, value string) []*corev3.HeaderValue {
		return []*corev3.HeaderValue{{Key: name, Value: value}}
	}
	switch entry := q.GetDescriptors()[0].GetEntries()[0]; {
	case q.GetDomain() != "edge", entry.GetKey() != "tenant":
		return nil, fmt.Errorf("asked about %v", q)
	case entry.GetValue() == "slow":
		deadline, _ := ctx.Deadline() // the zero time is long ago, so no test takes it
		s.deadlines <- time.Until(deadline)
		<-ctx.Done()
		return nil, ctx.Err()
	case entry.GetValue() == "over":
		return &ratelimitv3.RateLimitResponse{
			OverallCode: ratelimitv3.RateLimitResponse_OVER_LIMIT, ResponseHeadersToAdd: header("x-ratelimit-remaining", "0"),
			Statuses: []*ratelimitv3.RateLimitResponse_DescriptorStatus{{Code: ratelimitv3.RateLimitResponse_OVER_LIMIT, DurationUntilReset: durationpb.New(7 * time.Second)}},
		}, nil
	}
	return &ratelimitv3.RateLimitResponse{OverallCode: ratelimitv3.RateLimitResponse_OK, ResponseHeadersToAdd: header("x-ratelimit-remaining", "9")}, nil
}

// TestRateLimitService: by each protocol, a call over the limit is told when to try again. Without
// an answer in time, calls pass, or are refused with fail_closed; none waits for an answer.
func TestRateLimitService(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	s := &rateLimit{deadlines: make(chan time.Duration, 100)}
	address, stop := serveService(t, func(r *grpc.Server) { ratelimitv3.RegisterRateLimitServiceServer(r, s) })
	config := func(more string) string {
		return `auth:
  rate_limit:
    address: ` + address + `
    domain: edge
    descriptors: [{entries: [{key: tenant, from: "metadata:x-tenant"}]}]
    ` + more + "\n"
	}
	// The answer may take a second, and the machine may be slower.
	patient, open, closed := startCulvert(t, b.address, culvertOptions{config: config("timeout: 1s")}), startCulvert(t, b.address, culvertOptions{config: config("")}), startCulvert(t, b.address, culvertOptions{config: config("fail_closed: true")})
	of := func(tenant string) map[string]string { return map[string]string{"x-tenant": tenant} }
	for _, via := range clientProtocols {
		err := eventually(patience, func() error {
			id := newID(t)
			got := callVia(t, via, patient.address, id, of("over"))
			if _, reached := b.saw(t, id); reached || got.code != codes.ResourceExhausted || got.reason != "LIMIT_EXCEEDED" || got.retry != 7*time.Second {
				return fmt.Errorf("over the limit: %+v; it reaches the backend: %v", got, reached)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", via, err)
		}
		err = eventually(patience, func() error {
			if got := callVia(t, via, patient.address, newID(t), of("free")); got.code != codes.OK || got.header.Get("x-ratelimit-remaining") != "9" {
				return fmt.Errorf("below the limit: %+v", got)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", via, err)
		}
		// The service doesn't answer before its question has ended.
		if got := callVia(t, via, open.address, newID(t), of("slow")); got.code != codes.OK {
			t.Errorf("%s: without an answer: %+v", via, got)
		}
		if got := callVia(t, via, closed.address, newID(t), of("slow")); got.code != codes.Unavailable || got.reason != "AUTH_UNAVAILABLE" {
			t.Errorf("%s: without an answer, closed: %+v", via, got)
		}
	}
	line := closed.loggedLike(t, func(l map[string]any) bool { return l["reason"] == "AUTH_UNAVAILABLE" })
	if cause, _ := line["cause"].(string); !strings.Contains(cause, "no answer in 50ms") {
		t.Errorf("the log says %v", line)
	}
	for range len(s.deadlines) {
		if d := <-s.deadlines; d > 50*time.Millisecond || d < -time.Hour {
			t.Errorf("a question may take %v", d)
		}
	}
	stop()
	for _, via := range clientProtocols {
		if got := callVia(t, via, open.address, newID(t), of("over")); got.code != codes.OK {
			t.Errorf("%s: without the service: %+v", via, got)
		}
		id := newID(t)
		got := callVia(t, via, closed.address, id, of("free"))
		if _, reached := b.saw(t, id); reached || got.code != codes.Unavailable || got.reason != "AUTH_UNAVAILABLE" {
			t.Errorf("%s: without the service, closed: %+v; it reaches the backend: %v", via, got, reached)
		}
	}
	open.logged(t, "calls pass rate limit service count")
}

// A checkService is a service of Envoy's Authorization, which answers by the token of a call.
type checkService struct {
	authv3.UnimplementedAuthorizationServer
}

func (checkService) Check(_ context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	set := func(name, value string) []*corev3.HeaderValueOption {
		return []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD}}
	}
	http := r.GetAttributes().GetRequest().GetHttp()
	ok := &authv3.OkHttpResponse{Headers: set("x-tenant", "blue"), HeadersToRemove: []string{"x-secret"}, ResponseHeadersToAdd: set("x-judged", "yes")}
	chosen := map[string]any{"subject": "alice", "backend": "green"}
	switch token := strings.TrimPrefix(http.GetHeaders()["authorization"], "Bearer "); {
	case http.GetHeaders()["x-tenant"] != "" || http.GetPath() != "/culvert.e2e.v1.Probe/Unary":
		return nil, fmt.Errorf("asked about %v", r)
	case token == "sunday":
		return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(codes.FailedPrecondition), Message: "not on Sundays"}}, nil
	case token == "":
		return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(codes.PermissionDenied)}, HttpResponse: &authv3.CheckResponse_DeniedResponse{
			DeniedResponse: &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: typev3.StatusCode_Unauthorized}, Body: "log in first", Headers: set("www-authenticate", "Bearer")},
		}}, nil
	case token == "reserved":
		ok.Headers = set("x-culvert-subject", "root")
	case token == "unknown":
		chosen["backend"] = "red"
	}
	own, err := structpb.NewStruct(map[string]any{"culvert": chosen})
	return &authv3.CheckResponse{DynamicMetadata: own, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok}}, err
}

// TestExternalAuthorization: by each protocol, the service's answer changes the call's metadata
// and chooses the backend, or refuses the call in the service's words. What it can't have
// refuses the call.
func TestExternalAuthorization(t *testing.T) {
	t.Parallel()
	address, _ := serveService(t, func(r *grpc.Server) { authv3.RegisterAuthorizationServer(r, checkService{}) })
	blue, green := startBackend(t, backendOptions{}), startBackend(t, backendOptions{})
	c := startCulvert(t, "", culvertOptions{config: `backends: [{name: blue, address: "` + blue.address + `"}, {name: green, address: "` + green.address + `"}]
routes: [{name: all, split: [{backend: blue, weight: 1}, {backend: green, weight: 0}]}]
auth:
  external: {address: "` + address + `", own: [x-tenant], timeout: 10s}
`})
	for _, via := range clientProtocols {
		for token, want := range map[string]told{
			"good":     {},
			"sunday":   {code: codes.FailedPrecondition, reason: "PERMISSION_DENIED", message: "not on Sundays"},
			"":         {code: codes.Unauthenticated, reason: "UNAUTHENTICATED", message: "log in first"},
			"reserved": {code: codes.Unavailable, reason: "AUTH_UNAVAILABLE"},
			"unknown":  {code: codes.Internal, reason: "INTERNAL"},
		} {
			id := newID(t)
			md := map[string]string{"x-secret": "hush", "x-tenant": "root"}
			if token != "" {
				md["authorization"] = "Bearer " + token
			}
			got := callVia(t, via, c.address, id, md)
			if got.code != want.code || got.reason != want.reason || !strings.HasPrefix(got.message, want.message) {
				t.Errorf("%s, %q: got %+v, want %+v", via, token, got, want)
			}
			if _, reached := blue.saw(t, id); reached {
				t.Errorf("%s, %q: the call reaches another backend", via, token)
			}
			seen, reached := green.saw(t, id)
			if reached != (want.code == codes.OK) {
				t.Errorf("%s, %q: the call reaches the backend: %v", via, token, reached)
			}
			if !reached {
				continue
			}
			for name, value := range map[string]string{"x-tenant": "blue", "x-culvert-subject": "alice", "x-culvert-kind": "external"} {
				if values := seen.Metadata[name]; len(values) != 1 || string(values[0]) != value {
					t.Errorf("%s: the backend gets %q as %s", via, values, name)
				}
			}
			if len(seen.Metadata["x-secret"]) > 0 || got.header.Get("x-judged") != "yes" {
				t.Errorf("%s: the backend gets %v, the client %v", via, seen.Metadata, got.header)
			}
		}
	}
	for reason, cause := range map[string]string{
		"PERMISSION_DENIED": "the authorization service answered with the status 9 (FailedPrecondition): not on Sundays",
		"UNAUTHENTICATED":   "the authorization service answered with the status 7 (PermissionDenied): log in first",
		"AUTH_UNAVAILABLE":  `the name "x-culvert-subject", which is reserved`,
		"INTERNAL":          `the backend "red"`,
	} {
		line := c.loggedLike(t, func(l map[string]any) bool { return l["msg"] == "call" && l["reason"] == reason })
		if text, _ := line["cause"].(string); !strings.Contains(text, cause) {
			t.Errorf("the log says %v, want %s", line, cause)
		}
	}
}
