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
	"connect h2c":                 423,
	"connect http1":               472,
	"connect unary h2c":           410,
	"connect unary http1":         380,
	"grpc h2c":                    420,
	"grpc h2c by hand":            420,
	"grpc tls":                    423,
	"grpc-web h2c":                431,
	"grpc-web h2c fetch":          426,
	"grpc-web http1 chunked":      479,
	"grpc-web http1 fetch":        400,
	"grpc-web-text http1 chunked": 491,
	"grpc-web-text http1 xhr":     412,
	"grpc-websockets":             719,
	"grpc-websockets tls":         1554,
	"h2ts connect":                453,
	"h2ts grpc":                   441,
	"h2ts grpc-web":               460,
	"message json":                744,
	"message json http1":          447,
	"message ndjson http1":        471,
	"message opamp http1":         383,
	"message protobuf":            669,
	"message sse http1":           476,
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
