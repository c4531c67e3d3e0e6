package agent

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/culvert-grpc/culvert/client"
	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
)

// ways are the client's names of the transports. Without a pinned way, the client would find
// one that works by itself; here the edge says which one to use.
var ways = map[tunnelpb.Transport]client.Way{
	tunnelpb.Transport_TRANSPORT_GRPC:      client.GRPC,
	tunnelpb.Transport_TRANSPORT_WEBSOCKET: client.WebSocket,
}

// dial returns a client that reaches the edge, which is healthy. With TLS the address begins
// with https://.
func (a *Agent) dial(ctx context.Context, transport tunnelpb.Transport) (*client.Client, error) {
	conn, err := client.NewClient("http://"+a.Culvert, client.WithWay(ways[transport]), client.WithProxy("none"))
	if err != nil {
		return nil, err
	}
	if err := healthy(ctx, conn); err != nil {
		_ = conn.Close() // it never worked
		return nil, err
	}
	return conn, nil
}

func healthy(ctx context.Context, conn grpc.ClientConnInterface) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	health, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: tunnelpb.Edge_ServiceDesc.ServiceName})
	if err == nil && health.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		err = fmt.Errorf("the edge is %v", health.GetStatus())
	}
	return err
}
