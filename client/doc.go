// Package client calls a gRPC service behind an edge from networks that break HTTP/2.
//
// [NewClient] returns a [Client], which generated stubs take in place of a grpc.ClientConn. It
// finds out by which [Way] the edge can be reached, uses the first that delivers, and tries
// better ones later. [DialOptions] does the same for a grpc.ClientConn of your own.
//
// # How to read it
//
// way.go has the ways, race.go the race between them, pace.go when it begins again, open.go how
// each is opened, prove.go what it must prove, web.go the end of gRPC-Web, conn.go the connection
// that grpc-go gets, watch.go its pings, memory.go what is remembered. dialer.go holds these
// together, and status.go tells what has become of them. client.go and options.go are what
// programs see. Below internal, package network has proxies and TLS, tunnel the WebSocket, frame
// the frames of HTTP/2, webcall gRPC-Web.
//
// # Who waits for whom
//
// These run in the Dialer's work, and Close waits for them:
//
//   - the ways of a race, and what closes those that have lost;
//   - the call that shows whether gRPC passes (showGRPC), and the one that shows whether both
//     directions of gRPC-Web stream;
//   - of each connection inside a WebSocket, the Run of package tunnel;
//   - of each connection of grpc-go's, watch, which stops its timer;
//   - of each connection by a worse way, improve, which tries better ones.
//
// Package webcall waits for its own. Its end in memory goes with the last connection, or with
// Close. The goroutine that tells changes of the status ends when all are told. Close waits for it,
// unless it is stuck in the program's function.
package client
