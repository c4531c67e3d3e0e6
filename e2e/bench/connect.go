package main

// connectCosts is what culvert promises of Connect against gRPC-Web, by turns
// (moreCPU).
var connectCosts = []weight{
	{"more CPU time by Connect than by gRPC-Web, unary calls, 64 clients, 100 B", "%", 10, 5, false, []string{culvertOne}, moreCPUThan(
		cell{shape: unary, client: newConnectClient("proto"), streams: 64, size: 100}, side{culvertOne, newWebClient})},
	{"more CPU time by Connect than by gRPC-Web, server stream, 1 KiB", "%", 10, 5, false, []string{culvertOne}, moreCPUThan(
		cell{shape: serverStream, client: newConnectStreamClient, streams: 1, size: 1 << 10}, side{culvertOne, newWebClient})},
}
