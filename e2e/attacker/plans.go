package main

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// kinds are the attacks by name.
var kinds = map[string]plan{
	// A reply of 40 KB for each call, and no window for it. Backends may send that much
	// without asking.
	"stalled": stalled(40_000),
	// A reply of 250 KB for each call, and no window for it. Backends may send most of it
	// only when culvert has memory for it.
	"withheld": stalled(250_000),
	// A reply of 4 KB for each call, and its end, and no window for them.
	"answered": {
		method:  wire.Bidi,
		script:  probe.Script{Read: probe.ReadOne, Replies: 1, ReplyBytes: 4000}.String(),
		stalled: true,
		first:   newPiece(wire.Frame(nil)),
		atOnce:  true,
	},
	// A request that is no call, and no window for its answer.
	"refused": {method: "/", stalled: true, first: new(piece), atOnce: true},
	// 1 KiB of a message of 64 KiB, and then 1 KiB in 5 s, which is as much as a slow
	// client may.
	"trickled": {
		method: wire.ClientStream,
		script: probe.Script{}.String(),
		first:  newPiece(append(wire.Prefix(64<<10), probe.Payload(0, 1<<10)...)),
		then:   newPiece(probe.Payload(0, 256)),
		every:  1200 * time.Millisecond,
	},
	// 52 KiB of a message of 16 MiB, all that a stream's window takes at once, and
	// then next to nothing.
	"large": {
		method: wire.ClientStream,
		script: probe.Script{}.String(),
		first:  newPiece(append(wire.Prefix(16<<20), probe.Payload(0, 52<<10)...)),
		then:   newPiece(probe.Payload(0, 256)),
		every:  1200 * time.Millisecond,
	},
	// Messages of 16 KiB, one a second.
	"fed": {
		method: wire.ClientStream,
		script: probe.Script{AnyPayload: true}.String(),
		first:  newPiece(wire.Frame(wire.Request(0, 16<<10))),
		then:   newPiece(wire.Frame(wire.Request(0, 16<<10))),
		every:  time.Second,
		spread: true,
	},
}

// stalled has a reply of that size come for each call, and gives no window for it.
func stalled(replyBytes int) plan {
	return plan{
		method:  wire.Bidi,
		script:  probe.Script{Read: probe.ReadOne, Replies: 1, ReplyBytes: replyBytes, Hang: true}.String(),
		stalled: true,
		first:   newPiece(wire.Frame(nil)),
	}
}

// A piece is bytes of a request's stream of messages, as each protocol frames them.
type piece struct {
	raw    []byte
	chunk  []byte // of an HTTP/1.1 body
	binary []byte // a message of a WebSocket
}

func newPiece(raw []byte) *piece {
	chunk := append(fmt.Appendf(nil, "%x\r\n", len(raw)), raw...)
	return &piece{raw, append(chunk, "\r\n"...), socketFrame(opBinary, append([]byte{0}, raw...))}
}

// The opcodes of WebSocket frames. RFC 6455 §5.2.
const (
	opBinary = 0x2
	opClose  = 0x8
	opPing   = 0x9
	opPong   = 0xa
)

// socketFrame is a client's whole frame, masked with zeros.
func socketFrame(op byte, payload []byte) []byte {
	const fin, masked = 0x80, 0x80
	b := make([]byte, 0, 14+len(payload))
	switch n := len(payload); {
	case n < 126:
		b = append(b, fin|op, masked|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, fin|op, masked|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, fin|op, masked|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}
