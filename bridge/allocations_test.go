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
	"connect h2c":                 390,
	"connect http1":               440,
	"connect unary h2c":           380,
	"connect unary http1":         352,
	"grpc h2c":                    390,
	"grpc h2c by hand":            388,
	"grpc tls":                    393,
	"grpc-web h2c":                395,
	"grpc-web h2c fetch":          391,
	"grpc-web http1 chunked":      445,
	"grpc-web http1 fetch":        367,
	"grpc-web-text http1 chunked": 457,
	"grpc-web-text http1 xhr":     379,
	"grpc-websockets":             668,
	"grpc-websockets tls":         1534,
	"h2ts connect":                419,
	"h2ts grpc":                   411,
	"h2ts grpc-web":               424,
	"message json":                697,
	"message json http1":          419,
	"message ndjson http1":        443,
	"message opamp http1":         354,
	"message protobuf":            622,
	"message sse http1":           448,
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
