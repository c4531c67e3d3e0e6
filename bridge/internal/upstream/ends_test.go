package upstream

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
)

var update = flag.Bool("update", false, "write the golden file")

// TestWordsOfEnds holds what a client is told of each end that isn't the backend's own.
func TestWordsOfEnds(t *testing.T) {
	var got strings.Builder
	ends := func(name string, e ending) {
		info := "{}"
		if e.origin == report.OriginCulvert {
			info = fmt.Sprint(errorInfo(t, e.status).GetMetadata())
		}
		fmt.Fprintf(&got, "%s: %v of %s: %q %s\n", name, e.status.Code(), e.origin, e.status.Message(), info)
	}
	for _, c := range misbehaving {
		u := upstreamTo(t, report.Backend{Target: startFrames(t, c.script).address})
		ends(c.name, callUpstream(within(t, patience), t, u, nil))
	}
	refused := refusedBlocks()
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		u := upstreamTo(t, report.Backend{Target: startFrames(t, refused[name]).address})
		ends(name, callUpstream(within(t, patience), t, u, nil))
	}
	u := upstreamTo(t, report.Backend{Target: startFrames(t, answer(framed(0, nil)), http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 4 << 10}).address})
	callUpstream(within(t, patience), t, u, nil) // the backend's settings are known now
	ends("too much metadata", callUpstream(within(t, patience), t, u, metadata.Pairs("x-a", strings.Repeat("a", 5<<10))))
	if *update {
		if err := os.WriteFile("testdata/ends.txt", []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/ends.txt")
	if err != nil {
		t.Fatal(err)
	}
	before, after := strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")
	if len(before) != len(after) {
		t.Fatalf("%d lines, want %d", len(after), len(before))
	}
	for i, line := range after {
		if line != before[i] {
			t.Errorf("got  %s\nwant %s", line, before[i])
		}
	}
}
