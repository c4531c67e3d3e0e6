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
	"connect h2c":                 381,
	"connect http1":               427,
	"connect unary h2c":           371,
	"connect unary http1":         342,
	"grpc h2c":                    381,
	"grpc h2c by hand":            380,
	"grpc tls":                    383,
	"grpc-web h2c":                382,
	"grpc-web h2c fetch":          378,
	"grpc-web http1 chunked":      428,
	"grpc-web http1 fetch":        354,
	"grpc-web-text http1 chunked": 442,
	"grpc-web-text http1 xhr":     368,
	"grpc-websockets":             620,
	"grpc-websockets tls":         1488,
	"h2ts connect":                409,
	"h2ts grpc":                   401,
	"h2ts grpc-web":               410,
	"message json":                657,
	"message json http1":          410,
	"message ndjson http1":        433,
	"message opamp http1":         347,
	"message protobuf":            584,
	"message sse http1":           438,
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
