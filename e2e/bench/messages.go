package main

import "context"

// culvertMessages is culvertOne with a route for bare messages, and one for calls.
const culvertMessages = "bare messages"

// messageCosts is what culvert promises of bare messages against grpc-websockets: CPU time
// by turns (moreCPU), and memory that the garbage collector frees.
var messageCosts = []weight{
	{"more CPU time by bare messages than by grpc-websockets, full duplex, 4 streams, 100 B", "%", 5, 0, false, []string{culvertMessages}, moreCPUThan(
		cell{shape: duplex, client: newMessageClient, streams: 4, size: 100}, side{culvertMessages, newWebSocketClient})},
	{"more CPU time by bare messages than by grpc-websockets, ping-pong, 64 streams, 100 B", "%", 5, 0, false, []string{culvertMessages}, moreCPUThan(
		cell{shape: pingPong, client: newMessageClient, streams: 64, size: 100}, side{culvertMessages, newWebSocketClient})},
	{"bytes allocated for a bare message and its echo, ping-pong, 64 streams, 100 B; the other: by grpc-websockets", "B", 1000, 800, false, []string{culvertMessages, "grpc-websockets"}, allocatedBytes},
}

// culvertMessages starts culvertOne with the routes.
func (a *arena) culvertMessages(ctx context.Context) (*peer, error) {
	return a.culvertWith(ctx, &peer{name: culvertMessages}, oneThread, messagesConfig)
}

const messagesConfig = `routes:
  - {name: messages, backend: default, message: {path: "/{service}/{method}", framing: protobuf, half_close: ` + halfCloseText + `}}
  - {name: calls, backend: default}
`

// allocatedBytes returns how many bytes culvert allocates for a message and its echo.
func allocatedBytes(ctx context.Context, a *arena, name string) (float64, error) {
	p, err := a.culvertWith(ctx, newCounting(), nil, messagesConfig)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	dial := newMessageClient
	if name != culvertMessages {
		dial = newWebSocketClient
	}
	f, err := cell{shape: pingPong, streams: 64, size: 100}.load(ctx, a, p, dial, moreTime)
	return f.allocated, err
}
