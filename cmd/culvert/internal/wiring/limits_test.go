package wiring

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/config"
)

func TestEveryKeyOfAMethodReachesTheBridge(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(file, []byte("limits:\n  methods:\n  - {pattern: a.B/*, message_bytes: 1MiB, header_bytes: 4KiB, calls: 2, calls_per_second: 3, decompressed_bytes_per_second: 1MiB}\n  - pattern: a.C/D"), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(config.Options{}, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := Bridge(loaded)
	want := []bridge.MethodQuota{{Pattern: "a.B/*", MessageBytes: 1 << 20, HeaderBytes: 4 << 10, Calls: 2, CallsPerSecond: 3, DecompressedPerSecond: 1 << 20}, {Pattern: "a.C/D"}}
	if !slices.Equal(got.MethodLimits, want) {
		t.Errorf("got %+v, want %+v", got.MethodLimits, want)
	}
	for _, k := range config.Keys() {
		if k.Name == "limits.methods" && len(k.Entries()) != 6 {
			t.Errorf("%d keys of a method, want each looked at here", len(k.Entries()))
		}
	}
}
