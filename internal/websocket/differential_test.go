package websocket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	coder "github.com/coder/websocket"

	"github.com/culvert-grpc/culvert/internal/parts/differential"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// TestDifferential compares what culvert and coder/websocket make of the same frames.
// culvert must never deliver what the other refuses.
func TestDifferential(t *testing.T) { compareSequences(t, 1000) }

// TestDifferentialForLong does it with many more.
func TestDifferentialForLong(t *testing.T) { compareSequences(t, 20_000) }

func compareSequences(t *testing.T, n int) {
	var table []differential.Difference
	for _, d := range differences {
		table = append(table, differential.Difference{Name: d.name, RFC: d.rfc, Why: d.why})
	}
	differential.Run(t, n, table, func(_ *testing.T, seed uint64) differential.Verdict {
		s := newSequence(seed)
		v := differential.Verdict{Sequence: s.String()}
		ours, theirs := s.playCulvert(), s.playCoder()
		v.Known, v.Fault = explain(ours, theirs)
		return v
	})
}

// A difference explains what culvert does otherwise than coder/websocket, once both
// have done the same: each pattern matches all that one of them still does.
type difference struct {
	name   string
	rfc    string
	why    string
	broken string // the rule that culvert names, or nothing
	ours   string // what culvert still does
	theirs string // what the other still does
}

// cut is what the other does at the end of a connection: it may take what came of a
// message for all of it, and then close as after any message.
const cut = "(message .*(\nclose 1000)?)?"

// differences is every one there is.
var differences = []difference{
	{
		name: "an unmasked frame", rfc: "RFC 6455 §5.1",
		why:    "the client is told 1002; the other closes without a close frame",
		broken: "a client's frame isn't masked", ours: "close 1002", theirs: "",
	},
	{
		name: "a server's frame with a mask", rfc: "RFC 6455 §5.1",
		why:    "a client must fail the connection; the other takes the mask off",
		broken: "a server's frame is masked", ours: "close 1002", theirs: "(?s).*",
	},
	{
		name: "a control frame with an extended length", rfc: "RFC 6455 §5.2, §5.5",
		why:    "a control frame has at most 125 bytes, and a length takes as few bytes as it needs; the other takes one of 3 bytes whose length says so in 8",
		broken: "a control frame of more than 125 bytes", ours: "close 1002", theirs: "(?s).*",
	},
	{
		name: "a length with its top bit set", rfc: "RFC 6455 §5.2",
		why:    "the client is told 1002; the other closes without a close frame",
		broken: "the length has its top bit set", ours: "close 1002", theirs: "",
	},
	{
		name: "a frame of more than 4 GiB", rfc: "RFC 6455 §10.4",
		why:    "no message of gRPC is as long; the other waits for it, or finds it in the wrong place",
		broken: "a frame of more than 4 GiB", ours: "close 1009", theirs: cut + "|close 1002",
	},
	{
		name: "a broken rule in half a header", rfc: "RFC 6455 §7.1.7",
		why:    "the client is told as soon as the rule is broken; the other waits for the header's end",
		broken: "a reserved bit is set|a reserved opcode|a fragmented control frame", ours: "close 1002", theirs: cut,
	},
	{
		name: "a message that is cut", rfc: "RFC 6455 §5.4, §7.1.7",
		why:    "a connection that ends inside a message doesn't end the message; the other delivers what came of it",
		broken: "", ours: "", theirs: cut,
	},
	{
		name: "a close reason that isn't UTF-8", rfc: "RFC 6455 §5.5.1, §8.1",
		why:    "a reason must be UTF-8, so the WebSocket fails with 1007; the other doesn't look",
		broken: "a close reason that isn't UTF-8", ours: "close 1007", theirs: `close \d+`,
	},
}

// explain returns the difference that explains what differs, or what none explains.
func explain(ours, theirs play) (known []string, fault string) {
	both := 0
	for both < min(len(ours.did), len(theirs.did)) && ours.did[both] == theirs.did[both] {
		both++
	}
	a, b := strings.Join(ours.did[both:], "\n"), strings.Join(theirs.did[both:], "\n")
	if a == b {
		return nil, ""
	}
	for _, d := range differences {
		if strings.Contains(a, "message ") {
			break // nothing explains that culvert alone delivers something
		}
		if differential.Matches(d.broken, ours.broken) && differential.Matches(d.ours, a) && differential.Matches(d.theirs, b) {
			return []string{d.name}, ""
		}
	}
	return nil, fmt.Sprintf("culvert\n%s\n(%v), the other\n%s\n(%v)", indent(ours.did, both), ours.end, indent(theirs.did, both), theirs.end)
}

