package serve

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
	block     int64             // bytes that the garbage collector counts, and that take no memory
	container memlimit.Provider // reads the container's limit
	bytes     int64             // 0: none
	source    string
	failed    string   // why the last read of the container's limit failed, as the log tells
	tooLarge  [2]int64 // the largest message and the memory for clients, if it can't pass, as the log tells
}

func newMemoryLimit(block int64) memoryLimit {
	return memoryLimit{before: debug.SetMemoryLimit(-1), block: block, container: memlimit.FromCgroup}
}

type foundLimit struct {
	bytes  int64 // 0: none
	source string
	failed error // the read of the container's limit failed, and the limit is the earlier one
}

func (m *memoryLimit) find(configured config.Size) foundLimit {
	if configured > 0 {
		return foundLimit{bytes: int64(configured), source: "limits.memory"}
	}
	if os.Getenv("GOMEMLIMIT") != "" && m.before < someMemory {
		return foundLimit{bytes: m.before, source: "GOMEMLIMIT"}
	}
	share, err := memlimit.ApplyRatio(m.container, containerShare)()
	switch {
	case err == nil && share < someMemory:
		return foundLimit{bytes: int64(share), source: "container"}
	case err != nil && !unlimited(err):
		return foundLimit{m.bytes, m.source, err} // the read says nothing about the limit
	}
	return foundLimit{}
}

// unlimited reports whether an error means that there is no container, or no limit.
func unlimited(err error) bool {
	return errors.Is(err, memlimit.ErrNoLimit) || errors.Is(err, memlimit.ErrNoCgroup) || errors.Is(err, memlimit.ErrCgroupsNotSupported)
}

// set applies what find has returned.
func (m *memoryLimit) set(log *slog.Logger, found foundLimit) {
	failed, bytes := "", found.bytes
	if found.failed != nil {
		failed = found.failed.Error()
	}
	if failed != "" && failed != m.failed && bytes > 0 {
		log.Warn("can't read the container's memory limit: culvert keeps the limit that it has", slog.String("limit", config.Size(bytes).String()), slog.String("by", found.source), slog.String("cause", failed), slog.String("hint", "reload culvert once it can read /proc/self/mountinfo and /sys/fs/cgroup, or set limits.memory"))
	}
	m.failed = failed
	if bytes == m.bytes && found.source == m.source {
		return
	}
	m.bytes, m.source = bytes, found.source
	limit := m.before
	if bytes > 0 && os.Getenv("GOMEMLIMIT") == "" {
		limit = bytes
	}
	if limit < someMemory {
		limit += m.block
	}
	debug.SetMemoryLimit(limit)
	if bytes > 0 {
		log.Info("memory is limited", slog.String("limit", config.Size(bytes).String()), slog.String("by", m.source))
	} else {
		log.Info("memory is no longer limited")
	}
}

// remove gives the garbage collector back its limit.
func (m *memoryLimit) remove() { debug.SetMemoryLimit(m.before) }

// warn logs that the largest message can't pass, if that is news.
func (m *memoryLimit) warn(log *slog.Logger, cfg *bridge.Config) {
	var tooLarge [2]int64
	if message := int64(cfg.Limits.MessageBytes); 0 < cfg.Memory && cfg.Memory < message {
		tooLarge = [2]int64{message, cfg.Memory}
	}
	if tooLarge != m.tooLarge && tooLarge[0] > 0 {
		log.Warn("the largest message can't pass: lower limits.message_bytes, or give culvert more memory",
			slog.String("message_bytes", config.Size(tooLarge[0]).String()), slog.String("for_clients", config.Size(tooLarge[1]).String()))
	}
	m.tooLarge = tooLarge
}

// boundMemory sets the memory that the bridge may hold for clients, and lowers
// the default of limits.buffered_bytes.
func boundMemory(cfg *bridge.Config, limit int64, c *config.Loaded) {
	if limit == 0 {
		return
	}
	cfg.Memory = int64(config.ClientMemory(config.Size(limit)))
	cfg.Limits.BufferedBytes = int64(c.BufferedBytes(config.Size(limit)))
}
