package bridgetest

import (
	"encoding/json"
	"strings"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/descriptor"
)

// A framing is how bare messages are in those of a WebSocket, or in requests and answers.
type framing struct {
	name   string                // as in the configuration
	kind   websocket.MessageType // 0: there is no WebSocket
	encode func(message []byte) []byte
	decode func(b []byte) ([]byte, error)
	// described reports that culvert converts messages, so that the bytes of a
	// scenario's message are a field of those that the backend gets.
	described bool
}

// protobufFraming is a message of the method in each binary one.
var protobufFraming = &framing{
	name:   bridge.FramingProtobuf,
	kind:   websocket.MessageBinary,
	encode: func(message []byte) []byte { return message },
	decode: func(b []byte) ([]byte, error) { return b, nil },
}

// jsonFraming is the JSON of a message in each text.
var jsonFraming = &framing{
	name:      bridge.FramingJSON,
	kind:      websocket.MessageText,
	described: true,
	encode: func(message []byte) []byte {
		b, _ := json.Marshal(jsonMessage{message}) // bytes can't fail
		return b
	},
	decode: func(b []byte) ([]byte, error) {
		var m jsonMessage
		err := strictly(b, &m)
		return m.Data, err
	},
}

// The JSON of one request in a POST, and of replies in lines, in events, or of the only
// one.
var (
	lineFraming  = &framing{name: bridge.FramingNDJSON, described: true}
	eventFraming = &framing{name: bridge.FramingSSE, described: true}
	postFraming  = &framing{name: bridge.FramingJSON, described: true}
)

// pollFraming is an agent's message in a POST, and the answer to it.
var pollFraming = &framing{name: bridge.FramingOpAMP}

// A jsonMessage is the JSON of the message that the methods have.
type jsonMessage struct {
	Data []byte `json:"data"`
}

// agentFraming has OpAMP's header before each message. An agent has no half-close, and
// gets the end as a message that it can't tell from others but by its fields.
var agentFraming = &framing{
	name:   bridge.FramingOpAMP,
	kind:   websocket.MessageBinary,
	encode: func(message []byte) []byte { return append([]byte{0}, message...) },
	decode: func(b []byte) ([]byte, error) {
		if len(b) == 0 || b[0] != 0 {
			return nil, violation("a message without OpAMP's header: %.20x", b)
		}
		return b[1:], nil
	},
}

// halfCloseText is the text message that ends a request.
const halfCloseText = "that's all"

// configure adds the one route of a client, whose paths are those of calls, and what
// culvert must know of the methods.
func (f *framing) configure(c *bridge.Config) {
	if f == valueFraming { // no framing of culvert's
		c.AllowOrigins = []string{"http://127.0.0.1:*"} // if it is a page
		return
	}
	m := &bridge.MessageRoute{Path: "/{service}/{method}", Framing: f.name, LastStatus: true}
	switch {
	case f.name == bridge.FramingOpAMP:
		method := strings.TrimPrefix(defaultMethod, "/")
		m = &bridge.MessageRoute{Path: defaultMethod, Framing: f.name, Method: method, PollMethod: method}
	case f.kind != 0:
		m.HalfClose = halfCloseText
	}
	c.Routes = []bridge.Route{{Name: "messages", Backend: bridge.DefaultBackend, Message: m}}
	if f.described {
		c.Backend.Descriptors = describedMethods{}
	}
}

// received returns the bytes of a message that a backend gets.
func (f *framing) received(message []byte) []byte {
	switch {
	case f == pollFraming:
		return untyped(message[len(ofAgent(nil)):])
	case f != nil && f.described:
		return untyped(message)
	}
	return message
}

// replied returns the message that a backend sends.
func (f *framing) replied(b []byte) []byte {
	if f != nil && f.described {
		return typed(b)
	}
	return b
}

// sizes returns how many bytes a message has at the backend, as a request and as a reply.
func (f *framing) sizes(b []byte) (request, reply int64) {
	request, reply = int64(len(b)), int64(len(f.replied(b)))
	if f == pollFraming {
		return int64(len(ofAgent(b))), reply
	}
	return max(request, reply), reply
}

// ofAgent returns an agent's message: its instance_uid, and the bytes in a field that
// OpAMP doesn't have.
func ofAgent(b []byte) []byte {
	message := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte("an instance's id"))
	if len(b) == 0 {
		return message
	}
	return protowire.AppendBytes(protowire.AppendTag(message, 1000, protowire.BytesType), b)
}

// typed returns the message of a method that has the bytes in its field.
func typed(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), b)
}

// untyped returns the bytes that typed has put into a message.
func untyped(message []byte) []byte {
	_, _, n := protowire.ConsumeTag(message)
	if n < 0 {
		return nil // it is empty
	}
	b, _ := protowire.ConsumeBytes(message[n:])
	return b
}

// describedMethods are the descriptors of the methods that scenarios call.
type describedMethods struct{}

// Descriptors implements report.DescriptorSource.
func (describedMethods) Descriptors() report.Descriptors { return methodSet }

var methodSet = func() *descriptor.Set {
	var files []*descriptorpb.FileDescriptorProto
	for pkg, service := range map[string]*descriptorpb.ServiceDescriptorProto{
		"culvert.test":     describedService("Scenario", "Call", "Denied"),
		"grpc.channelz.v1": describedService("Channelz", "GetServers"),
	} {
		files = append(files, &descriptorpb.FileDescriptorProto{
			Name: proto.String(pkg + ".proto"), Package: &pkg, Syntax: proto.String("proto3"),
			Dependency: []string{"message.proto"}, Service: []*descriptorpb.ServiceDescriptorProto{service},
		})
	}
	files = append(files, &descriptorpb.FileDescriptorProto{
		Name: proto.String("message.proto"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Message"), Field: []*descriptorpb.FieldDescriptorProto{{
			Name: proto.String("data"), JsonName: proto.String("data"), Number: proto.Int32(1),
			Type: descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}}}},
	})
	b, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: files})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	set, err := descriptor.Parse(b)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return set
}()

// describedService has methods that stream both ways.
func describedService(name string, methods ...string) *descriptorpb.ServiceDescriptorProto {
	s := &descriptorpb.ServiceDescriptorProto{Name: &name}
	for _, m := range methods {
		s.Method = append(s.Method, &descriptorpb.MethodDescriptorProto{
			Name: &m, InputType: proto.String(".Message"), OutputType: proto.String(".Message"),
			ClientStreaming: proto.Bool(true), ServerStreaming: proto.Bool(true),
		})
	}
	return s
}
