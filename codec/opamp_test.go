package codec

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// opampVectors are the vectors of OpAMP.
type opampVectors struct {
	Header []struct {
		Name   string
		Hex    hexBytes
		Length int
	}
	HeaderRefuse  []opampRefused
	AgentToServer []struct {
		Name, UID   string
		Hex         hexBytes
		Disconnects bool
	}
	AgentToServerRefuse []opampRefused
	Replies             []struct {
		Name, NewUID string // no NewUID: none is given
		Capabilities uint64
		SaysNothing  bool
		Hex          hexBytes
	}
	ServerToAgent []struct {
		Name, UID string
		Hex       hexBytes
	}
	Error []struct {
		Name, UID, Message string
		Type               OpAMPErrorType
		Seconds            int64
		Hex                hexBytes
	}
}

type opampRefused struct {
	Name, Error string
	Hex         hexBytes
}

func readOpAMPVectors(t testing.TB) opampVectors {
	return readVectors[opampVectors](t, "opamp.json")
}

// opampUID returns the id that has this text, as String has.
func opampUID(t *testing.T, text string) OpAMPUID {
	t.Helper()
	u := OpAMPUID(text)
	if b, err := hex.DecodeString(strings.ReplaceAll(text, "-", "")); err == nil && text != "" {
		u = OpAMPUID(b)
	}
	if u.String() != text {
		t.Fatalf("the id %q is %v", text, u)
	}
	return u
}

// inPieces is b in pieces of n bytes, with empty ones between them.
func inPieces(b []byte, n int) (m mem.BufferSlice) {
	for ; len(b) > 0; b = b[min(n, len(b)):] {
		m = append(m, mem.SliceBuffer(b[:min(n, len(b))]), mem.SliceBuffer(nil))
	}
	return m
}

func TestOpAMPHeader(t *testing.T) {
	v := readOpAMPVectors(t)
	for _, c := range v.Header {
		if n, err := ParseOpAMPHeader(c.Hex); n != c.Length || err != nil {
			t.Errorf("%s: a header of %d bytes (%v), want %d", c.Name, n, err, c.Length)
		}
	}
	for _, c := range v.HeaderRefuse {
		if n, err := ParseOpAMPHeader(c.Hex); err == nil || !strings.Contains(err.Error(), c.Error) {
			t.Errorf("%s: a header of %d bytes, %v, want the error %q", c.Name, n, err, c.Error)
		}
	}
}

// TestAgentToServer: the pieces that a message is in make no difference.
func TestAgentToServer(t *testing.T) {
	v := readOpAMPVectors(t)
	for _, size := range []int{1, 7, 1 << 10} {
		for _, c := range v.AgentToServer {
			want := AgentToServer{opampUID(t, c.UID), c.Disconnects}
			if a, err := ParseAgentToServer(inPieces(c.Hex, size)); a != want || err != nil {
				t.Errorf("%s, in pieces of %d bytes: %+v, %v, want %+v", c.Name, size, a, err, want)
			}
		}
		for _, c := range v.AgentToServerRefuse {
			a, err := ParseAgentToServer(inPieces(c.Hex, size))
			if err == nil || !strings.Contains(err.Error(), c.Error) || a != (AgentToServer{}) {
				t.Errorf("%s, in pieces of %d bytes: %+v, %v, want the error %q", c.Name, size, a, err, c.Error)
			}
		}
	}
}

func TestReplies(t *testing.T) {
	for _, c := range readOpAMPVectors(t).Replies {
		for _, size := range []int{1, 1 << 10} {
			want := ServerToAgent{opampUID(t, c.NewUID), c.Capabilities, c.SaysNothing}
			if got := ParseServerToAgent(inPieces(c.Hex, size)); got != want {
				t.Errorf("%s, in pieces of %d bytes: %+v, want %+v", c.Name, size, got, want)
			}
		}
	}
}

func TestServerToAgent(t *testing.T) {
	v := readOpAMPVectors(t)
	for _, c := range v.ServerToAgent {
		if got := AppendServerToAgent([]byte("x"), opampUID(t, c.UID)); !bytes.Equal(got, append([]byte("x"), c.Hex...)) {
			t.Errorf("%s: %x, want %x after an x", c.Name, got, c.Hex)
		}
	}
	for _, c := range v.Error {
		e := OpAMPError{c.Type, c.Message, time.Duration(c.Seconds) * time.Second}
		if got := e.AppendTo([]byte("x"), opampUID(t, c.UID)); !bytes.Equal(got, append([]byte("x"), c.Hex...)) {
			t.Errorf("%s: %x, want %x after an x", c.Name, got, c.Hex)
		}
	}
	broken := OpAMPError{Type: OpAMPBadRequest, Message: "\xff"}.AppendTo(nil, "")
	if err := proto.Unmarshal(broken, new(emptypb.Empty)); err != nil || !bytes.Contains(broken, []byte("\uFFFD")) {
		t.Errorf("an error whose text isn't UTF-8 became %x (%v)", broken, err)
	}
}

