package upstream

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/reflection"
	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
	"github.com/culvert-grpc/culvert/zone"
)

// Same reports whether two backends have the same settings. It compares TLS, TLSSource
// and Descriptors by identity, of Dial only whether it is nil, and Logger not at all.
func Same(b, other report.Backend) bool {
	if b.TLS != other.TLS || !sameSource(b.TLSSource, other.TLSSource) || !sameSource(b.Descriptors, other.Descriptors) || (b.Dial == nil) != (other.Dial == nil) {
		return false
	}
	b.TLS, b.TLSSource, b.Descriptors, b.Dial, b.Logger = nil, nil, nil, nil, nil
	other.TLS, other.TLSSource, other.Descriptors, other.Dial, other.Logger = nil, nil, nil, nil, nil
	return reflect.DeepEqual(b, other)
}

func sameSource(a, b any) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

// connectPatience is how long a call waits for a connection to the backend.
const connectPatience = 5 * time.Second

// An Upstream is a backend and the connections to it.
type Upstream struct {
	*reflection.Book // of the backend's methods

	cc         *grpc.ClientConn
	pool       *pool
	budget     retryBudget
	sentAgain  struct{ byPolicy, elsewhere, withheld atomic.Int64 } // calls; withheld ones weren't, for want of budget
	limit      report.SizeLimit                                     // of a message
	options    callOptions
	openTimers openTimers
	holders    holders // while it is in a Set
}

// New begins to connect to the backend. messages limits each message of an answer.
// headerBytes is the limit of a block of metadata, which the caller must check. panics may
// be nil.
func New(b report.Backend, messages report.SizeLimit, headerBytes int, account *memory.Account, panics *report.Panics) (*Upstream, error) {
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
	config, err := poolOf(&b)
	if err != nil {
		return nil, fmt.Errorf("backend %s: %w", b.Target, err)
	}
	p := &pool{config: config, panics: panics, log: cmp.Or(b.Logger, slog.New(slog.DiscardHandler)), headerBytes: int(looseHeaderBytes(headerBytes)), window: wire.ConnWindow(account)}
	p.absent.Store(time.Now().UnixNano())
	if b.Keepalive > 0 {
		p.keepalive.Store(int64(max(b.Keepalive, wire.MinKeepalive)))
	}
	target, dial := dialOf(&b)
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(poolCredentials{creds, account, p}),
		grpc.WithContextDialer(safely(dial, panics)),
		grpc.WithNoProxy(),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(poolService),
		grpc.WithResolvers(nameBuilder{rules.OrDefault(b.ResolveInterval, rules.ResolveInterval, 0), panics, p.unresolved}),
		grpc.WithStaticStreamWindowSize(wire.MaxStreamWindow),
		grpc.WithStaticConnWindowSize(int32(p.window)),
		grpc.WithMaxHeaderListSize(looseHeaderBytes(headerBytes)),
		grpc.WithIdleTimeout(0),
		experimental.WithBufferPool(safePool{account.Pool, p}),
		grpc.WithConnectParams(grpc.ConnectParams{
			// Use a backend that comes back within a second or so.
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: connectPatience,
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
	cc, err := grpc.NewClient(escapeTarget(target), opts...)
	if err != nil {
		return nil, fmt.Errorf("backend %s: %w", b.Target, err)
	}
	cc.Connect()
	u := &Upstream{cc: cc, pool: p, limit: messages, options: newCallOptions(messages), holders: holders{none: make(chan struct{})}}
	u.Book = reflection.NewBook(asked{u}, b.Descriptors, messages.Bytes, account, p.log, panics)
	u.holders.n.Store(1) // for the Set that may take it
	return u, nil
}

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

// looseHeaderBytes returns the limit of a block of metadata for grpc-go. For a block
// that is much larger, grpc-go ends the whole connection, with every call on it. The
// limit proper costs only the call.
func looseHeaderBytes(limit int) uint32 { return uint32(min(4*limit, math.MaxInt32)) }

// Close ends the streams and closes the connections.
func (u *Upstream) Close() error {
	wait := u.Book.Close()
	err := u.cc.Close()
	wait()
	return err
}
