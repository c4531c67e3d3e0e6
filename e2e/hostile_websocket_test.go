package e2e

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/culvert-grpc/culvert/e2e/probe"
)

// Bits of a WebSocket frame's first byte. RFC 6455 §5.2.
const (
	fin           = 0x80
	opContinue    = 0x0
	opText        = 0x1
	opBinary      = 0x2
	opClose       = 0x8
	opPing        = 0x9
	opPong        = 0xa
	maskOfZeros   = "\x00\x00\x00\x00"
	maskBit       = 0x80
	websocketHead = "content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n"
)

// socketFrame is a client's frame, masked with zeros.
func socketFrame(first byte, payload string) string {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, maskBit|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, maskBit|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, maskBit|127), uint64(n))
	}
	return string(b) + maskOfZeros + payload
}

func binaryFrame(payload string) string { return socketFrame(fin|opBinary, payload) }

func closeFrame(code uint16, reason string) string {
	return socketFrame(fin|opClose, string(binary.BigEndian.AppendUint16(nil, code))+reason)
}

// tunnelMessage wraps b in one message.
func tunnelMessage(b []byte) []byte { return []byte(binaryFrame(string(b))) }

const (
	// forbidden: a call may be told before the connection closes.
	forbidden = "close 1002 | " + badRequest
	// gone: who sends no more may read on.
	gone = "closed | close 1000 | headers, Canceled CLIENT_GONE, close 1000"
)

