package codec

import "time"

// Between two halves of culvert, a quiet answer of gRPC-Web has heart-beats: HTTP/1.1 has no
// pings, and clients of others take no frame for one. docs/reference/grpc-web.md has the rules.
const (
	// Heartbeat is the HTTP header with which a request asks for heart-beats, as
	// HeartbeatWanted. The answer has it, too, as HeaderWhole or HeaderLate.
	Heartbeat = "Culvert-Heartbeat"

	HeartbeatWanted = "1"
	HeaderWhole     = "1"
	HeaderLate      = "late" // the answer's metadata isn't in the HTTP header: a frame may bring it

	// FlagHeader marks a frame without payload, which is a heart-beat, or with a header block,
	// which is late metadata. It is never compressed.
	FlagHeader byte = 0x40

	// HeartbeatEvery is for how long an answer is quiet at least before culvert sends a
	// heart-beat. Proxies end quiet answers after 10 s or more.
	HeartbeatEvery = 6 * time.Second
)

// ParseBeatingFrameHeader is ParseFrameHeader for an answer with heart-beats.
func ParseBeatingFrameHeader(b []byte) (h FrameHeader, n int, err error) {
	return parseFrameHeader(b, FlagCompressed|FlagTrailers|FlagHeader)
}