// indent lists what was done, and marks what comes after the first n.
func indent(did []string, n int) string {
	var b strings.Builder
	for i, line := range did {
		mark := " "
		if i >= n {
			mark = ">"
		}
		fmt.Fprintf(&b, "\t%s %s\n", mark, line)
	}
	return strings.TrimRight(b.String(), "\n")
}

// A play is what one end did with a sequence.
type play struct {
	did    []string // messages delivered, pongs, the close frame
	end    error    // of reading
	broken string   // the rule that culvert names
}

// A sequence is what one end sends, and when the other closes.
type sequence struct {
	servers    bool     // the sender is a server
	frames     []string // for a reader
	in         []byte
	closeAfter int // messages; -1: never
	arriving   int // bytes at a time
	reading    int
}

func (s *sequence) String() string {
	sender, peer := "client", "server"
	if s.servers {
		sender, peer = peer, sender
	}
	text := sender + " sends\n" + strings.Join(s.frames, "\n")
	if s.closeAfter >= 0 {
		text += fmt.Sprintf("\nthe %s closes after %d messages", peer, s.closeAfter)
	}
	return text + fmt.Sprintf("\nit arrives by %d bytes and is read by %d", s.arriving, s.reading)
}

// newSequence makes the sequence of a seed: frames as a client or a server sends them, of
// which some break a rule.
func newSequence(seed uint64) *sequence {
	dice := rand.New(rand.NewPCG(seed, 0))
	s := &sequence{servers: dice.IntN(2) == 0, closeAfter: -1, arriving: 1 + dice.IntN(200), reading: 1 + dice.IntN(2*directBytes)}
	if dice.IntN(8) == 0 {
		s.closeAfter = dice.IntN(3)
	}
	faults := dice.IntN(3) // of 8 frames
	open := false          // a message has begun
	for n := dice.IntN(8); n >= 0; n-- {
		f := ordinaryFrame(dice, open, n == 0)
		if s.servers {
			f.unmask()
		}
		if dice.IntN(8) < faults {
			f.spoil(dice)
		}
		s.add(f)
		open = f.op < opClose && f.first&finBit == 0
	}
	switch dice.IntN(8) {
	case 0:
		s.cut(1 + dice.IntN(10))
	case 1:
		b := make([]byte, dice.IntN(20))
		for i := range b {
			b[i] = byte(dice.Uint32())
		}
		s.frames = append(s.frames, fmt.Sprintf("%x", b))
		s.in = append(s.in, b...)
	}
	return s
}

func (s *sequence) add(f *anyFrame) {
	s.frames = append(s.frames, f.String())
	s.in = f.appendTo(s.in)
}

func (s *sequence) cut(n int) {
	n = min(n, len(s.in))
	s.in = s.in[:len(s.in)-n]
	s.frames = append(s.frames, fmt.Sprintf("without the last %d bytes", n))
}

// An anyFrame is one frame of a client or a server, right or not.
type anyFrame struct {
	op      Opcode
	first   byte
	second  byte   // MASK, and the length or what says how many bytes it has
	length  []byte // these bytes
	key     []byte // nil: no mask
	payload []byte
	spoilt  string
}

// unmask makes a server's frame of a client's.
func (f *anyFrame) unmask() { f.second, f.key = f.second&^maskBit, nil }

func (f *anyFrame) appendTo(b []byte) []byte {
	b = append(append(append(b, f.first, f.second), f.length...), f.key...)
	for i, p := range f.payload {
		if f.key != nil {
			p ^= f.key[i%4]
		}
		b = append(b, p)
	}
	return b
}

func (f *anyFrame) String() string {
	payload := fmt.Sprintf("%q", f.payload)
	if len(f.payload) > 130 {
		payload = fmt.Sprintf("%d bytes", len(f.payload))
	}
	return strings.TrimSpace(fmt.Sprintf("%02x %02x %x key %x: %s  %s", f.first, f.second, f.length, f.key, payload, f.spoilt))
}

// ordinaryFrame is one that may come when a message is open or not.
func ordinaryFrame(dice *rand.Rand, open, last bool) *anyFrame {
	op, final := Opcode(1+dice.IntN(2)), dice.IntN(3) > 0
	if open {
		op = opContinuation
	}
	switch n := dice.IntN(10); {
	case last && n < 8 || n == 9:
		return newFrame(dice, opClose, true, closePayload(dice))
	case n == 0:
		return newFrame(dice, opPing, true, somePayload(dice, maxControl))
	case n == 1:
		return newFrame(dice, opPong, true, somePayload(dice, maxControl))
	}
	return newFrame(dice, op, final, somePayload(dice, 3*directBytes))
}

