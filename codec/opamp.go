package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// OpAMPHeader is the header before each WebSocket message of OpAMP: the varint 0. All
// other headers are reserved.
// https://opentelemetry.io/docs/specs/opamp/#websocket-message-format
const OpAMPHeader byte = 0

// ParseOpAMPHeader returns the length of the header at the beginning of a WebSocket
// message: 1, or 0 for a client from before OpAMP had headers. b is the message, or at
// least its first 10 bytes. Such a client's message begins with a field, whose number is
// never 0, so the other small headers can be told from it.
func ParseOpAMPHeader(b []byte) (n int, err error) {
	if len(b) > 0 && b[0] == OpAMPHeader {
		return 1, nil
	}
	header, size := binary.Uvarint(b)
	switch {
	case len(b) == 0:
		return 0, nil // an empty message
	case size <= 0:
		return 0, errors.New("the header is cut off, or longer than 64 bits")
	case header < 1<<3: // the field number 0
		return 0, fmt.Errorf("the header is %d, and OpAMP has only the header 0", header)
	}
	return 0, nil
}

// An OpAMPUID is the instance_uid of an agent, as it stands in messages: 16 bytes, or the
// 26 letters of a ULID, as in OpAMP before 0.9. Empty: none.
// https://github.com/open-telemetry/opamp-spec/pull/186
type OpAMPUID string

// The lengths of an instance_uid.
const (
	uuidBytes = 16
	ulidBytes = 26
)

