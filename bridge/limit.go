package bridge

import (
	"time"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// Limits bound what clients can make culvert hold or do. A zero field means its
// default; a negative one means no limit.
type Limits = report.Limits

// A Quota bounds what one address, or one listener, may use of a Server.
type Quota = report.Quota

// DefaultLimits returns the limits of a zero Limits, spelt out.
func DefaultLimits() Limits { return withDefaults(Limits{}) }

func withDefaults(l Limits) Limits { return quota.WithDefaults(l, edge.DefaultConnections()) }

// Fixed bounds: none of them cuts a well-behaved call.
const (
	pingInterval = 20 * time.Second // towards clients
	pingTimeout  = 10 * time.Second
	closeTimeout = 5 * time.Second // for a peer to answer a WebSocket close
	writeGrace   = 250 * time.Millisecond
	evictedGrace = 500 * time.Millisecond // for a client to receive the end of a call that ends to free memory for others
)

// looseHeaderBytes returns the header limit for HTTP itself. Beyond it a call gets no
// answer in its own protocol, and a block of more than twice that ends the whole
// connection with every call on it. So culvert judges limits.header_bytes itself, call
// by call. Clients get less room than the backend, since each of their connections may
// take it at once.
func looseHeaderBytes(limit int) int { return min(2*limit, quota.NoLimit) }
