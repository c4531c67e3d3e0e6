package codec

import (
	"errors"
	"fmt"
)

// A Marker is the first byte of each WebSocket message that a client of
// grpc-websockets sends after the one with its headers. The server's messages have
// none: each is a gRPC-Web frame.
//
// The protocol is that of github.com/improbable-eng/grpc-web, which has no written
// specification; its client's transports/websocket/websocket.ts sets these bytes.
type Marker byte

// The markers.
const (
	// MarkerData comes before bytes of the gRPC-Web request body.
	MarkerData Marker = 0
	// MarkerHalfClose, alone in its message, means that the client sends no more.
	MarkerHalfClose Marker = 1
)

// ParseMarker parses the first byte of a client's message. length is the size of
// the whole message, with the marker, or -1 if it isn't known yet. Then a
// half-close must be parsed again once it is known, since it must be alone. A
// message of length 0 has no first byte: first is ignored.
//
// The reference server takes any first byte but 0x01 for data, so an off-by-one
// error in a client would reach the backend as a broken message. Here it is an
// error.
func ParseMarker(first byte, length int) (Marker, error) {
	switch m := Marker(first); {
	case length == 0:
		return 0, errors.New("empty websocket message: want a marker, 0x00 or 0x01, first")
	case m == MarkerData:
		return m, nil
	case m == MarkerHalfClose && length > 1:
		return 0, errors.New("half-close marker 0x01 with bytes after it")
	case m == MarkerHalfClose:
		return m, nil
	}
	return 0, fmt.Errorf("websocket message begins with 0x%02x: want a marker, 0x00 or 0x01", first)
}
