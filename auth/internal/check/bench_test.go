package check

import (
	"context"
	"net/http"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/metadata"
)

// benchCall is a call with the metadata that most have, and a token of 800 bytes.
func benchCall() Request {
	r := aCall()
	token := make([]byte, 800)
	for i := range token {
		token[i] = "abcdefghijklmnopqrstuvwxyz.-_"[i%29]
	}
	r.Metadata = metadata.MD{
		"authorization": {"Bearer " + string(token)}, "x-request-id": {"0123456789abcdef"}, "x-forwarded-for": {"192.0.2.1"},
		"x-forwarded-proto": {"https"}, "x-forwarded-host": {"shop.example"}, "traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
	}
	return r
}

func benchmark(b *testing.B, c *Checker) {
	r := benchCall()
	ctx := context.Background()
	if _, err := c.Check(ctx, r); err != nil { // connects
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Check(ctx, r); err != nil {
			b.Fatal(err)
		}
	}
}

func allow(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}}}, nil
}

func BenchmarkCheckKnown(b *testing.B) {
	o := cached(time.Minute)
	c := grpcChecker(b, GRPC{}, o, allow)
	benchmark(b, c)
	if s := c.Snapshot(); s.Allowed != s.Cached+1 {
		b.Errorf("%+v", s)
	}
}

func BenchmarkCheckAsked(b *testing.B) { benchmark(b, grpcChecker(b, GRPC{}, patient(), allow)) }

func BenchmarkForwardAuthAsked(b *testing.B) {
	benchmark(b, httpChecker(b, HTTP{}, patient(), func(http.ResponseWriter, *http.Request) {}))
}

// BenchmarkCheckRequest makes the question alone.
func BenchmarkCheckRequest(b *testing.B) {
	r := benchCall()
	b.ReportAllocs()
	for b.Loop() {
		checkRequest(&r, nil)
	}
}
