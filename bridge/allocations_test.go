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
	"connect h2c":                 424,
	"connect http1":               473,
	"connect unary h2c":           411,
	"connect unary http1":         381,
	"grpc h2c":                    421,
	"grpc h2c by hand":            420,
	"grpc tls":                    424,
	"grpc-web h2c":                431,
	"grpc-web h2c fetch":          427,
	"grpc-web http1 chunked":      480,
	"grpc-web http1 fetch":        401,
	"grpc-web-text http1 chunked": 492,
	"grpc-web-text http1 xhr":     413,
	"grpc-websockets":             719,
	"grpc-websockets tls":         1553,
	"h2ts connect":                454,
	"h2ts grpc":                   442,
	"h2ts grpc-web":               460,
	"message json":                746,
	"message json http1":          449,
	"message ndjson http1":        473,
	"message opamp http1":         385,
	"message protobuf":            671,
	"message sse http1":           478,
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
