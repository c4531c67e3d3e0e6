// Package bridge carries gRPC calls from whatever protocol a client can get
// through to its network's edge onto native gRPC streams to a backend.
//
// # What happens to a call, in order
//
//   - server.go, package edge: a connection is accepted, counted and watched until
//     its end. A request finds its connection, which knows the listener, the client
//     and its certificate. HTTP/2 is served by package h2, HTTP/1.1 by net/http.
//   - policy.go: the request takes the Server's policy, which judges it and its
//     call to the end; apply.go makes and replaces the policy.
//   - request.go, arrival.go, misdirected.go, client_names.go: the request's facts
//     are read (peer, host, origin, what proxies vouch for), and requests that
//     may not call are refused. Package gate interprets these facts.
//   - transport.go: the table of client protocols; the one that accepts the
//     request makes of it a call and a downstream (call.go). What HTTP itself says
//     and how an answer goes out is in transport_http.go and
//     transport_http_answer.go, what a protocol says of it in its own files.
//   - limit.go, limit_method.go: the limits. Connections, handshakes and calls
//     count in package quota: with their address, method, listener, and the
//     server.
//   - handle.go, steps.go: the call is registered, its deadline set, and it
//     passes the steps, each of which may refuse it; the router (route.go) knows
//     which methods are exposed and which of its upstreams a call goes to;
//     authenticate.go asks an embedder's Authenticator who calls, and early.go
//     watches a WebSocket's client meanwhile, with the goroutine that then copies
//     requests.
//   - running.go: the registry of calls, whose one timer ends those that are
//     too old, idle, slow or gone. relief.go: it also ends calls while others
//     wait for the memory that they hold.
//   - message.go, body.go, packages memory and packing: requests are read when the account has
//     room for them; a WebSocket's messages by package websocket.
//   - package upstream opens a stream at the backend; it has the connections
//     (backend.go, services.go: what embedders see of it).
//   - pump.go, ahead.go: messages are copied both ways, what is at hand
//     together (packages websocket and edge); then the client is told the end
//     (status.go; package report has the table of what culvert says itself), the
//     upstream is released, and the Observer hears of it.
//
// The packages below this one know no calls, and don't import it: edge, gate, h2,
// memory, quota, report, upstream and websocket; socket, buffer and flood serve
// several of these.
//
// # Who waits for whom
//
// Every goroutine that this package starts:
//
//	start                      owner that waits          ends when
//	Server.passRequests        pump; handle if refused   Recv or Send returns: Finish and the context see to it
//	replies.readAhead          pump                      the upstream's stream has ended, or drop
//	serveWebSocket, the call   Server.Close (tasks)      the call has ended
//	tunnelConn.write           Server.Close (tasks)      the tunnel is closed and sent
//	serveTunnels, inner.Serve  Server.Close (workers)    the listener of tunnels is closed
//	connections that linger    Server.Close              see edge/doc.go
//	Shutdown, goodbyes         Shutdown                  the servers have shut down, or its patience is over
//	handlers of HTTP/2         h2: its connection        see h2/doc.go
//	connections to a backend   Server.Close              see upstream/doc.go
//
// Timers that run a function (the registry's look and its relief, an endGuard's grace; a WebSocket's: websocket/doc.go) and functions of contexts are stopped, and
// waited for if they run, by the one that set them.
// A call costs two goroutines, one when its request is complete, and one more
// once its upstream has sent a burst; grpc-go adds one.
//
// # Memory
//
// A mem.BufferSlice has one owner: Recv's callers free what they got, Send takes
// over. The account (package memory) counts what is held for clients. Each call
// and each connection has an entry, which counts with a client's address and is
// settled at the end. The buffers of messages are those of package buffer.
package bridge

//go:generate go test -count=1 -run TestGeneratedPages . -update
