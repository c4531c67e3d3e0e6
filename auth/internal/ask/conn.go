package ask

import (
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// MaxResponseBytes bounds a response. It leaves room for dynamic metadata that is for others.
const MaxResponseBytes = 64 << 10

// Connect returns a connection to a service, by TLS unless config is nil. It doesn't connect
// yet. The more options are the service's own, such as its service config.
func Connect(target string, config *tls.Config, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if config != nil {
		creds = credentials.NewTLS(config)
	}
	return grpc.NewClient(target, append(more,
		grpc.WithTransportCredentials(creds),
		grpc.WithUserAgent("culvert"),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(), // retries and other rules by DNS
		// A service that is back is asked again within a second, and not after two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		// A host that vanished is noticed while questions wait for it.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 2 * time.Second}),
	)...)
}
