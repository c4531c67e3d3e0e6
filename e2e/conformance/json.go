package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/culvert-grpc/culvert/e2e/bare"
)

// The fields of protobuf's conformance/conformance.proto.
const (
	askProtobuf = 1 // of ConformanceRequest: the payload
	askJSON     = 2
	askFormat   = 3
	askType     = 4

	saidParseError     = 1 // of ConformanceResponse
	saidRuntimeError   = 2
	saidProtobuf       = 3
	saidJSON           = 4
	saidSkipped        = 5
	saidSerializeError = 6
)

// The values of WireFormat.
const (
	formatProtobuf = 1
	formatJSON     = 2
)

// convertJSON answers the runner of protobuf's own conformance tests. culvert converts
// the messages: a Connect client sends JSON, or a backend replies with protobuf.
func convertJSON(ctx context.Context, c culvert, module string) error {
	types, err := conformanceTypes(module)
	if err != nil {
		return err
	}
	b, address, err := types.serve(ctx)
	if err != nil {
		return err
	}
	defer b.server.Stop()
	listening, err := c.start(ctx, address)
	if err != nil {
		return err
	}
	for {
		ask, err := readSized(os.Stdin, binary.LittleEndian)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		said, err := b.answer(ctx, listening, ask)
		if err != nil {
			said = fields{}.setBytes(saidRuntimeError, []byte(err.Error()))
		}
		if err := writeSized(os.Stdout, binary.LittleEndian, said); err != nil {
			return err
		}
	}
}

// An echo is a gRPC server of methods whose requests and replies are any messages.
type echo struct {
	server *grpc.Server
	types  *messageTypes
	got    []byte // by the last call
	reply  []byte // of the next call; nil: what it got
}

// answer makes the call for one test.
func (b *echo) answer(ctx context.Context, culvert *net.TCPAddr, ask fields) (fields, error) {
	format, kind := ask.number(askFormat), string(ask.bytes(askType))
	text, wire := ask.find(askJSON), ask.find(askProtobuf)
	of := b.types.find(kind)
	switch {
	case of == nil:
		return nil, fmt.Errorf("no type %q", kind)
	case text.number != 0 && (format == formatProtobuf || format == formatJSON):
		b.reply = nil
	case wire.number != 0 && format == formatJSON:
		b.reply, text.value = append([]byte{}, wire.value...), []byte("{}")
	default:
		return fields{}.setBytes(saidSkipped, []byte("neither from JSON nor to JSON")), nil
	}
	b.got = nil
	status, body, err := post(ctx, fmt.Sprintf("http://%s%s", culvert, methodOf(kind)), text.value)
	if err != nil {
		return nil, err
	}
	switch {
	case status == http.StatusOK && format == formatProtobuf:
		return fields{}.setBytes(saidProtobuf, b.got), nil
	case status == http.StatusOK:
		return fields{}.setBytes(saidJSON, body), nil
	case code(body) == "invalid_argument":
		return fields{}.setBytes(saidParseError, body), nil
	case !strings.Contains(string(body), "can't be converted to JSON") && !strings.Contains(string(body), "can't be written as the JSON"):
		return nil, fmt.Errorf("%d: %s", status, body)
	// The tests have one status for replies that are no messages and one for those that have
	// no JSON. A string that isn't UTF-8 belongs to the first there, and to the second here.
	case proto.Unmarshal(b.got, dynamicpb.NewMessage(of)) == nil && proto.Unmarshal(b.reply, dynamicpb.NewMessage(of)) == nil:
		return fields{}.setBytes(saidSerializeError, body), nil
	default:
		return fields{}.setBytes(saidParseError, body), nil
	}
}

// post calls a method by Connect.
func post(ctx context.Context, url string, text []byte) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// code returns the code of a Connect error.
func code(body []byte) string {
	var e struct{ Code string }
	if json.Unmarshal(body, &e) != nil {
		return ""
	}
	return e.Code
}

// handle serves any method.
func (b *echo) handle(_ any, ss grpc.ServerStream) error {
	var m mem.BufferSlice
	if err := ss.RecvMsg(&m); err != nil {
		return err
	}
	b.got = m.Materialize()
	reply := b.reply
	if reply == nil {
		reply = b.got
	}
	return ss.SendMsg(mem.BufferSlice{mem.SliceBuffer(reply)})
}

// methodOf is the path of the method whose messages are of a type.
func methodOf(kind string) string {
	return "/" + echoService + "/" + strings.ReplaceAll(kind, ".", "_")
}

// serve starts the server. Its reflection knows the types.
func (m *messageTypes) serve(ctx context.Context) (*echo, string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	b := &echo{types: m}
	b.server = grpc.NewServer(grpc.ForceServerCodecV2(bare.Codec{}), grpc.UnknownServiceHandler(b.handle))
	m.reflect(b.server)
	go func() { _ = b.server.Serve(listener) }() // ends with Stop
	return b, listener.Addr().String(), nil
}

func (m *messageTypes) find(kind string) protoreflect.MessageDescriptor {
	found, err := m.files.FindDescriptorByName(protoreflect.FullName(kind))
	if err != nil {
		return nil
	}
	of, _ := found.(protoreflect.MessageDescriptor)
	return of
}
