package check

import (
	"crypto/tls"
	"errors"
	"fmt"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/auth/internal/ask"
)

// GRPC is a service of the gRPC form.
type GRPC struct {
	// Target is host:port, or another target that grpc-go understands. Questions go to all
	// addresses of a name by turns.
	Target string

	// TLS is for the connection, and nil for plaintext.
	TLS *tls.Config
}

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
	names   []string
	rules   names
	secrets []string // Options.Secrets
	conn    *grpc.ClientConn
	asks    authv3.AuthorizationClient
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
	conn, err := ask.Connect(g.Target, g.TLS,
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithMaxHeaderListSize(maxEditBytes),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(ask.MaxResponseBytes),
			grpc.MaxCallSendMsgSize(2*MaxBytes),
			// While the service restarts, a question waits for it until its time-out.
			grpc.WaitForReady(true),
		),
	)
	if err != nil {
		return nil, fmt.Errorf("the authorization service's target %.200q: %w", g.Target, err)
	}
	return newChecker(o, &grpcService{
		names: o.Names, rules: names{o.Reserved, o.ReservedDown, removals(o.Own)}, secrets: o.Secrets,
		conn: conn, asks: authv3.NewAuthorizationClient(conn),
	}), nil
}

func (s *grpcService) close() error { return s.conn.Close() }
