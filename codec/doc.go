// Package codec turns the bytes of culvert's client protocols into values and
// values into bytes. It has no sockets, goroutines, clocks or logs: the input is a
// slice, a map or a reader, and the output is a value or an error that describes
// the fault in the bytes.
//
// Read it in this order:
//
//   - frame.go: the five bytes before each message of gRPC and gRPC-Web.
//   - header_block.go: the text inside a gRPC-Web trailers frame, which is also the
//     first message of a grpc-websockets call. The frame is written by
//     bridge/transport_grpc_answer.go and bridge/transport_websocket_grpcweb.go.
//   - websocket_grpcweb.go: the byte before each client message of grpc-websockets.
//   - text.go: the base64 around the frames in gRPC-Web-text.
//   - metadata.go: header fields as gRPC metadata and back.
//   - status.go, percent.go: a status as trailers, its message as header text;
//     status_parse.go reads it.
//   - timeout.go: the grpc-timeout header.
//   - connect.go, connect_get.go: the Connect protocol's codes, JSON, time-out and
//     queries. Its envelopes are the frames of frame.go.
//   - opamp.go: the header of OpAMP's WebSocket messages, and the few fields of its
//     messages that culvert reads or writes.
//
// A parser allocates in proportion to the bytes that it was given, never to a
// length that it read in them. Errors name the offending key or line and never
// carry a value, which may be a secret.
package codec
