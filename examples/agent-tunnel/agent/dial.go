package agent

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
)

// dial returns a connection that reaches the edge, which is healthy. With TLS the
// credentials of native gRPC are credentials.NewTLS(nil), and the WebSocket's URL begins
// with wss://.
func (a *Agent) dial(ctx context.Context, transport tunnelpb.Transport) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}), // finds dead connections
	}
	if transport == tunnelpb.Transport_TRANSPORT_WEBSOCKET {
		options = append(options, grpc.WithContextDialer(dialWebSocket))
	}
	conn, err := grpc.NewClient("passthrough:///"+a.Culvert, options...)
	if err != nil {
		return nil, err
	}
	if err := healthy(ctx, conn); err != nil {
		_ = conn.Close() // it never worked
		return nil, err
	}
	return conn, nil
}

// dialWebSocket returns a WebSocket as a net.Conn, for HTTP/2.
func dialWebSocket(ctx context.Context, address string) (net.Conn, error) {
	ws, _, err := websocket.Dial(ctx, "ws://"+address+"/", &websocket.DialOptions{Subprotocols: []string{"h2ts"}}) //nolint:bodyclose // the response to an upgrade has no body
	if err != nil {
		return nil, err
	}
	return websocket.NetConn(context.WithoutCancel(ctx), ws, websocket.MessageBinary), nil // gRPC closes it
}

func healthy(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	health, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: tunnelpb.Edge_ServiceDesc.ServiceName})
	if err == nil && health.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		err = fmt.Errorf("the edge is %v", health.GetStatus())
	}
	return err
}
