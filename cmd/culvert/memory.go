package main

import (
	"errors"
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

// A memoryLimit is the memory limit of the process: limits.memory, or a share
// of the container's limit. For the garbage collector GOMEMLIMIT wins over both.
type memoryLimit struct {
	before    int64             // the garbage collector's, without culvert
	container memlimit.Provider // reads the container's limit
	bytes     int64             // 0: none
	source    string
}

func newMemoryLimit() memoryLimit {
	return memoryLimit{before: debug.SetMemoryLimit(-1), container: memlimit.FromCgroup}
}

// find returns the limit for a configuration, or 0 for none, and what sets it.
func (m *memoryLimit) find(configured config.Size) (bytes int64, source string) {
	if configured > 0 {
		return int64(configured), "limits.memory"
	}
	if os.Getenv("GOMEMLIMIT") != "" && m.before < someMemory {
		return m.before, "GOMEMLIMIT"
	}
	share, err := memlimit.ApplyRatio(m.container, containerShare)()
	switch {
	case err == nil && share < someMemory:
		return int64(share), "container"
	case err != nil && m.source == "container" && !unlimited(err):
		return m.bytes, m.source // a read that failed says nothing about the limit
	}
	return 0, ""
}

// unlimited reports whether an error means that there is no container, or no limit.
func unlimited(err error) bool {
	return errors.Is(err, memlimit.ErrNoLimit) || errors.Is(err, memlimit.ErrNoCgroup) || errors.Is(err, memlimit.ErrCgroupsNotSupported)
}

// set applies what find has returned.
func (m *memoryLimit) set(log *slog.Logger, bytes int64, source string) {
	if bytes == m.bytes && source == m.source {
		return
	}
	m.bytes, m.source = bytes, source
	if os.Getenv("GOMEMLIMIT") == "" {
		limit := m.before
		if bytes > 0 {
			limit = bytes
		}
		debug.SetMemoryLimit(limit)
	}
	if bytes > 0 {
		log.Info("memory is limited", slog.String("limit", config.Size(bytes).String()), slog.String("by", source))
	} else {
		log.Info("memory is no longer limited")
	}
}

// remove gives the garbage collector back its limit.
func (m *memoryLimit) remove() { debug.SetMemoryLimit(m.before) }

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
