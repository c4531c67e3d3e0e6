package codec

import (
	"errors"
	"fmt"
)

// A Marker is the first byte of each WebSocket message that a client of
// grpc-websockets sends after the one with its headers. What the server sends
// has none: each of its messages is a gRPC-Web frame.
//
// The protocol is that of github.com/improbable-eng/grpc-web, which has no
// written form; its client's transports/websocket/websocket.ts sets these
// bytes.
type Marker byte

// The markers there are.
const (
	// MarkerData comes before bytes of the gRPC-Web request body.
	MarkerData Marker = 0
	// MarkerHalfClose, alone in its message, says that the client sends no more.
	MarkerHalfClose Marker = 1
)

var (
	errEmptyMessage  = errors.New("empty websocket message: want a marker, 0x00 or 0x01, first")
	errLongHalfClose = errors.New("half-close marker 0x01 with bytes after it")
)

// ParseMarker reads the first byte of a client's message. The length is that of
// the whole message, marker included, or -1 when it isn't known yet; then a
// half-close is to be parsed again once it is, since it must be alone. A message
// of length 0 has no first byte: first is ignored.
//
// The reference server takes any first byte but 0x01 for data, so an off-by-one
// in a client would reach the backend as a broken message; here it is an error.
func ParseMarker(first byte, length int) (Marker, error) {
	switch m := Marker(first); {
	case length == 0:
		return 0, errEmptyMessage
	case m == MarkerData:
		return m, nil
	case m == MarkerHalfClose && length > 1:
		return 0, errLongHalfClose
	case m == MarkerHalfClose:
		return m, nil
	}
	return 0, fmt.Errorf("websocket message begins with 0x%02x: want a marker, 0x00 or 0x01", first)
}
