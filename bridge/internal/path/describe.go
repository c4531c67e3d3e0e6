package path

import (
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/descriptor"
)

// described is the report.DescriptorSource of the service, so that messages in JSON can be
// converted without server reflection.
type described struct{}

func (described) Descriptors() report.Descriptors { return set() }

var set = sync.OnceValue(func() *descriptor.Set {
	const bytesValue = ".google.protobuf.BytesValue"
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("culvert/v1/path.proto"), Package: proto.String("culvert.v1"), Syntax: proto.String("proto3"),
		Dependency: []string{"google/protobuf/empty.proto", "google/protobuf/struct.proto", "google/protobuf/wrappers.proto"},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Path"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: proto.String("Echo"), InputType: proto.String(bytesValue), OutputType: proto.String(bytesValue), ClientStreaming: proto.Bool(true), ServerStreaming: proto.Bool(true)},
			{Name: proto.String("Ticks"), InputType: proto.String(".google.protobuf.Empty"), OutputType: proto.String(".google.protobuf.Empty"), ServerStreaming: proto.Bool(true)},
			{Name: proto.String("Report"), InputType: proto.String(".google.protobuf.Empty"), OutputType: proto.String(".google.protobuf.Struct")},
		}}},
	}
	session := &descriptorpb.FileDescriptorProto{
		Name: proto.String("culvert/v1/session.proto"), Package: proto.String("culvert.v1"), Syntax: proto.String("proto3"),
		Dependency: []string{"google/protobuf/empty.proto"},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Session"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: proto.String("Refresh"), InputType: proto.String(".google.protobuf.Empty"), OutputType: proto.String(".google.protobuf.Empty")},
		}}},
	}
	bytes, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{file, session}})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	parsed, err := descriptor.Parse(bytes)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return parsed
})
