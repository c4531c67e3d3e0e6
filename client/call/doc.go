// Package call is the work of "culvert call": it makes a call by any protocol of culvert, and
// lists and describes services. It is public for that command: its API may change in any release.
//
// [Run] does all of it. A way (way.go) opens calls by one protocol, and a stream is a call's end
// on this side:
//
//   - way_grpc.go: native gRPC, also over a tunnel in a WebSocket; wire_http2.go says what
//     crosses it
//   - way_web.go: what the protocols over HTTP/1.1 share: way_grpcweb.go, way_connect.go and
//     way_sse.go; framing.go has the frames of the first two
//   - way_websocket.go: grpc-websockets, and bare messages in a WebSocket
//
// Above the ways nothing depends on the protocol: input.go reads JSON values, book.go has the
// descriptors, details.go shows a status's details by them, converse.go is the call itself,
// output.go prints it. page.go does what a browser would.
//
// # Goroutines
//
//	start                    owner that waits           ends when
//	values.run               nobody                     the input ends; one that waits for a terminal ends with the process
//	exchange.send            exchange.run               the input or the call ends
//	httpStream.roundTrip     httpStream.close           the answer's header is there, or the context ends
//	tunnel.Conn.Run          native.close               the tunnel is closed
package call
