package upstream

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/stats"

	"github.com/culvert-grpc/culvert/bridge/internal/packing"
	"github.com/culvert-grpc/culvert/bridge/internal/socket"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// callFacts has facts that grpc-go's own status doesn't have: what really came from
// the backend and what really went to it.
type callFacts struct {
	sent       atomic.Bool // the request's headers were written
	trailer    atomic.Bool // HEADERS with END_STREAM came
	compressed bool        // the header names a coding; valid once header is closed
	header     chan struct{}
	in, out    packedBytes // of the last message; only Recv and Send use them

	flow      flow                         // the bytes of the call in grpc-go, both ways
	link      atomic.Pointer[backendLink]  // the connection that the call has a place on
	patience  *time.Timer                  // gives up a call that gets no stream
	limit     time.Duration                // of patience
	refusal   atomic.Pointer[report.Fault] // why it got no place, if it got none
	replayed  atomic.Bool                  // grpc-go has sent the call again: see Stream.recvMsg
	written   atomic.Bool                  // on link
	refused   []*backendAddress            // that have refused the call, in earlier attempts too; guarded by the pool's mu
	elsewhere bool                         // another backend may have room for the call; until it began
	waits     bool                         // the pool counts it as waiting, until it began
	began     bool                         // Open has ended; a later attempt isn't counted as waiting
}

// suspendPatience stops the timer. It reports whether the timer was running, as it does
// until the call has a stream. k may be nil.
func (k *callFacts) suspendPatience() bool { return k != nil && k.patience != nil && k.patience.Stop() }

// resumePatience starts the timer anew.
func (k *callFacts) resumePatience() { k.patience.Reset(k.limit) }

// packedBytes is the size of a compressed message on its way. 0: the message isn't
// compressed.
type packedBytes int

// take returns it, or the plain size of the message.
func (p *packedBytes) take(plain int) int {
	packed := int(*p)
	*p = 0
	return cmp.Or(packed, plain)
}

type factsKey struct{}

// facts is the stats.Handler that fills callFacts.
type facts struct{ panics *report.Panics }

func (facts) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (h facts) HandleRPC(ctx context.Context, s stats.RPCStats) {
	switch s := s.(type) { // most events are messages: those cost nothing extra
	case *stats.OutHeader:
		if known := factsOf(ctx); known != nil {
			known.sent.Store(true)
			known.written.Store(true)
		}
	case *stats.InHeader:
		if known := factsOf(ctx); known != nil {
			h.noteHeader(known, s)
		}
	case *stats.InPayload:
		if s.CompressedLength != s.Length {
			if known := factsOf(ctx); known != nil {
				known.in = packedBytes(s.CompressedLength)
			}
		}
	case *stats.OutPayload:
		if s.CompressedLength != s.Length {
			if known := factsOf(ctx); known != nil {
				known.out = packedBytes(s.CompressedLength)
			}
		}
	case *stats.InTrailer:
		if known := factsOf(ctx); known != nil {
			known.trailer.Store(true)
		}
	}
}

// noteHeader runs on the goroutine that reads from the connection.
func (h facts) noteHeader(known *callFacts, s *stats.InHeader) {
	defer h.panics.Catch("the header of a backend's answer", func(f *report.Fault) {
		if l := known.link.Load(); l != nil {
			socket.Cut(l.wire)
		}
	})
	select {
	case <-known.header: // a stream has one; never trust a peer with a panic
	default:
		known.compressed = !packing.IsIdentity(s.Compression)
		close(known.header)
	}
}

// factsOf returns nil for culvert's own call: reflection.
func factsOf(ctx context.Context) *callFacts {
	known, _ := ctx.Value(factsKey{}).(*callFacts)
	return known
}

func (facts) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (facts) HandleConn(context.Context, stats.ConnStats) {}

// sentText returns the fact in the words of a status.
func (k *callFacts) sentText() string {
	if k.sent.Load() {
		return report.SentMaybe
	}
	return report.SentNo
}
