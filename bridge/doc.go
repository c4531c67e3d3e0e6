// Package bridge carries gRPC calls from whatever protocol a client can get
// through to its network's edge onto native gRPC streams to a backend.
//
// # What happens to a call, in order
//
//   - server.go, package edge: a connection is accepted, counted and watched until
//     its end. A request finds its connection, which knows the listener, the client
//     and its certificate. HTTP/2 is served by package h2, HTTP/1.1 by net/http.
//   - policy.go: the request takes the Server's policy, which judges it and its
//     call to the end; apply.go makes and replaces the policy. policy_users.go counts the
//     requests that have a policy and no stream yet, for which backends stay.
//   - request.go, caller.go, arrival.go: the request's facts
//     are read (peer, host, origin, the headers of trusted proxies), and requests
//     that may not call are refused. Package gate interprets these facts.
//   - transport.go: the table of client protocols. The driver (serveCall in request.go)
//     makes the call (call.go), its one record, with an id (call_id.go). The transport that
//     accepts the request opens the client's end (downstream.go), and reads what is asked for (ask.go).
//     transport_http.go and transport_http_answer.go have the parts that all share over
//     HTTP, transport_websocket.go those that all with a WebSocket for each call share;
//     each protocol has files of its own. The method closing of a WebSocket's framing chooses
//     the code of its close frame. Package headers decides which metadata crosses.
//     Package tunnel makes connections of the WebSockets with HTTP/2 inside.
//   - fallback.go: a request that isn't a call, nor looks like an attempt at one, goes
//     to a web server (fallback*.go, package fallback).
//   - limit.go, limit_method.go: the limits. Connections, handshakes and calls
//     count in package quota: with their address, method, route, listener, and the
//     server.
//   - decision.go: the policy decides by the facts of the arrival which route the request
//     has, which limits, and whether its page may call. settle.go: it decides again once the
//     call's metadata is known. Package routing selects the routes (routes.go), and package
//     binding checks those of bare messages (route_message.go).
//   - handle.go, steps.go: the call is registered, its deadline set (ask.go reads the
//     client's, settle.go adds that of a route, deadline.go ends the call), and it passes
//     the steps, each of which may refuse it. routing.MethodPolicy decides which methods are
//     exposed. chooseBackend (steps.go) chooses the backend: the Authenticator's, or the route's,
//     and routes_split.go one of a split's; the router (route.go) acquires its upstream. open
//     (steps.go) gives a call another one when its own can't be reached or is full.
//     authenticate.go asks the Authenticator for the caller's identity, session.go for that
//     of a WebSocket or a tunnel, whose credential session_renew.go renews. early.go watches
//     a WebSocket's client meanwhile, with the goroutine that later copies requests.
//     convert.go finds the descriptors of a method whose messages are JSON.
//   - registry.go, timeouts.go: the registry of calls, whose one timer ends those that are
//     too old, idle, slow (package progress) or gone. internal/socket/watch.go judges whether a
//     client is silent. timeouts.go asks it for a connection that a call has for itself;
//     h2/conn_silence.go and internal/websocket/keepalive.go, which ping, do for theirs.
//     evict.go: the registry ends calls while others wait for the memory that these
//     hold; memory/relief.go chooses which. traffic.go,
//     blocked.go and ages.go count for snapshot.go what its calls carry, how long they wait,
//     and how old they are. opencalls.go: what it knows of the open calls, for people, who may
//     stop one. heldconns.go: the connections that hold most memory.
//   - packages message, memory and packing: requests are read when the
//     account has room for them, of which each address has a share
//     (memory/address_share.go). Package websocket reads a WebSocket's messages.
//   - package upstream opens a stream at the backend, and decides whether to send a call again
//     (retry.go, attempts.go). Package pool has the connections and chooses the address
//     (choose.go). Package wire sees what crosses such a connection under grpc-go: windows,
//     pings, and answers that aren't gRPC (answer_verdict.go, answer_ends.go). backend.go and
//     services.go are the part that embedders see. check.go and inquiry.go have
//     what a program asks about a configuration, without a Server.
//   - path.go, package path: calls of culvert.v1.Path go to culvert's own service.
//   - pump.go, rules.go: messages are copied both ways, and those that are ready leave together
//     (replies.go, packages websocket and edge). Then the client gets the end
//     (status.go finds out why it ended; report/fault.go makes a status of culvert's own, with
//     its ErrorInfo, and report/reasons.go has the table of reasons), the upstream is
//     released, and the Observer gets the result.
//   - drain.go: Shutdown ends all of this in steps.
//
// The packages below know nothing of calls, and don't import this one: binding, descriptor,
// edge, fallback, gate, h2, headers, memory, message, opamp, packing, path, pool, quota, reflection,
// report, routing, tunnel, upstream, websocket and wire; socket, buffer, flood and
// progress serve several of these. Package tasks has goroutines that outlive the handlers that start them.
//
// # Who waits for whom
//
// Every goroutine that this package starts:
//
//	start                      owner that waits          ends when
//	call.passRequests          pump; handle if refused   Recv or Send returns, by Finish and the context
//	call.resume                Server.Close (tasks)      the call parks again, or has ended
//	serveUpgrade, the call     Server.Close (tasks)      the call has ended
//	startBeat                  Server.Close (tasks)      the beat is written, or cut with its call
//	sessionPoll.start          Server.Close (tasks)      the call has parked, or has ended
//	newProbation's timer       tunnel.Conn.Run (pass)    at once
//	tunnel.Conn.Run            Server.Close (tasks)      the tunnel is closed and sent
//	serveTunnels, inner.Serve  Server.Close (workers)    the listener of tunnels is closed
//	connections that linger    Server.Close              see edge/doc.go
//	Shutdown, goodbyes         Shutdown                  the servers have shut down, or its patience is over
//	handlers of HTTP/1.1       Server.Close (registry)   the call has ended; net/http starts them
//	handlers of HTTP/2         h2: its connection        see h2/doc.go
//	grpc-go's, of each stream  nobody: it only watches   the context of the call's attempt has ended
//	connections to a backend   Server.Close              see pool/doc.go
//	culvert.v1.Path            Server.Close              Service.Close (package path)
//
// Some timers run a function: the registry's look and its relief, a socket.Guard's
// grace, and a WebSocket's timers (websocket/doc.go). Their owner stops these timers
// and the functions of contexts, and waits for those that run.
//
// Each goroutine and timer catches its panics (panics.go, report.Panics): a panic ends the
// call or the connection, and not the process.
//
// A call costs two goroutines, one when its request is complete, none while it is parked;
// grpc-go adds one.
//
// # Memory
//
// A mem.BufferSlice has one owner: Recv's callers free the message, and Send takes
// its message over. The account (package memory) counts the memory held for clients.
// Each call and each connection has an entry, which counts with a client's address
// and is settled at the end. The buffers of messages come from package buffer.
package bridge

//go:generate go test -count=1 -run TestGeneratedPages . -update