func newFrame(dice *rand.Rand, op Opcode, final bool, payload []byte) *anyFrame {
	f := &anyFrame{op: op, first: byte(op), payload: payload, key: binary.LittleEndian.AppendUint32(nil, dice.Uint32())}
	if final {
		f.first |= finBit
	}
	f.setLength(len(payload))
	return f
}

// setLength says a length in as many bytes as it takes.
func (f *anyFrame) setLength(n int) {
	switch {
	case n < 126:
		f.setSecond(byte(n))
		f.length = nil
	case n < 1<<16:
		f.setSecond(126)
		f.length = binary.BigEndian.AppendUint16(nil, uint16(n))
	default:
		f.setSecond(127)
		f.length = binary.BigEndian.AppendUint64(nil, uint64(n))
	}
}

// setSecond sets the length's part of the second byte, and says whether there is a mask.
func (f *anyFrame) setSecond(b byte) {
	if f.second = b; f.key != nil {
		f.second |= maskBit
	}
}

// somePayload has mostly few bytes, and else as many as change something.
func somePayload(dice *rand.Rand, most int) []byte {
	n := dice.IntN(20)
	switch dice.IntN(40) {
	case 0:
		n = []int{124, 125, 126, 127, 128}[dice.IntN(5)]
	case 1:
		n = []int{1<<16 - 1, 1 << 16, directBytes - 1, directBytes, directBytes + 1}[dice.IntN(5)]
	}
	b := make([]byte, min(n, most))
	for i := range b {
		b[i] = byte(dice.Uint32())
	}
	return b
}

func closePayload(dice *rand.Rand) []byte {
	if dice.IntN(4) == 0 {
		return nil
	}
	codes := []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999}
	b := binary.BigEndian.AppendUint16(nil, codes[dice.IntN(len(codes))])
	reasons := []string{"", "bye", "größer", strings.Repeat("r", 123)}
	return append(b, reasons[dice.IntN(len(reasons))]...)
}

// spoil breaks a rule, or does something odd that is allowed.
func (f *anyFrame) spoil(dice *rand.Rand) {
	switch n := len(f.payload); dice.IntN(14) {
	case 0:
		f.first |= 0x10 << dice.IntN(3)
		f.spoilt = "(a reserved bit)"
	case 1:
		f.op = Opcode([]byte{3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf}[dice.IntN(10)])
		f.first = f.first&^opBits | byte(f.op)
		f.spoilt = "(a reserved opcode)"
	case 2:
		if f.key == nil {
			f.second |= maskBit
			f.key = []byte{1, 2, 3, 4}
			f.spoilt = "(a mask)"
			return
		}
		f.unmask()
		f.spoilt = "(no mask)"
	case 3:
		if f.key == nil {
			f.key = []byte{1, 2, 3, 4}
		}
		f.second &^= maskBit
		f.spoilt = "(a mask that it doesn't tell of)"
	case 4:
		f.second |= maskBit
		f.key = nil
		f.spoilt = "(a mask that it doesn't have)"
	case 5:
		f.setLength(n + 1 + dice.IntN(9))
		f.spoilt = "(its length is too large)"
	case 6:
		f.setLength(max(0, n-1-dice.IntN(9)))
		f.spoilt = "(its length is too small)"
	case 7:
		f.setSecond(126)
		f.length = binary.BigEndian.AppendUint16(nil, uint16(n))
		f.spoilt = "(its length takes more bytes than it needs)"
	case 8:
		f.setSecond(127)
		f.length = binary.BigEndian.AppendUint64(nil, uint64(n))
		f.spoilt = "(its length takes more bytes than it needs)"
	case 9:
		lengths := []uint64{1 << 63, 1<<64 - 1, 1<<63 - 1, 1 << 40, maxFrame, maxFrame + 1}
		f.setSecond(127)
		f.length = binary.BigEndian.AppendUint64(nil, lengths[dice.IntN(len(lengths))])
		f.spoilt = "(its length is huge)"
	case 10:
		f.first ^= finBit
		f.spoilt = "(FIN turned over)"
	case 11:
		f.op = Opcode([]byte{0, 1, 2, 8, 9, 0xa}[dice.IntN(6)])
		f.first = f.first&^opBits | byte(f.op)
		f.spoilt = "(another opcode)"
	case 12:
		f.payload = make([]byte, 126)
		f.setLength(126)
		f.spoilt = "(126 bytes)"
	case 13:
		f.op, f.first = opClose, finBit|byte(opClose)
		f.payload = [][]byte{{3}, {0, 0}, {3, 231}, {3, 236}, {3, 237}, {3, 238}, {3, 247}, {3, 248}, {0xb, 0xb7}, {0x13, 0x88}, {0xff, 0xff}, []byte("\x03\xe8\xff"), []byte("\x03\xe8\xed\xa0\x80"), []byte("\x03\xe8a\xc3")}[dice.IntN(14)]
		f.setLength(len(f.payload))
		f.spoilt = "(a bad close)"
	}
}

