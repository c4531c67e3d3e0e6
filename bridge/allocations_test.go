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
	"connect h2c":                 384,
	"connect http1":               430,
	"connect unary h2c":           374,
	"connect unary http1":         346,
	"grpc h2c":                    384,
	"grpc h2c by hand":            384,
	"grpc tls":                    387,
	"grpc-web h2c":                388,
	"grpc-web h2c fetch":          384,
	"grpc-web http1 chunked":      434,
	"grpc-web http1 fetch":        360,
	"grpc-web-text http1 chunked": 446,
	"grpc-web-text http1 xhr":     372,
	"grpc-websockets":             622,
	"grpc-websockets tls":         1490,
	"h2ts connect":                413,
	"h2ts grpc":                   405,
	"h2ts grpc-web":               417,
	"message json":                659,
	"message json http1":          413,
	"message ndjson http1":        437,
	"message opamp http1":         350,
	"message protobuf":            586,
	"message sse http1":           442,
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
