// Package agent is the private end of the tunnel. It reaches the edge through culvert,
// by native gRPC or inside a WebSocket, and passes the edge's HTTP requests to a web
// server beside it.
package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
)

const (
	reachTimeout = 5 * time.Second // for the first answer over a transport
	leaveTimeout = 5 * time.Second // for requests under way when the agent ends
	maxBackoff   = 10 * time.Second
)

// An Agent serves requests from the edge until its context ends.
type Agent struct {
	Name    string
	Culvert string // host:port
	Web     string // host:port of the web server
	Log     func(format string, args ...any)

	web     *http.Transport
	tunnels context.Context      // of all tunnels: they may last a little longer than Run's
	running sync.WaitGroup       // all tunnels
	lost    []tunnelpb.Transport // those that have failed since the agent joined
}

// The transports, in the order in which agents try them.
var transports = []tunnelpb.Transport{tunnelpb.Transport_TRANSPORT_GRPC, tunnelpb.Transport_TRANSPORT_WEBSOCKET}

// Run keeps one tunnel to the edge, over the transport that the edge wants.
func (a *Agent) Run(ctx context.Context) {
	// No proxy: the web server is on this machine. No compression: the bytes go on as they are.
	a.web = &http.Transport{DisableCompression: true, MaxResponseHeaderBytes: 1 << 20}
	defer a.web.CloseIdleConnections()
	defer a.running.Wait()
	var cancel context.CancelFunc
	a.tunnels, cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	backoff := time.Duration(0)
	for ctx.Err() == nil {
		t, err := a.join(ctx)
		if err != nil {
			a.Log("%v", err)
			backoff = min(2*backoff+time.Second, maxBackoff)
			pause(ctx, rand.N(backoff), nil) //nolint:gosec // nobody gains from guessing it
			continue
		}
		backoff = 0
		a.stay(ctx, t)
	}
}

// join opens a tunnel over the first transport that reaches the edge.
func (a *Agent) join(ctx context.Context) (*tunnel, error) {
	var failed []error
	a.lost = nil
	for _, transport := range transports {
		t, err := a.open(ctx, transport)
		if err == nil {
			a.Log("joined by %s", Name(transport))
			return t, nil
		}
		a.Log("%s fails: %v", Name(transport), err)
		a.lost = append(a.lost, transport)
		failed = append(failed, err)
	}
	return nil, fmt.Errorf("no way to the edge: %w", errors.Join(failed...))
}

// stay registers again and again, and moves when the edge says so, until the tunnel or
// the context ends.
func (a *Agent) stay(ctx context.Context, t *tunnel) {
	for ctx.Err() == nil {
		answer, err := t.register(ctx, a.reachable())
		if err != nil {
			pause(ctx, time.Second, t.ended) // if the connection is broken, the tunnel ends
		} else {
			if answer.GetTransport() != t.transport {
				t = a.move(ctx, t, answer.GetTransport())
			}
			pause(ctx, time.Duration(answer.GetRenewAfterMs())*time.Millisecond, t.ended)
		}
		select {
		case <-t.ended:
			return
		default:
		}
	}
	t.leave()
}

// move opens a tunnel over another transport. The edge then sends new requests to the new
// tunnel, and ends the old one after its last request. If it can't be opened, the agent
// stays, and no longer offers that transport.
func (a *Agent) move(ctx context.Context, from *tunnel, to tunnelpb.Transport) *tunnel {
	t, err := a.open(ctx, to)
	if err != nil {
		a.Log("stays on %s, because %s fails: %v", Name(from.transport), Name(to), err)
		a.lost = append(a.lost, to)
		return from
	}
	a.Log("moved to %s", Name(to))
	return t
}

// reachable returns the transports that haven't failed since the agent joined.
func (a *Agent) reachable() []tunnelpb.Transport {
	return slices.DeleteFunc(slices.Clone(transports), func(t tunnelpb.Transport) bool { return slices.Contains(a.lost, t) })
}

// Name returns what people call a transport.
func Name(t tunnelpb.Transport) string {
	if t == tunnelpb.Transport_TRANSPORT_WEBSOCKET {
		return "WebSocket"
	}
	return "native gRPC"
}

// pause waits, but not longer than until the context ends or the channel is closed.
func pause(ctx context.Context, d time.Duration, ended <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-ended:
	}
}