// message notes one that was delivered.
func (p *play) message(op byte, payload []byte) {
	text := fmt.Sprintf("%q", payload)
	if len(payload) > 200 {
		text = fmt.Sprintf("%d bytes of hash %x", len(payload), sha256.Sum256(payload))
	}
	p.did = append(p.did, fmt.Sprintf("message %x %s", op, text))
}

// told notes the frames that the sender was sent.
func (p *play) told(b *bytes.Buffer, servers bool) {
	for b.Len() > 0 {
		op, final, payload, key, err := wstest.Read(b)
		switch {
		case err != nil || !final || (key != nil) != servers:
			p.did = append(p.did, fmt.Sprintf("a frame %x %q with the key %x, %v", op, payload, key, err))
		case op == wstest.Pong:
			p.did = append(p.did, fmt.Sprintf("pong %q", payload))
		case op != wstest.Close || len(payload) == 1:
			p.did = append(p.did, fmt.Sprintf("frame %x %q", op, payload))
		case len(payload) == 0:
			p.did = append(p.did, "close")
		default:
			p.did = append(p.did, fmt.Sprintf("close %d", binary.BigEndian.Uint16(payload))) // a reason is for people
		}
	}
}

func (s *sequence) playCulvert() (p play) {
	conn := &pieces{rest: bytes.Clone(s.in), size: s.arriving}
	role := asServer
	if s.servers {
		role = asClient
	}
	ws := role(conn)
	defer func() {
		ws.Drop()
		p.told(&conn.written, s.servers)
	}()
	buf := make([]byte, s.reading)
	for n := 0; n != s.closeAfter; n++ {
		op, err := ws.NextMessage()
		var message []byte
		for k := 0; err == nil; {
			k, err = ws.Read(buf)
			message = append(message, buf[:k]...)
		}
		p.told(&conn.written, s.servers)
		if !errors.Is(err, io.EOF) {
			p.end = err
			var rule RuleError
			if errors.As(err, &rule) {
				p.broken = rule.Broken
			}
			return p
		}
		p.message(byte(op), message)
	}
	ws.Close(StatusNormalClosure, "", time.Second, inNoHurry)
	return p
}

func (s *sequence) playCoder() (p play) {
	conn := &pieces{rest: bytes.Clone(s.in), size: s.arriving}
	ws, err := s.coder(conn)
	if err != nil {
		p.end = err
		return p
	}
	defer func() {
		_ = ws.CloseNow() // it may be closed
		p.told(&conn.written, s.servers)
	}()
	ws.SetReadLimit(-1)
	ctx := context.Background()
	for n := 0; n != s.closeAfter; n++ {
		kind, message, err := ws.Read(ctx)
		p.told(&conn.written, s.servers)
		if err != nil {
			p.end = err
			return p
		}
		p.message(byte(kind), message)
	}
	p.end = ws.Close(StatusNormalClosure, "")
	return p
}

// coder returns the end that the sequence is for.
func (s *sequence) coder(conn net.Conn) (*coder.Conn, error) {
	if !s.servers {
		return coder.Accept(hijacked{httptest.NewRecorder(), conn}, upgrade, &coder.AcceptOptions{CompressionMode: coder.CompressionDisabled})
	}
	ws, _, err := coder.Dial(context.Background(), "ws://localhost", &coder.DialOptions{HTTPClient: &http.Client{Transport: switching{conn}}, CompressionMode: coder.CompressionDisabled})
	return ws, err
}

// switching answers a client's handshake with its connection.
type switching struct{ conn net.Conn }

func (s switching) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(wstest.Answer(r.Header.Get("Sec-Websocket-Key"), ""))), r)
	if err == nil {
		res.Body = s.conn
	}
	return res, err
}

// upgrade is a client's handshake.
var upgrade = &http.Request{Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "localhost", Header: http.Header{
	"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
}}

// hijacked gives its connection away.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}
