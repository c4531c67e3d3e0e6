package bridge

import (
	"syscall"
	"testing"
	"time"
)

// BenchmarkOpenCalls: what the list of open calls costs with many of them, and how long the
// lock is held that calls begin and end with.
func BenchmarkOpenCalls(b *testing.B) {
	s, _ := manyCalls(b, 50_000)
	b.Run("top", func(b *testing.B) {
		measureCPU(b, func() { s.OpenCalls().Top(100, oldest) })
	})
	b.Run("snapshot", func(b *testing.B) {
		measureCPU(b, func() { s.Snapshot() })
	})
	b.Run("lock", func(b *testing.B) {
		g := s.registry
		room := g.room()
		measureCPU(b, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			room = append(room[:0], g.calls...)
		})
	})
}

// measureCPU runs f, and reports the CPU time of the process besides the time that passes.
func measureCPU(b *testing.B, f func()) {
	b.Helper()
	b.ReportAllocs()
	began := cpuTime(b)
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op")
}

// cpuTime returns the CPU time that the process has used.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
