package check

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// GRPC is a service of the gRPC form.
type GRPC struct {
	// Target is host:port, or another target that grpc-go understands. Questions go to all
	// addresses of a name by turns.
	Target string

	// TLS is for the connection, and nil for plaintext.
	TLS *tls.Config
}

// maxResponseBytes bounds a CheckResponse: 16 KiB may be used of it, and dynamic metadata
// for others may be in it.
const maxResponseBytes = 64 << 10

// serviceConfig asks again once when a connection breaks under a question, as it does when the
// service restarts. While most questions fail, none is asked again.
// https://github.com/grpc/grpc/blob/master/doc/service_config.md
const serviceConfig = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"methodConfig": [{"name": [{}], "retryPolicy": {
		"maxAttempts": 2, "initialBackoff": "0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1,
		"retryableStatusCodes": ["UNAVAILABLE"]}}],
	"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}
}`

type grpcService struct {
	names []string
	rules names
	conn  *grpc.ClientConn
	asks  authv3.AuthorizationClient
}

// NewGRPC returns a Checker that asks a service of the gRPC form. It doesn't connect yet.
func NewGRPC(g GRPC, o Options) (*Checker, error) {
	o, err := o.checked()
	if err != nil {
		return nil, err
	}
	if o.Cache.TTL > 0 && o.Names == nil {
		return nil, errors.New("cache: say which metadata the service gets: it makes the key")
	}
	creds := insecure.NewCredentials()
	if g.TLS != nil {
		creds = credentials.NewTLS(g.TLS)
	}
	conn, err := grpc.NewClient(g.Target,
		grpc.WithTransportCredentials(creds),
		grpc.WithUserAgent("culvert"),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(), // retries and other rules by DNS
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithMaxHeaderListSize(maxEditBytes),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxResponseBytes),
			grpc.MaxCallSendMsgSize(2*MaxBytes),
			// While the service restarts, a question waits for it until its time-out.
			grpc.WaitForReady(true),
		),
		// A service that is back is asked again within a second, and not after two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		// A host that vanished is noticed while questions wait for it.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 2 * time.Second}),
	)
	if err != nil {
		return nil, fmt.Errorf("the authorization service's target %.200q: %w", g.Target, err)
	}
	return newChecker(o, &grpcService{
		names: o.Names, rules: names{o.Reserved, o.ReservedDown, removals(o.Own)},
		conn: conn, asks: authv3.NewAuthorizationClient(conn),
	}), nil
}

func (s *grpcService) close() error { return s.conn.Close() }
