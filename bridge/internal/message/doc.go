// Package message reads the messages in requests' bodies, of any protocol. It knows no
// calls: a Reader counts with the account's entry, the quotas and the progress that it is
// given.
//
//   - reader.go: the payload of messages, as the account has room for it; gzip
//   - grpc.go: the framing of the gRPC family
//   - unary.go: the framing of a body that is one bare message
//   - bare.go: the framing of WebSockets whose messages are those of the method
//   - opamp.go: the header before each of them, on OpAMP's WebSockets
//   - socket.go: the body that grpc-websockets sends in a WebSocket's messages
//   - body.go: what a broken body means
//   - json.go: the conversion of messages from JSON and to JSON
package message
