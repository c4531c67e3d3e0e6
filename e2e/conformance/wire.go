package main

import (
	"encoding/binary"
	"io"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of the suite's messages that this program reads or writes. Their Go
// types are internal to the suite's module. See connectrpc/conformance/v1 there:
// server_compat.proto, client_compat.proto and config.proto.
const (
	serverProtocol     = 1 // of ServerCompatRequest
	serverHTTPVersion  = 2
	serverClientCert   = 5
	serverReceiveLimit = 6
	serverCredentials  = 7

	credentialsCert = 1 // of TLSCreds
	credentialsKey  = 2

	answerHost = 1 // of ServerCompatResponse
	answerPort = 2
	answerCert = 3

	clientHTTPVersion = 2 // of ClientCompatRequest
	clientProtocol    = 3
	clientHost        = 6
	clientPort        = 7
	clientServerCert  = 8
	clientCredentials = 9
)

// protocols are the values of the enum Protocol.
var protocols = map[string]uint64{"connect": 1, "grpc": 2, "grpc-web": 3}

// A field is one field of a protobuf message, as it is on the wire.
type field struct {
	number protowire.Number
	raw    []byte // with its tag
	value  []byte // of a field that has a length
	varint uint64
}

// fields are a message. A message that is changed keeps the fields that this program
// doesn't know.
type fields []field

func parse(message []byte) (fields, error) {
	var all fields
	for len(message) > 0 {
		number, kind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return nil, protowire.ParseError(tag)
		}
		size := protowire.ConsumeFieldValue(number, kind, message[tag:])
		if size < 0 {
			return nil, protowire.ParseError(size)
		}
		f := field{number: number, raw: message[:tag+size]}
		switch kind {
		case protowire.BytesType:
			f.value, _ = protowire.ConsumeBytes(message[tag:])
		case protowire.VarintType:
			f.varint, _ = protowire.ConsumeVarint(message[tag:])
		}
		all = append(all, f)
		message = message[tag+size:]
	}
	return all, nil
}

func (all fields) encode() []byte {
	var message []byte
	for _, f := range all {
		message = append(message, f.raw...)
	}
	return message
}

func (all fields) bytes(number protowire.Number) []byte  { return all.find(number).value }
func (all fields) number(number protowire.Number) uint64 { return all.find(number).varint }
func (all fields) without(number protowire.Number) fields {
	return slices.DeleteFunc(slices.Clone(all), func(f field) bool { return f.number == number })
}

func (all fields) find(number protowire.Number) field {
	for _, f := range slices.Backward(all) {
		if f.number == number {
			return f
		}
	}
	return field{}
}

func (all fields) setBytes(number protowire.Number, value []byte) fields {
	raw := protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), value)
	return append(all.without(number), field{number: number, raw: raw, value: value})
}

func (all fields) setNumber(number protowire.Number, value uint64) fields {
	raw := protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), value)
	return append(all.without(number), field{number: number, raw: raw, varint: value})
}

// readMessage reads a message with its length before it, as the suite's programs
// exchange them.
func readMessage(r io.Reader) (fields, error) { return readSized(r, binary.BigEndian) }

func writeMessage(w io.Writer, message fields) error { return writeSized(w, binary.BigEndian, message) }

func readSized(r io.Reader, order binary.ByteOrder) (fields, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	message := make([]byte, order.Uint32(size[:]))
	if _, err := io.ReadFull(r, message); err != nil {
		return nil, err
	}
	return parse(message)
}

func writeSized(w io.Writer, order binary.AppendByteOrder, message fields) error {
	raw := message.encode()
	_, err := w.Write(append(order.AppendUint32(nil, uint32(len(raw))), raw...))
	return err
}