// hostileFrames: what is wrong with a WebSocket frame fails the connection, with
// the code of RFC 6455 §7.4.1.
var hostileFrames = []hostileCase{
	{name: "not masked", send: string([]byte{fin | opBinary, 2}) + "\x00\x00", want: forbidden},
	{name: "control frame not masked", send: string([]byte{fin | opPing, 0}), want: forbidden},
	{name: "RSV1", send: socketFrame(fin|0x40|opBinary, "\x00"), want: "close 1002"},
	{name: "RSV2", send: socketFrame(fin|0x20|opBinary, "\x00"), want: "close 1002"},
	{name: "RSV3", send: socketFrame(fin|0x10|opBinary, "\x00"), want: "close 1002"},
	{name: "RSV1 in a ping", send: socketFrame(fin|0x40|opPing, ""), want: "close 1002"},
	{name: "opcode 3", send: socketFrame(fin|3, ""), want: "close 1002"},
	{name: "opcode 7", send: socketFrame(fin|7, ""), want: "close 1002"},
	{name: "opcode 11", send: socketFrame(fin|11, ""), want: "close 1002"},
	{name: "opcode 15", send: socketFrame(fin|15, ""), want: "close 1002"},
	{name: "ping in fragments", send: socketFrame(opPing, "a"), want: "close 1002"},
	{name: "pong in fragments", send: socketFrame(opPong, "a"), want: "close 1002"},
	{name: "close in fragments", send: socketFrame(opClose, "\x03\xe8"), want: "close 1002"},
	{name: "ping of 126 bytes", send: socketFrame(fin|opPing, strings.Repeat("a", 126)), want: "close 1002"},
	{name: "ping of 2^62 bytes", send: string([]byte{fin | opPing, maskBit | 127, 0x40, 0, 0, 0, 0, 0, 0, 0}) + maskOfZeros, want: "close 1002"},
	{name: "close of 126 bytes", send: closeFrame(1000, strings.Repeat("a", 124)), want: "close 1002"},
	{name: "close of one byte", send: socketFrame(fin|opClose, "\x03"), want: "close 1002"},
	{name: "close 0", send: closeFrame(0, ""), want: "close 1002"},
	{name: "close 999", send: closeFrame(999, ""), want: "close 1002"},
	{name: "close 1004", send: closeFrame(1004, ""), want: "close 1002"},
	{name: "close 1005", send: closeFrame(1005, ""), want: "close 1002"},
	{name: "close 1006", send: closeFrame(1006, ""), want: "close 1002"},
	{name: "close 1015", send: closeFrame(1015, ""), want: "close 1002"},
	{name: "close 2999", send: closeFrame(2999, ""), want: "close 1002"},
	{name: "close 5000", send: closeFrame(5000, ""), want: "close 1002"},
	{name: "close 65535", send: closeFrame(65535, ""), want: "close 1002"},
	{name: "close with a reason that isn't UTF-8", send: closeFrame(1000, "\xff\xfe"), want: "close 1007 | close 1000"}, // RFC 6455 §8.1 is for those who read it,
	{name: "continuation of nothing", send: socketFrame(fin|opContinue, "\x00"), want: "close 1002"},
	{name: "message within a message", send: socketFrame(opBinary, "\x00") + socketFrame(fin|opBinary, "\x00"), want: "close 1002"},
	{name: "length with the top bit", send: string([]byte{fin | opBinary, maskBit | 127, 0x80, 0, 0, 0, 0, 0, 0, 5}) + maskOfZeros, want: forbidden},
	{name: "length of 2^62", send: string([]byte{fin | opBinary, maskBit | 127, 0x40, 0, 0, 0, 0, 0, 0, 0}), want: "close 1009"},
	{name: "length of all bits", send: string([]byte{fin | opBinary, maskBit | 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) + maskOfZeros, want: forbidden},
	{name: "cut in a frame's header", send: string([]byte{fin | opBinary}), fin: true, want: gone},
	{name: "cut in a message", send: socketFrame(fin|opBinary, "\x00\x00\x00")[:8], fin: true, want: gone},
	{name: "cut between messages", send: "", fin: true, want: gone},
}

// afterHead returns the cases with the metadata message sent before.
func afterHead(cases []hostileCase) []hostileCase {
	var out []hostileCase
	for _, h := range cases {
		h.name = "after metadata, " + h.name
		h.send = binaryFrame(websocketHead) + h.send
		out = append(out, h)
	}
	return out
}

// hostileWebSocket: what is wrong with grpc-websockets in good frames is told as
// every error is, with headers, trailers and the code 1000.
var hostileWebSocket = append(append(append([]hostileCase{}, hostileFrames...), afterHead(hostileFrames)...), []hostileCase{
	{name: "text first", send: socketFrame(fin|opText, websocketHead), want: badRequest},
	{name: "text that isn't UTF-8 first", send: socketFrame(fin|opText, "\xff"), want: badRequest + " | close 1007"},
	{name: "metadata without a colon", send: binaryFrame(websocketHead + "nothing\r\n"), want: badRequest},
	{name: "metadata without a name", send: binaryFrame(websocketHead + ": v\r\n"), want: badRequest},
	{name: "metadata with a blank in a name", send: binaryFrame(websocketHead + "x a: v\r\n"), want: badRequest},
	{name: "metadata with NUL", send: binaryFrame(websocketHead + "x-a: a\x00b\r\n"), want: badRequest},
	{name: "metadata with CR", send: binaryFrame(websocketHead + "x-a: a\rb\r\n"), want: badRequest},
	{name: "metadata behind an empty line", send: binaryFrame(websocketHead + "\r\nx-a: b\r\n"), want: badRequest},
	{name: "metadata that is a frame", send: binaryFrame(emptyFrame), want: badRequest},
	{name: "metadata that isn't base64", send: binaryFrame(websocketHead + "x-b-bin: !!!\r\n"), want: badRequest},
	{name: "metadata over the limit", send: binaryFrame(websocketHead + "x-a: " + strings.Repeat("a", 70<<10) + "\r\n"), want: "headers, ResourceExhausted METADATA_TOO_LARGE, close 1000"},
	{name: "metadata over the limit by number", send: binaryFrame(websocketHead + strings.Repeat("x-a: b\r\n", 3000)), want: "headers, ResourceExhausted METADATA_TOO_LARGE, close 1000"},
	{name: "metadata of 2^62 bytes", send: string([]byte{fin | opBinary, maskBit | 127, 0x40, 0, 0, 0, 0, 0, 0, 0}) + maskOfZeros + strings.Repeat("a", 70<<10), want: "close 1009"},
	{name: "bad time-out", send: binaryFrame(websocketHead + "grpc-timeout: soon\r\n"), want: badRequest},
	{name: "time-out that has passed", send: binaryFrame(websocketHead + "grpc-timeout: 0m\r\n"), want: "headers, DeadlineExceeded DEADLINE_EXCEEDED, close 1000"},
	{name: "unknown coding", send: binaryFrame(websocketHead + "grpc-encoding: br\r\n"), want: "headers, Unimplemented UNSUPPORTED_ENCODING, close 1000"},
	{name: "text instead of data", send: binaryFrame(websocketHead) + socketFrame(fin|opText, "a"), want: badRequest},
	{name: "empty message", send: binaryFrame(websocketHead) + binaryFrame(""), want: badRequest},
	{name: "unknown marker", send: binaryFrame(websocketHead) + binaryFrame("\x02"), want: badRequest},
	{name: "no marker", send: binaryFrame(websocketHead) + binaryFrame("\x80\x00\x00\x00\x00"), want: badRequest},
	{name: "half-close with data", send: binaryFrame(websocketHead) + binaryFrame("\x01"+emptyFrame), want: badRequest},
	{name: "half-close inside a frame", send: binaryFrame(websocketHead) + binaryFrame("\x00\x00\x00\x00") + binaryFrame("\x01"), want: badRequest},
	{name: "reserved flag", send: binaryFrame(websocketHead) + binaryFrame("\x00"+prefixed(2, 0, "")), want: badRequest},
	{name: "trailers of the client", send: binaryFrame(websocketHead) + binaryFrame("\x00"+prefixed(0x80, 0, "")), want: badRequest},
	{name: "compressed without a coding", send: binaryFrame(websocketHead) + binaryFrame("\x00"+prefixed(1, 5, "world")), want: "headers, Internal BAD_REQUEST, close 1000"},
	{name: "no gzip", send: binaryFrame(websocketHead+"grpc-encoding: gzip\r\n") + binaryFrame("\x00"+prefixed(1, 5, "world")), want: badRequest},
	{name: "gzip bomb", send: binaryFrame(websocketHead+"grpc-encoding: gzip\r\n") + binaryFrame("\x00"+prefixed(1, uint32(len(gzipBomb)), gzipBomb)), want: "headers, ResourceExhausted REQUEST_TOO_LARGE, close 1000"},
	{name: "length over the limit", send: binaryFrame(websocketHead) + binaryFrame("\x00"+prefixed(0, 1<<20+1, "world")), want: "headers, ResourceExhausted REQUEST_TOO_LARGE, close 1000"},
	{name: "length of 32 bits in a message of 2^62", send: binaryFrame(websocketHead) + string([]byte{fin | opBinary, maskBit | 127, 0x40, 0, 0, 0, 0, 0, 0, 0}) + maskOfZeros + "\x00" + prefixed(0, 0xffffffff, "world"), want: "close 1009"},
	{name: "data behind a close", send: binaryFrame(websocketHead) + closeFrame(1000, "") + binaryFrame("\x00"+emptyFrame), want: "close 1000"},
}...)

const badRequest = "headers, InvalidArgument BAD_REQUEST, close 1000"

// hostileTunnel: a tunnel is a pipe for bytes. Text isn't, and its HTTP/2 has
// tables of its own.
var hostileTunnel = append(append([]hostileCase{}, hostileFrames...), []hostileCase{
	{name: "text", send: socketFrame(fin|opText, "a"), want: "close 1003"},
	{name: "text that isn't UTF-8", send: socketFrame(fin|opText, "\xff"), want: "close 1003 | close 1007"},
	{name: "empty text", send: socketFrame(fin|opText, ""), want: "close 1003"},
}...)

// lookWebSocket writes down what culvert sends until it closes.
func lookWebSocket(conn net.Conn, _ func(string) bool) (string, error) {
	in := bufio.NewReader(conn)
	var got []string
	text := func(more string) string { return strings.Join(append(got, more), ", ") }
	for {
		op, payload, err := readSocketFrame(in)
		switch {
		case errors.Is(err, io.EOF):
			return text("closed"), nil
		case err != nil:
			return text("cut"), err
		case op == opClose && len(payload) >= 2:
			_, _ = io.WriteString(conn, socketFrame(fin|opClose, string(payload[:2]))) // culvert may not read it any more
			return text(fmt.Sprintf("close %d", binary.BigEndian.Uint16(payload))), nil
		case op == opClose:
			return text("close"), nil
		case op != opBinary: // a ping, or a pong
		case len(got) == 0 && len(payload) >= 5 && payload[0] == 0x80:
			got = append(got, "headers")
		case len(payload) >= 5 && payload[0] == 0x80:
			got = append(got, blockEnd(payload[5:]))
		case len(payload) >= 5 && isHTTP2(payload): // a tunnel's HTTP/2 has its own look
		default:
			got = append(got, fmt.Sprintf("a message of %d bytes", len(payload)))
		}
	}
}

// isHTTP2 reports whether a message begins with a frame on the connection
// itself: SETTINGS, its acknowledgement, WINDOW_UPDATE or GOAWAY.
func isHTTP2(b []byte) bool {
	return len(b) >= 9 && (b[3] == 4 || b[3] == 8 || b[3] == 7) && binary.BigEndian.Uint32(b[5:]) == 0
}

// readSocketFrame reads a server's frame, and those that continue its message.
func readSocketFrame(in io.Reader) (op byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, nil, err
	}
	length := uint64(head[1])
	switch head[1] {
	case 126:
		var b [2]byte
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return 0, nil, err
		}
		length = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return 0, nil, err
		}
		length = binary.BigEndian.Uint64(b[:])
	}
	if head[0]&0x70 != 0 || length > probe.MaxPayload {
		return 0, nil, fmt.Errorf("a frame that begins with %x, of %d bytes", head, length)
	}
	payload = make([]byte, length)
	if _, err := io.ReadFull(in, payload); err != nil {
		return 0, nil, err
	}
	if head[0]&fin == 0 {
		next, more, err := readSocketFrame(in)
		if err == nil && next != opContinue {
			err = fmt.Errorf("a frame of the opcode %d inside a message", next)
		}
		return head[0], append(payload, more...), err
	}
	return head[0] &^ fin, payload, nil
}

// throughWebSocket lets a look at a connection look into a tunnel.
func throughWebSocket(look func(net.Conn, func(string) bool) (string, error)) func(net.Conn, func(string) bool) (string, error) {
	return func(conn net.Conn, enough func(string) bool) (string, error) {
		return look(&tunnelConn{Conn: conn, in: bufio.NewReader(conn)}, enough)
	}
}

// A tunnelConn is the HTTP/2 connection inside a tunnel, for reading.
type tunnelConn struct {
	net.Conn
	in   *bufio.Reader
	rest []byte
	code uint16 // of the close frame, valid after io.EOF
}

func (c *tunnelConn) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		op, payload, err := readSocketFrame(c.in)
		switch {
		case err != nil:
			return 0, err
		case op == opClose:
			if len(payload) >= 2 {
				c.code = binary.BigEndian.Uint16([]byte(payload))
			}
			_, _ = io.WriteString(c.Conn, socketFrame(fin|opClose, string(payload))) // culvert may not read it any more
			return 0, io.EOF
		case op == opBinary:
			c.rest = payload
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *tunnelConn) Write(b []byte) (int, error) {
	if _, err := c.Conn.Write(tunnelMessage(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}
