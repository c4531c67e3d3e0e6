// Package webcall is an HTTP/2 end in memory, for grpc-go, behind which each call is a request
// of gRPC-Web over HTTP/1.1. Messages cross as they are: both protocols frame them alike.
//
// # Both directions at once
//
// HTTP/1.1 can carry a request and its response at the same time, but boxes on the way may hold
// a request until its end. The owner finds out, and says it with [Server.SetTwoWay]. Where they
// do, a request is sent when it is whole, and a call whose client waits for an answer before it
// sends more ends with a status that says so.
//
// # Silence
//
// A backend may take its time, and HTTP/1.1 has no ping. An edge that is culvert sends heart-beats.
// To another one, when nothing has come for a while, one request on another connection shows whether
// the path delivers: see silence.go.
//
// # Who waits for whom
//
// [Server.Close] ends all connections and calls, and waits for them, and for the goroutine that
// notices silence. Each call reads its request on a goroutine of its own, which ends with the
// call, and is awaited by it. [Echo] waits for the one that writes its first message.
package webcall
