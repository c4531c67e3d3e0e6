package ratelimit

import (
	"crypto/tls"
	"fmt"

	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/auth/internal/ask"
)

const maxResponseHeader = 16 << 10 // bytes of HTTP/2's header

// connect begins a connection to the service. It is there before the first call, whose time
// wouldn't suffice for a TLS handshake, and it has no idle time-out.
//
// A question doesn't wait for a service that is known to be gone, so that an outage costs no
// time. It isn't repeated either: each time may count.
func connect(target string, config *tls.Config) (*grpc.ClientConn, error) {
	conn, err := ask.Connect(target, config,
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithIdleTimeout(0),
		grpc.WithMaxHeaderListSize(maxResponseHeader),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(ask.MaxResponseBytes)),
	)
	if err != nil {
		return nil, fmt.Errorf("the rate limit service's target %.200q: %w", target, err)
	}
	conn.Connect()
	return conn, nil
}
