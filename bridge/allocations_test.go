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
	"connect h2c":                 419,
	"connect http1":               468,
	"connect unary h2c":           406,
	"connect unary http1":         376,
	"grpc h2c":                    416,
	"grpc h2c by hand":            415,
	"grpc tls":                    419,
	"grpc-web h2c":                426,
	"grpc-web h2c fetch":          422,
	"grpc-web http1 chunked":      475,
	"grpc-web http1 fetch":        396,
	"grpc-web-text http1 chunked": 487,
	"grpc-web-text http1 xhr":     408,
	"grpc-websockets":             715,
	"grpc-websockets tls":         1579,
	"h2ts connect":                448,
	"h2ts grpc":                   437,
	"h2ts grpc-web":               455,
	"message json":                738,
	"message json http1":          443,
	"message ndjson http1":        467,
	"message opamp http1":         379,
	"message protobuf":            663,
	"message sse http1":           472,
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
