package serve

import (
	"os"
	"runtime"
	"runtime/debug"
)

const (
	// collectorPercent is culvert's GOGC. Most of culvert's memory is pooled
	// buffers and idle streams, so half of the live heap is enough garbage.
	collectorPercent = 50

	// collectorBlock is the size in bytes of a block that counts as live heap. No page
	// of it is ever written to, so the kernel gives it no memory. Without the block,
	// garbage of a small heap would be limited to a MiB, and the collector would
	// run hundreds of times a second under a load of short calls.
	collectorBlock = 12 << 20
)

// setCollector sets GOGC to a constant, unless the operator has set it. It returns the
// bytes of the block, which the collector counts although they take no memory. stop undoes
// it.
func setCollector() (blockBytes int64, stop func()) {
	if os.Getenv("GOGC") != "" {
		return 0, func() {}
	}
	block := make([]byte, collectorBlock)
	before := debug.SetGCPercent(collectorPercent)
	return collectorBlock, func() {
		debug.SetGCPercent(before)
		runtime.KeepAlive(block)
	}
}
