package parts

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"
)

// A CountedBackend is a backend in memory that counts its connections and the calls on each.
// A call lasts until its client ends it.
type CountedBackend struct {
	ln *PipeListener

	mu       sync.Mutex
	open     map[net.Conn]bool
	most     int // of them at once
	down     bool
	attempts int             // to connect
	calls    []*atomic.Int64 // by connection, in the order in which they came
}

// NewCountedBackend returns a CountedBackend that takes so many streams on a connection. watch
// serves health checks; nil: nobody asks.
func NewCountedBackend(t testing.TB, streams uint32, watch func(grpc.ServerStream) error, opts ...grpc.ServerOption) *CountedBackend {
	t.Helper()
	b := &CountedBackend{ln: ListenPipe(t), open: map[net.Conn]bool{}}
	ServeBackend(t, b.ln, func(ss grpc.ServerStream) error {
		if method, _ := grpc.MethodFromServerStream(ss); method == healthpb.Health_Watch_FullMethodName {
			return watch(ss)
		}
		calls := ss.Context().Value(callsKey{}).(*atomic.Int64)
		calls.Add(1)
		defer calls.Add(-1)
		return Hold(ss)
	}, append(opts, grpc.MaxConcurrentStreams(streams), grpc.StatsHandler(b))...)
	return b
}

type callsKey struct{}

// TagConn gives a connection its counter.
func (b *CountedBackend) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := new(atomic.Int64)
	b.calls = append(b.calls, calls)
	return context.WithValue(ctx, callsKey{}, calls)
}

// HandleConn implements stats.Handler.
func (b *CountedBackend) HandleConn(context.Context, stats.ConnStats) {}

// TagRPC implements stats.Handler.
func (b *CountedBackend) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (b *CountedBackend) HandleRPC(context.Context, stats.RPCStats) {}

// CallsBy returns the calls by connection.
func (b *CountedBackend) CallsBy() (calls []int) {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.calls {
		calls = append(calls, int(c.Load()))
	}
	return calls
}

type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// DialTo connects, whatever the address is.
func (b *CountedBackend) DialTo(ctx context.Context, _ string) (net.Conn, error) {
	b.mu.Lock()
	down := b.down
	b.attempts++
	b.mu.Unlock()
	if down {
		return nil, errors.New("the backend is down")
	}
	conn, err := b.ln.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[conn] = true
	b.most = max(b.most, len(b.open))
	return &countedConn{conn, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.open, conn)
	}}, nil
}

// Connections returns how many there are now.
func (b *CountedBackend) Connections() int {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open)
}

// Most returns the most connections so far at once.
func (b *CountedBackend) Most() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.most
}

// Attempts returns how many attempts to connect there were.
func (b *CountedBackend) Attempts() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.attempts
}

// Refuse refuses further connections until Up.
func (b *CountedBackend) Refuse() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = true
}

// Crash cuts all connections, and refuses further ones until Up.
func (b *CountedBackend) Crash() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = true
	for conn := range b.open {
		_ = conn.Close() // its other end learns of it
	}
}

// Up ends Refuse and Crash.
func (b *CountedBackend) Up() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = false
}
