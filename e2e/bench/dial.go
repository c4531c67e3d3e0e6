package main

import "context"

// The peers that are culvert dial, by each way. Their CPU time is dial's alone.
const (
	dialNative    = "culvert dial, grpc"
	dialWebSocket = "culvert dial, websocket"
	dialWeb       = "culvert dial, grpc-web"
)

// dialCosts is what culvert promises of culvert dial beside a hop of culvert serve, which gets
// the same load by turns.
var dialCosts = []weight{
	{"more CPU time by `culvert dial` over native gRPC than by `culvert serve`, full duplex, 4 streams, 64 KiB", "%", 30, 10, false, []string{dialNative}, dialCost},
	{"more CPU time by `culvert dial` over a WebSocket than by `culvert serve`, full duplex, 4 streams, 64 KiB", "%", 100, 60, false, []string{dialWebSocket}, dialCost},
	{"more CPU time by `culvert dial` over gRPC-Web than by `culvert serve`, full duplex, 4 streams, 64 KiB", "%", 200, 100, false, []string{dialWeb}, dialCost},
}

var dialCost = moreCPUThan(cell{shape: duplex, client: newGRPCClient(4), streams: 4, size: 64 << 10}, side{culvertOne, newGRPCClient(4)})

// culvertDial starts culvert dial before a culvert, which isn't measured.
func (a *arena) culvertDial(ctx context.Context, name, way string) (*peer, error) {
	edge, err := a.culvert(ctx, &peer{name: "culvert"}, nil)
	if err != nil {
		return nil, err
	}
	p := &peer{name: name, address: freeAddress()}
	if p, err = a.launch(ctx, p, oneThread, a.bins.culvert, "dial", "http://"+edge.address, "--listen", p.address, "--via", way, "--proxy", "none"); err != nil {
		edge.stop()
		return nil, err
	}
	p.beyond = edge
	return p, nil
}
