package main

import "fmt"

// A cell is one load that several peers meet.
type cell struct {
	name    string
	shape   shape
	client  func(*peer) client
	direct  func(*peer) client // the same load without a proxy
	streams int
	size    int
	peers   []string // in plaintext: culvertOne, culvert, the proxy they are compared with, and direct
	bound   float64  // the CPU time of culvertOne must be at most this many times the other proxy's; 0: none
	aim     float64  // and better at most so many times; 0: none
}

var (
	webSockets = []string{culvertOne, "culvert", "grpcwebproxy", "direct"}
	gRPC       = []string{culvertOne, "culvert", "nginx", "direct"}
	connect    = []string{culvertOne, "culvert", "vanguard", "direct"}
	converted  = []string{culvertOne, "culvert", vanguardDescriptors, "direct"}
)

// against returns the proxy that culvert is compared with.
func (c cell) against() string { return c.peers[2] }

// table is what culvert promises of itself against others.
var table = []cell{
	{"WebSocket bidi, full duplex, 4 streams, 100 B", duplex, newWebSocketClient, newGRPCClient(4), 4, 100, webSockets, 0.51, 0.29},
	{"WebSocket bidi, full duplex, 4 streams, 1 KiB", duplex, newWebSocketClient, newGRPCClient(4), 4, 1 << 10, webSockets, 0.35, 0.25},
	{"WebSocket bidi, full duplex, 4 streams, 16 KiB", duplex, newWebSocketClient, newGRPCClient(4), 4, 16 << 10, webSockets, 0.27, 0},
	{"WebSocket bidi, full duplex, 4 streams, 256 KiB", duplex, newWebSocketClient, newGRPCClient(4), 4, 256 << 10, webSockets, 0.42, 0},
	{"WebSocket server stream, 1 KiB", serverStream, newWebSocketClient, newGRPCClient(1), 1, 1 << 10, webSockets, 0.47, 0.29},
	{"WebSocket client stream, 1 KiB", clientStream, newWebSocketClient, newGRPCClient(1), 1, 1 << 10, webSockets, 0.33, 0},
	{"WebSocket ping-pong, 64 streams, 100 B", pingPong, newWebSocketClient, newGRPCClient(64), 64, 100, webSockets, 0.50, 0},
	{"unary, a WebSocket each, 64 clients, 100 B", unary, newWebSocketClient, newGRPCClient(64), 64, 100, webSockets, 0.60, 0},
	{"gRPC-Web unary, 64 clients, 100 B", unary, newWebClient, newGRPCClient(64), 64, 100, webSockets, 0.52, 0},
	{"gRPC-Web server stream, 1 KiB", serverStream, newWebClient, newGRPCClient(1), 1, 1 << 10, webSockets, 0.56, 0},
	{"Connect unary, 64 clients, 100 B", unary, newConnectClient("proto"), newGRPCClient(64), 64, 100, connect, 1, 0},
	{"Connect server stream, 1 KiB", serverStream, newConnectStreamClient, newGRPCClient(1), 1, 1 << 10, connect, 1, 0},
	{"Connect unary with JSON, 64 clients, an order", unary, newOrderClient, newGRPCClient(64), 64, len(order.wire), converted, 1, 0},
	{"Connect server stream with JSON, orders", serverStream, newOrderStreamClient, newGRPCClient(1), 1, len(order.wire), converted, 1, 0},
	{"native gRPC ping-pong, 64 connections, 100 B", pingPong, newGRPCClient(64), newGRPCClient(64), 64, 100, gRPC, 0.85, 0},
	{"native gRPC ping-pong, 100 streams on one connection, 100 B", pingPong, newGRPCClient(1), newGRPCClient(1), 100, 100, gRPC, 0.32, 0},
}

// sweep is the same ping-pong at other numbers and sizes.
func sweep() []cell {
	var cells []cell
	for _, streams := range []int{1, 64, 1000} {
		for _, size := range []int{100, 1 << 10, 16 << 10, 256 << 10} {
			cells = append(cells,
				cell{fmt.Sprintf("WebSocket ping-pong, %d × %s", streams, bytesText(size)), pingPong, newWebSocketClient, newGRPCClient(min(streams, 64)), streams, size, webSockets, 0, 0},
				// Each connection carries 16 streams at most: culvert's own limit is 100.
				cell{fmt.Sprintf("native gRPC ping-pong, %d × %s", streams, bytesText(size)), pingPong, newGRPCClient(min(streams, 64)), newGRPCClient(min(streams, 64)), streams, size, gRPC, 0, 0})
		}
	}
	return cells
}

func bytesText(n int) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
