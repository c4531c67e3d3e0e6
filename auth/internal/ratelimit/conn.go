package ratelimit

import (
	"crypto/tls"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const (
	// maxResponseBytes leaves room for statuses of all descriptors, and dynamic metadata for
	// others.
	maxResponseBytes = 64 << 10

	maxResponseHeader = 16 << 10 // bytes of HTTP/2's header
)

// connect begins a connection to the service. It is there before the first call, whose time
// wouldn't suffice for a TLS handshake, and it has no idle time-out.
//
// A question doesn't wait for a service that is known to be gone, so that an outage costs no
// time. It isn't repeated either: each time may count.
func connect(target string, config *tls.Config) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if config != nil {
		creds = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(creds),
		grpc.WithUserAgent("culvert"),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(), // retries and other rules by DNS
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithIdleTimeout(0),
		grpc.WithMaxHeaderListSize(maxResponseHeader),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponseBytes)),
		// A service that is back is asked again within a second, and not after two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		// A host that vanished is noticed while questions wait for it.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 2 * time.Second}),
	)
	if err != nil {
		return nil, fmt.Errorf("the rate limit service's target %.200q: %w", target, err)
	}
	conn.Connect()
	return conn, nil
}
