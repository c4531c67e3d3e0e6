package main

import (
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/config"
)

// containerShare is how much of a container's memory Go may use: the rest is
// for what the kernel holds for the process, sockets' buffers above all.
const containerShare = 0.9

// someMemory is more than a machine has: how some kernels say that there is no
// limit.
const someMemory = 1 << 50

// limitMemory tells the garbage collector to keep below limits.memory, or
// below its share of the container's limit, unless the operator has set
// GOMEMLIMIT. It returns the limit, 0 for none; stop ends it.
func limitMemory(configured config.Size, log *slog.Logger) (limit int64, stop func()) {
	source := "limits.memory"
	if limit = int64(configured); limit == 0 {
		share, err := memlimit.ApplyRatio(memlimit.FromCgroup, containerShare)()
		if err == nil && share < someMemory { // an error: there is no container, or it has no limit
			limit, source = int64(share), "container"
		}
	}
	before := debug.SetMemoryLimit(-1)
	if os.Getenv("GOMEMLIMIT") != "" {
		if configured == 0 && before < someMemory {
			limit, source = before, "GOMEMLIMIT"
		}
	} else if limit > 0 {
		debug.SetMemoryLimit(limit)
	}
	if limit > 0 {
		log.Info("memory is limited", slog.String("limit", config.Size(limit).String()), slog.String("by", source))
	}
	return limit, func() { debug.SetMemoryLimit(before) }
}

// What of the limit is left to clients: the program itself takes programMemory, and of
// the rest a third is for garbage that the collector has not found yet, and for what
// the estimates of calls and connections don't know.
const (
	programMemory = 20 << 20
	clientShare   = 0.65
)

// boundMemory tells the bridge what it may hold for clients. Unless the operator has set
// it, limits.buffered_bytes is at most half of that, and at least one message.
func boundMemory(cfg *bridge.Config, limit int64, c *config.Loaded) {
	if limit == 0 {
		return
	}
	cfg.Memory = max(int64(clientShare*float64(limit-programMemory)), minClientMemory)
	if !c.IsSet("limits.buffered_bytes") {
		cfg.Limits.BufferedBytes = max(min(cfg.Limits.BufferedBytes, cfg.Memory/2), int64(cfg.Limits.MessageBytes))
	}
}

// minClientMemory lets culvert serve a few calls whatever the limit is.
const minClientMemory = 4 << 20
