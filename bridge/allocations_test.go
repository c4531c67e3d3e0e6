//go:build !race

package bridge_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/bridgetest"
)

// allocations are those of a unary call, as bridgetest.Allocations counts them. A change that
// makes a call dearer is seen here, before a benchmark shows it beside its noise.
var allocations = map[string]int{
	"connect h2c":                 398,
	"connect http1":               448,
	"connect unary h2c":           385,
	"connect unary http1":         356,
	"grpc h2c":                    395,
	"grpc h2c by hand":            394,
	"grpc tls":                    398,
	"grpc-web h2c":                404,
	"grpc-web h2c fetch":          400,
	"grpc-web http1 chunked":      454,
	"grpc-web http1 fetch":        375,
	"grpc-web-text http1 chunked": 466,
	"grpc-web-text http1 xhr":     387,
	"grpc-websockets":             692,
	"grpc-websockets tls":         1557,
	"h2ts connect":                427,
	"h2ts grpc":                   416,
	"h2ts grpc-web":               433,
	"message json":                717,
	"message json http1":          423,
	"message ndjson http1":        447,
	"message opamp http1":         358,
	"message protobuf":            642,
	"message sse http1":           452,
}

// TestAllocations: a call takes as many as before, give or take one, or two if each call has
// a TLS handshake, whose goroutines meet in any order. The race detector has sync.Pool lose
// some of what it keeps, so this isn't built with it.
func TestAllocations(t *testing.T) {
	got := bridgetest.Allocations(t)
	for _, name := range slices.Sorted(maps.Keys(got)) {
		margin := 1
		if name == "grpc-websockets tls" {
			margin = 2
		}
		if n, want := got[name], allocations[name]; n < want-margin || n > want+margin {
			t.Errorf("a unary call over %s takes %d allocations, want %d", name, n, want)
		}
	}
	if len(got) != len(allocations) {
		t.Errorf("%d transports were counted, want %d", len(got), len(allocations))
	}
}
