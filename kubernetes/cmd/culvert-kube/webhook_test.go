package main

import (
	"runtime/debug"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

func TestCollectorKeepsToTheContainersMemory(t *testing.T) {
	const none = 1<<63 - 1
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	for name, row := range map[string]struct {
		variable  string
		container memlimit.Provider
		want      int64
	}{
		"a limit":      {"", memlimit.Limit(100 << 20), 90 << 20},
		"GOMEMLIMIT":   {"50MiB", memlimit.Limit(100 << 20), none},
		"no container": {"", func() (uint64, error) { return 0, memlimit.ErrNoCgroup }, none},
	} {
		t.Run(name, func(t *testing.T) {
			debug.SetMemoryLimit(none)
			t.Setenv("GOMEMLIMIT", row.variable)
			limitMemory(row.container)
			if got := debug.SetMemoryLimit(-1); got != row.want {
				t.Errorf("the limit is %d, want %d", got, row.want)
			}
		})
	}
}
