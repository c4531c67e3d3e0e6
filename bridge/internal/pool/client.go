package pool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
	"github.com/culvert-grpc/culvert/zone"
)

// Options are what a Pool needs beside the backend.
type Options struct {
	HeaderBytes int               // the limit of a block of metadata, which the caller must check
	Streams     []grpc.CallOption // of streams that aren't calls
	Account     *memory.Account
	Panics      *report.Panics // may be nil
}

// New begins to connect to the backend. b must have a Logger.
func New(b report.Backend, o Options) (*Pool, error) {
	if b.Target == "" {
		return nil, errors.New("no backend address")
	}
	creds := insecure.NewCredentials()
	switch {
	case b.TLSSource != nil:
		creds = currentCredentials{credentials.NewTLS(b.TLSSource.Config()), b.TLSSource.Config}
	case b.TLS != nil:
		creds = currentCredentials{credentials.NewTLS(b.TLS), func() *tls.Config { return b.TLS }}
	}
	config, err := configOf(&b)
	if err != nil {
		return nil, fmt.Errorf("backend %s: %w", b.Target, err)
	}
	// For a block of metadata that is much larger than its limit, grpc-go ends the whole
	// connection, with every call on it. The limit proper costs only the call.
	headerBytes := uint32(min(4*o.HeaderBytes, math.MaxInt32))
	p := &Pool{config: config, panics: o.Panics, streams: o.Streams, log: b.Logger, headerBytes: int(headerBytes), window: wire.ConnWindow(o.Account)}
	p.absent.Store(time.Now().UnixNano())
	if b.Keepalive > 0 {
		p.keepalive.Store(int64(max(b.Keepalive, wire.MinKeepalive)))
	}
	target, dial := dialOf(&b)
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(wireCredentials{creds, o.Account, p}),
		grpc.WithContextDialer(safely(dial, o.Panics)),
		grpc.WithNoProxy(),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithResolvers(nameBuilder{rules.OrDefault(b.ResolveInterval, rules.ResolveInterval, 0), o.Panics, p.unresolved}),
		grpc.WithStaticStreamWindowSize(wire.GRPCWindow),
		grpc.WithStaticConnWindowSize(int32(p.window)),
		grpc.WithMaxHeaderListSize(headerBytes),
		grpc.WithIdleTimeout(0),
		experimental.WithBufferPool(safePool{o.Account.Pool, p}),
		grpc.WithConnectParams(grpc.ConnectParams{
			// Use a backend that comes back within a second or so.
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: config.connectTimeout,
		}),
	}
	switch own := creds.Info().ServerName; { //nolint:staticcheck // deprecated for those who set it; grpc-go refuses an authority beside another one
	case b.Authority != "":
		opts = append(opts, grpc.WithAuthority(b.Authority))
	case own == "":
		if place := hostPortOf(target); zone.Remove(place) != place {
			opts = append(opts, grpc.WithAuthority(zone.Remove(place)))
		}
	}
	if p.client, err = grpc.NewClient(escapeTarget(target), opts...); err != nil {
		return nil, fmt.Errorf("backend %s: %w", b.Target, err)
	}
	p.client.Connect()
	return p, nil
}

// Close ends the streams and closes the connections. It waits for the goroutines and timers
// of the pool.
func (p *Pool) Close() error { return p.client.Close() }

// Open opens a stream that isn't a call's. If it doesn't wait for a connection when attempts
// fail, the error is a *report.Fault then. Pool implements reflection.Backend.
func (p *Pool) Open(ctx context.Context, path string, wait bool, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := p.client.NewStream(ctx, bidi, path, slices.Concat(p.streams, opts, []grpc.CallOption{grpc.WaitForReady(wait)})...)
	switch {
	case err != nil && !wait:
		return nil, noConnection(err)
	case err != nil && ctx.Err() != nil:
		err = p.whyAbsent(err)
	}
	return stream, err
}

// whyAbsent returns the error of a stream that has waited for a connection in vain, with the
// cause of the last failure.
func (p *Pool) whyAbsent(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.latest == nil {
		return err
	}
	return status.Error(status.Code(err), p.latest.Error())
}

// Readied returns how many connections have become ready so far.
func (p *Pool) Readied() int64 { return p.readied.Load() }

// Ready reports whether there is a connection that accepts calls.
func (p *Pool) Ready() bool { return p.absent.Load() == 0 }

// Size returns the number of the backend's addresses.
func (p *Pool) Size() int { return int(p.size.Load()) }

// escapeTarget returns the target as grpc-go wants it: a URL. A path may have a "%" that
// escapes nothing.
func escapeTarget(target string) string {
	if place := hostPortOf(target); place != "" {
		server := strings.TrimSuffix(target, place)
		if server == "dns:" {
			server = "dns:///" // else the rest is no path, and grpc-go leaves it escaped
		}
		before, after, _ := strings.Cut(server, "//")
		if after != "" {
			server = before + "//" + zone.Escape(after)
		}
		return server + zone.Escape(place)
	}
	if _, err := url.PathUnescape(target); err != nil {
		return strings.ReplaceAll(target, "%", "%25")
	}
	return target
}

// hostPortOf returns the host and the port of a target, or "" for a path.
func hostPortOf(target string) string {
	if strings.HasPrefix(target, "unix:") || strings.HasPrefix(target, "unix-abstract:") {
		return ""
	}
	target = target[strings.LastIndexByte(target, '/')+1:]
	return strings.TrimPrefix(target, "dns:")
}
