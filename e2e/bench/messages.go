package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

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
	file, err := a.messagesFile()
	if err != nil {
		return nil, err
	}
	return a.culvertAs(ctx, culvertMessages, []string{"GOMAXPROCS=1"}, "--config", file)
}

// messagesFile writes the configuration of culvertMessages, and returns the file's name.
func (a *arena) messagesFile() (string, error) {
	file := filepath.Join(a.dir, "messages.yaml")
	return file, os.WriteFile(file, fmt.Appendf(nil, `routes:
  - {name: messages, backend: default, message: {path: "/{service}/{method}", framing: protobuf, half_close: %s}}
  - {name: calls, backend: default}
`, halfCloseText), 0o600)
}

// allocatedBytes returns how many bytes culvert allocates for a message and its echo.
func allocatedBytes(ctx context.Context, a *arena, name string) (float64, error) {
	file, err := a.messagesFile()
	if err != nil {
		return 0, err
	}
	p, err := a.culvertCounting(ctx, "--config", file)
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
