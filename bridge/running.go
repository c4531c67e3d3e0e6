package bridge

import (
	"context"
	"sync"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/internal/replies"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// running is one call under way, from its first step to its end.
type running struct {
	*call

	down downstream
	obs  report.CallObserver // of this call

	// These are set by the steps, for later steps and for the pump.
	timed    context.Context // the call's, with its deadline
	stopTime func()          // ends timed
	told     bool            // the Observer knows of the call
	telling  bool            // the client is being told the end, or was
	to       *upstream.Upstream
	up       *upstream.Stream
	from     *replies.Queue  // the replies of up; nil: the client doesn't have the header yet
	first    mem.BufferSlice // the message of a complete request, if it is converted already
	answered *answered       // nil: replies aren't waited for

	others sync.WaitGroup // the call's goroutines but handle's
	early  *earlyRead     // nil: requests are copied only once the stream is open
}
