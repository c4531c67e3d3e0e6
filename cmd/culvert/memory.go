package main

import (
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/config"
)

// containerShare is the share of a container's memory that Go may use. The
// rest is for memory that the kernel holds for the process, mainly socket
// buffers.
const containerShare = 0.9

// someMemory is more than a machine has. Some kernels report such a number if
// there is no limit.
const someMemory = 1 << 50

// limitMemory sets the memory limit of the garbage collector: limits.memory,
// or a share of the container's limit. GOMEMLIMIT wins over both. It returns
// the limit, or 0 for none; stop removes it.
func limitMemory(configured config.Size, log *slog.Logger) (limit int64, stop func()) {
	source := "limits.memory"
	if limit = int64(configured); limit == 0 {
		share, err := memlimit.ApplyRatio(memlimit.FromCgroup, containerShare)()
		if err == nil && share < someMemory { // an error means no container, or no limit
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

// boundMemory sets the memory that the bridge may hold for clients, and lowers
// the default of limits.buffered_bytes.
func boundMemory(cfg *bridge.Config, limit int64, c *config.Loaded, log *slog.Logger) {
	if limit == 0 {
		return
	}
	cfg.Memory = int64(config.ClientMemory(config.Size(limit)))
	if cfg.Memory < int64(cfg.Limits.MessageBytes) {
		log.Warn("the largest message can't pass: lower limits.message_bytes, or give culvert more memory",
			slog.String("message_bytes", config.Size(cfg.Limits.MessageBytes).String()), slog.String("for_clients", config.Size(cfg.Memory).String()))
	}
	cfg.Limits.BufferedBytes = int64(c.BufferedBytes(config.Size(limit)))
}