// String returns a UUID's usual form, as in the header OpAMP-Instance-UID, or the letters
// of a ULID. RFC 4122 §3.
func (u OpAMPUID) String() string {
	if len(u) != uuidBytes {
		return string(u)
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", string(u[:4]), string(u[4:6]), string(u[6:8]), string(u[8:10]), string(u[10:]))
}

// readOpAMPUID reads an id of this many bytes.
func readOpAMPUID(r io.Reader, size int) (OpAMPUID, error) {
	var b [ulidBytes]byte
	if size != uuidBytes && size != ulidBytes {
		return "", fmt.Errorf("the instance_uid has %d bytes, and must have %d, or the %d of a ULID", size, uuidBytes, ulidBytes)
	}
	if _, err := io.ReadFull(r, b[:size]); err != nil {
		return "", err
	}
	for _, c := range b[:size] {
		if size == ulidBytes && (c <= ' ' || c > '~') {
			return "", fmt.Errorf("the instance_uid of %d bytes isn't a ULID: it has the byte %#02x", ulidBytes, c)
		}
	}
	return OpAMPUID(b[:size]), nil
}

// The fields of OpAMP's messages that culvert reads or writes.
// https://github.com/open-telemetry/opamp-spec/blob/main/proto/opamp.proto
const (
	agentUID         protowire.Number = 1 // AgentToServer.instance_uid
	agentDisconnect  protowire.Number = 9 // AgentToServer.agent_disconnect
	serverUID        protowire.Number = 1 // ServerToAgent.instance_uid
	serverError      protowire.Number = 2 // ServerToAgent.error_response
	serverFlags      protowire.Number = 6 // ServerToAgent.flags
	serverCan        protowire.Number = 7 // ServerToAgent.capabilities
	serverNames      protowire.Number = 8 // ServerToAgent.agent_identification
	newUID           protowire.Number = 1 // AgentIdentification.new_instance_uid
	errorType        protowire.Number = 1 // ServerErrorResponse.type
	errorMessage     protowire.Number = 2 // ServerErrorResponse.error_message
	errorRetry       protowire.Number = 3 // ServerErrorResponse.retry_info
	retryNanoseconds protowire.Number = 1 // RetryInfo.retry_after_nanoseconds
)

// An AgentToServer is what culvert knows of an agent's message.
type AgentToServer struct {
	UID         OpAMPUID
	Disconnects bool // it is the agent's last message
}

// ParseAgentToServer reads an AgentToServer. It looks at the outermost fields alone, so
// that it neither copies the message nor decodes the rest.
func ParseAgentToServer(m mem.BufferSlice) (a AgentToServer, err error) {
	r := m.Reader()
	defer r.Close()
	err = eachField(r, m.Len(), func(f protoField) (bool, error) {
		switch {
		case f.is(agentDisconnect, protowire.BytesType):
			a.Disconnects = true
		case f.is(agentUID, protowire.BytesType):
			var err error
			a.UID, err = readOpAMPUID(r, f.size)
			return true, err
		}
		return false, nil
	})
	if err == nil && a.UID == "" {
		err = errors.New("it has no instance_uid")
	}
	if err != nil {
		return AgentToServer{}, fmt.Errorf("the message isn't an AgentToServer: %w", err)
	}
	return a, nil
}

// A ServerToAgent is what culvert knows of a server's message.
type ServerToAgent struct {
	NewUID       OpAMPUID // the instance_uid that it gives its agent; empty: none
	Capabilities uint64   // of the server; 0: not given
	SaysNothing  bool     // it has nothing but an instance_uid, capabilities, and flags that aren't set
}

// ParseServerToAgent reads a ServerToAgent, its outermost fields alone. A malformed message
// is the zero value: the agent won't be able to read it either.
func ParseServerToAgent(m mem.BufferSlice) ServerToAgent {
	r := m.Reader()
	defer r.Close()
	s := ServerToAgent{SaysNothing: true}
	err := eachField(r, m.Len(), func(f protoField) (bool, error) {
		switch {
		case f.is(serverUID, protowire.BytesType):
		case f.is(serverCan, protowire.VarintType):
			s.Capabilities = f.value
		case f.is(serverFlags, protowire.VarintType) && f.value == 0:
		case f.is(serverNames, protowire.BytesType):
			s.SaysNothing = false
			return true, eachField(r, f.size, func(f protoField) (taken bool, err error) {
				if taken = f.is(newUID, protowire.BytesType); taken {
					s.NewUID, err = readOpAMPUID(r, f.size)
				}
				return taken, err
			})
		default:
			s.SaysNothing = false
		}
		return false, nil
	})
	if err != nil {
		return ServerToAgent{}
	}
	return s
}

// errFieldCut means that a message ends inside a field.
var errFieldCut = errors.New("it ends inside a field")

// A protoField is a field of a message. The reader stands before the size bytes of its value.
type protoField struct {
	number protowire.Number
	kind   protowire.Type
	value  uint64 // of a varint, whose size is 0
	size   int
}

func (f protoField) is(n protowire.Number, kind protowire.Type) bool {
	return f.number == n && f.kind == kind
}

// eachField calls read for each field in the next size bytes of r. read returns true if it
// has read the field's value; otherwise eachField skips the value.
func eachField(r *mem.Reader, size int, read func(f protoField) (bool, error)) error {
	end := r.Remaining() - size
	for r.Remaining() > end {
		f, err := nextField(r)
		if err != nil {
			return err
		}
		if f.size > r.Remaining()-end {
			return errFieldCut
		}
		taken, err := read(f)
		if err != nil {
			return err
		}
		if !taken {
			_, _ = r.Discard(f.size) // there are so many bytes
		}
	}
	return nil
}

// nextField reads up to a field's value, and the whole value of a varint.
func nextField(r *mem.Reader) (f protoField, err error) {
	tag, err := binary.ReadUvarint(r)
	if err != nil {
		return protoField{}, errFieldCut
	}
	f.number, f.kind = protowire.DecodeTag(tag)
	if f.number < protowire.MinValidNumber || f.number > protowire.MaxValidNumber {
		return protoField{}, errors.New("a field has a number that can't be")
	}
	switch f.kind {
	case protowire.VarintType:
		if f.value, err = binary.ReadUvarint(r); err != nil {
			return protoField{}, errFieldCut
		}
	case protowire.Fixed32Type:
		f.size = 4
	case protowire.Fixed64Type:
		f.size = 8
	case protowire.BytesType:
		n, err := binary.ReadUvarint(r)
		if err != nil || n > uint64(r.Remaining()) {
			return protoField{}, errFieldCut
		}
		f.size = int(n)
	default: // proto3 has no groups
		return protoField{}, errors.New("a field has a type that can't be")
	}
	return f, nil
}

// AppendServerToAgent appends a ServerToAgent that has nothing to say.
func AppendServerToAgent(b []byte, u OpAMPUID) []byte {
	b = protowire.AppendTag(b, serverUID, protowire.BytesType)
	return protowire.AppendString(b, string(u))
}

// An OpAMPError is the error_response of a ServerToAgent.
// https://opentelemetry.io/docs/specs/opamp/#servererrorresponse-message
type OpAMPError struct {
	Type    OpAMPErrorType
	Message string
	Retry   time.Duration // after which the agent may try again; 0: not given
}

// An OpAMPErrorType says whose fault it is.
type OpAMPErrorType uint64

// The types of errors.
const (
	OpAMPUnknown     OpAMPErrorType = 0
	OpAMPBadRequest  OpAMPErrorType = 1
	OpAMPUnavailable OpAMPErrorType = 2
)

// AppendTo appends the ServerToAgent with the error. An empty u is left out: the agent
// hasn't said its own yet.
func (e OpAMPError) AppendTo(b []byte, u OpAMPUID) []byte {
	if u != "" {
		b = AppendServerToAgent(b, u)
	}
	var inner []byte
	if e.Type != OpAMPUnknown {
		inner = protowire.AppendTag(inner, errorType, protowire.VarintType)
		inner = protowire.AppendVarint(inner, uint64(e.Type))
	}
	if e.Message != "" {
		inner = protowire.AppendTag(inner, errorMessage, protowire.BytesType)
		inner = protowire.AppendString(inner, strings.ToValidUTF8(e.Message, "\uFFFD"))
	}
	if e.Retry > 0 {
		var retry []byte
		retry = protowire.AppendTag(retry, retryNanoseconds, protowire.VarintType)
		retry = protowire.AppendVarint(retry, uint64(e.Retry))
		inner = protowire.AppendTag(inner, errorRetry, protowire.BytesType)
		inner = protowire.AppendBytes(inner, retry)
	}
	b = protowire.AppendTag(b, serverError, protowire.BytesType)
	return protowire.AppendBytes(b, inner)
}
