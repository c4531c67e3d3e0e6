package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

const (
	// collectorPercent is culvert's GOGC. Most of culvert's memory is pooled
	// buffers and idle streams, so half of the live heap is enough garbage.
	collectorPercent = 50

	// collectorBlock is the size of a block that counts as live heap. No page of
	// it is ever written to, so the kernel gives it no memory. Without the block,
	// garbage of a small heap would be limited to a MiB, and the collector would
	// run hundreds of times a second under a load of short calls.
	collectorBlock = 3 << 20
)

// setCollector sets GOGC to a constant, unless the operator has set it. stop
// undoes it.
func setCollector() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	block := make([]byte, collectorBlock)
	before := debug.SetGCPercent(collectorPercent)
	return func() {
		debug.SetGCPercent(before)
		runtime.KeepAlive(block)
	}
}