// FuzzParseOpAMPHeader: a message without a header begins with a field.
func FuzzParseOpAMPHeader(f *testing.F) {
	v := readOpAMPVectors(f)
	for _, c := range v.Header {
		f.Add([]byte(c.Hex))
	}
	for _, c := range v.HeaderRefuse {
		f.Add([]byte(c.Hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ParseOpAMPHeader(b)
		has := len(b) > 0 && b[0] == OpAMPHeader
		if n < 0 || n > len(b) || (n == 1) != has || has && err != nil {
			t.Errorf("%x has a header of %d bytes, %v", b, n, err)
		}
		if tag, size := protowire.ConsumeVarint(b); err == nil && !has && len(b) > 0 && (size < 0 || tag < 1<<3) {
			t.Errorf("%x passes for a message without a header", b)
		}
	})
}

// FuzzParseAgentToServer compares the reader with the protobuf library, and with itself
// on the same message in other pieces.
func FuzzParseAgentToServer(f *testing.F) {
	v := readOpAMPVectors(f)
	for _, c := range v.AgentToServer {
		f.Add([]byte(c.Hex), uint8(3))
	}
	for _, c := range v.AgentToServerRefuse {
		f.Add([]byte(c.Hex), uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		a, err := ParseAgentToServer(mem.BufferSlice{mem.SliceBuffer(b)})
		again, err2 := ParseAgentToServer(inPieces(b, int(size)+1))
		if a != again || (err == nil) != (err2 == nil) {
			t.Errorf("%x is %+v, %v, and in pieces %+v, %v", b, a, err, again, err2)
		}
		want, ok := agentByProtobuf(b)
		if ok != (err == nil) || ok && a != want {
			t.Errorf("%x is %+v, %v, and by the protobuf library %+v, %v", b, a, err, want, ok)
		}
	})
}

// agentByProtobuf reads an AgentToServer with the protobuf library. It refuses groups,
// which proto3 doesn't have.
func agentByProtobuf(b []byte) (a AgentToServer, ok bool) {
	if proto.Unmarshal(b, new(emptypb.Empty)) != nil {
		return a, false
	}
	for len(b) > 0 {
		f, kind, n := protowire.ConsumeTag(b)
		value, _ := protowire.ConsumeBytes(b[n:])
		switch {
		case kind == protowire.StartGroupType:
			return AgentToServer{}, false
		case kind != protowire.BytesType:
		case f == agentDisconnect:
			a.Disconnects = true
		case f == agentUID:
			if ok = len(value) == 16 || len(value) == 26 && !bytes.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }); !ok {
				return AgentToServer{}, false
			}
			a.UID = OpAMPUID(value)
		}
		b = b[n+protowire.ConsumeFieldValue(f, kind, b[n:]):]
	}
	return a, ok
}

// FuzzParseServerToAgent compares the reader with the protobuf library, and with itself on
// the same message in other pieces.
func FuzzParseServerToAgent(f *testing.F) {
	for _, c := range readOpAMPVectors(f).Replies {
		f.Add([]byte(c.Hex), uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		got := ParseServerToAgent(inPieces(b, 1<<20))
		if again := ParseServerToAgent(inPieces(b, int(size)+1)); got != again {
			t.Errorf("%x is %+v, and in pieces %+v", b, got, again)
		}
		if got == (ServerToAgent{}) {
			return
		}
		if proto.Unmarshal(b, new(emptypb.Empty)) != nil || !bytes.Contains(b, []byte(got.NewUID)) || got.SaysNothing && got.NewUID != "" {
			t.Errorf("%x is %+v", b, got)
		}
		var can uint64
		says := false
		for rest := b; len(rest) > 0; {
			number, kind, n := protowire.ConsumeTag(rest)
			value, _ := protowire.ConsumeVarint(rest[n:])
			switch {
			case number == 7 && kind == protowire.VarintType:
				can = value
			case number == 6 && kind == protowire.VarintType && value == 0, number == 1 && kind == protowire.BytesType:
			default:
				says = true
			}
			rest = rest[n+protowire.ConsumeFieldValue(number, kind, rest[n:]):]
		}
		if got.Capabilities != can || got.SaysNothing == says {
			t.Errorf("%x is %+v, and by the protobuf library it has the capabilities %d, and says something: %v", b, got, can, says)
		}
	})
}
