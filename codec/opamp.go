package codec

import (
	"encoding/binary"
	"encoding/hex"
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

// An OpAMPUID is the instance_uid of an agent.
type OpAMPUID [16]byte

// String returns the UUID's usual form, as in the header OpAMP-Instance-UID. RFC 4122 §3.
func (u OpAMPUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// ParseOpAMPUID reads the form that String returns, in either case.
func ParseOpAMPUID(s string) (u OpAMPUID, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || copy(u[:], b) < len(u) || !strings.EqualFold(u.String(), s) {
		return OpAMPUID{}, errors.New("an instance id isn't a UUID in its usual form")
	}
	return u, nil
}

// The fields of OpAMP's messages that culvert reads or writes.
// https://github.com/open-telemetry/opamp-spec/blob/main/proto/opamp.proto
const (
	agentUID         protowire.Number = 1 // AgentToServer.instance_uid
	agentDisconnect  protowire.Number = 9 // AgentToServer.agent_disconnect
	serverUID        protowire.Number = 1 // ServerToAgent.instance_uid
	serverError      protowire.Number = 2 // ServerToAgent.error_response
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
	known := false
	err = eachField(r, m.Len(), func(f protowire.Number, size int) (bool, error) {
		switch {
		case f == agentDisconnect:
			a.Disconnects = true
		case f == agentUID && size != len(a.UID):
			return false, fmt.Errorf("the instance_uid has %d bytes, and must have %d", size, len(a.UID))
		case f == agentUID:
			known = true
			_, err := io.ReadFull(r, a.UID[:])
			return true, err
		}
		return false, nil
	})
	if err == nil && !known {
		err = errors.New("it has no instance_uid")
	}
	if err != nil {
		return AgentToServer{}, fmt.Errorf("the message isn't an AgentToServer: %w", err)
	}
	return a, nil
}

// NewOpAMPUID returns the instance_uid that a ServerToAgent gives its agent, if it does.
// A malformed message gives none: the agent won't be able to read it either.
func NewOpAMPUID(m mem.BufferSlice) (u OpAMPUID, given bool) {
	r := m.Reader()
	defer r.Close()
	err := eachField(r, m.Len(), func(f protowire.Number, size int) (bool, error) {
		if f != serverNames {
			return false, nil
		}
		return true, eachField(r, size, func(f protowire.Number, size int) (bool, error) {
			if f != newUID || size != len(u) {
				return false, nil
			}
			given = true
			_, err := io.ReadFull(r, u[:])
			return true, err
		})
	})
	return u, given && err == nil
}

// errFieldCut means that a message ends inside a field.
var errFieldCut = errors.New("it ends inside a field")

// eachField calls read for each field of length-prefixed type in the next size bytes of
// r. read returns true if it has read the field's value, which has this many bytes;
// otherwise eachField skips the value.
func eachField(r *mem.Reader, size int, read func(f protowire.Number, size int) (bool, error)) error {
	end := r.Remaining() - size
	for r.Remaining() > end {
		tag, err := binary.ReadUvarint(r)
		if err != nil {
			return errFieldCut
		}
		f, kind := protowire.DecodeTag(tag)
		if f < protowire.MinValidNumber || f > protowire.MaxValidNumber {
			return errors.New("a field has a number that can't be")
		}
		n, err := valueSize(r, kind)
		if err != nil {
			return err
		}
		if n > r.Remaining()-end {
			return errFieldCut
		}
		if kind == protowire.BytesType {
			if taken, err := read(f, n); err != nil || taken {
				if err != nil {
					return err
				}
				continue
			}
		}
		_, _ = r.Discard(n) // there are n bytes
	}
	return nil
}

// valueSize reads up to a field's value, and returns the value's length. It reads the
// whole value of a varint.
func valueSize(r *mem.Reader, kind protowire.Type) (int, error) {
	switch kind {
	case protowire.VarintType:
		if _, err := binary.ReadUvarint(r); err != nil {
			return 0, errFieldCut
		}
		return 0, nil
	case protowire.Fixed32Type:
		return 4, nil
	case protowire.Fixed64Type:
		return 8, nil
	case protowire.BytesType:
		n, err := binary.ReadUvarint(r)
		if err != nil || n > uint64(r.Remaining()) {
			return 0, errFieldCut
		}
		return int(n), nil
	default: // proto3 has no groups
		return 0, errors.New("a field has a type that can't be")
	}
}

// AppendServerToAgent appends a ServerToAgent that has nothing to say.
func AppendServerToAgent(b []byte, u OpAMPUID) []byte {
	b = protowire.AppendTag(b, serverUID, protowire.BytesType)
	return protowire.AppendBytes(b, u[:])
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

// AppendTo appends the ServerToAgent with the error. A zero u is left out: the agent
// hasn't said its own yet.
func (e OpAMPError) AppendTo(b []byte, u OpAMPUID) []byte {
	if u != (OpAMPUID{}) {
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
