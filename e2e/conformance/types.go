package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// echoService has a method for each type.
const echoService = "culvert.conformance.Echo"

// messageTypes are the types of protobuf's conformance tests.
type messageTypes struct{ files *protoregistry.Files }

// GetServiceInfo implements reflection.ServiceInfoProvider.
func (*messageTypes) GetServiceInfo() map[string]grpc.ServiceInfo {
	return map[string]grpc.ServiceInfo{echoService: {}}
}

func (m *messageTypes) reflect(s *grpc.Server) {
	reflectionpb.RegisterServerReflectionServer(s, reflection.NewServerV1(reflection.ServerOptions{
		Services: m, DescriptorResolver: m.files,
	}))
}

// conformanceTypes reads the types from the generated code in protobuf's Go module at a
// directory: its packages are internal.
func conformanceTypes(module string) (*messageTypes, error) {
	var tested []*descriptorpb.FileDescriptorProto
	for _, pattern := range []string{"test_messages_proto[23].pb.go", "editions/*.pb.go", "editionsmigration/*.pb.go"} {
		names, err := filepath.Glob(filepath.Join(module, "internal/testprotos/conformance", pattern))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			file, err := generatedFile(name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			for _, m := range file.GetMessageType() {
				for _, nested := range m.GetNestedType() {
					withoutMessageSet(nested)
				}
			}
			tested = append(tested, file)
		}
	}
	files, err := protodesc.NewFiles(&descriptorpb.FileDescriptorSet{File: append(append(knownFiles(), tested...), echoFile(tested))})
	return &messageTypes{files}, err
}

// knownFiles have the well-known types.
func knownFiles() (files []*descriptorpb.FileDescriptorProto) {
	for _, known := range []proto.Message{&anypb.Any{}, &durationpb.Duration{}, &emptypb.Empty{}, &fieldmaskpb.FieldMask{}, &structpb.Struct{}, &timestamppb.Timestamp{}, &wrapperspb.BoolValue{}} {
		files = append(files, protodesc.ToFileDescriptorProto(known.ProtoReflect().Descriptor().ParentFile()))
	}
	return files
}

// withoutMessageSet makes an ordinary type of a MessageSet, which protobuf's Go module
// doesn't support.
func withoutMessageSet(m *descriptorpb.DescriptorProto) {
	if !m.GetOptions().GetMessageSetWireFormat() {
		return
	}
	m.Options = nil
	for _, r := range m.GetExtensionRange() {
		r.End = proto.Int32(1 << 29)
	}
}

// echoFile has a method for each type whose name begins with TestAllTypes.
func echoFile(tested []*descriptorpb.FileDescriptorProto) *descriptorpb.FileDescriptorProto {
	pkg, name := echoService[:strings.LastIndexByte(echoService, '.')], echoService[strings.LastIndexByte(echoService, '.')+1:]
	service := &descriptorpb.ServiceDescriptorProto{Name: &name}
	file := &descriptorpb.FileDescriptorProto{Name: proto.String("echo.proto"), Syntax: proto.String("proto3"), Package: &pkg, Service: []*descriptorpb.ServiceDescriptorProto{service}}
	for _, f := range tested {
		file.Dependency = append(file.Dependency, f.GetName())
		for _, m := range f.GetMessageType() {
			if kind := f.GetPackage() + "." + m.GetName(); strings.HasPrefix(m.GetName(), "TestAllTypes") {
				_, method, _ := strings.Cut(methodOf(kind)[1:], "/")
				service.Method = append(service.Method, &descriptorpb.MethodDescriptorProto{Name: &method, InputType: proto.String("." + kind), OutputType: proto.String("." + kind)})
			}
		}
	}
	return file
}

// generatedFile returns the descriptor in a file of generated code: the constant, or the
// variable of older code, whose name ends with _rawDesc.
func generatedFile(name string) (*descriptorpb.FileDescriptorProto, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var raw []byte
	ast.Inspect(parsed, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && strings.HasSuffix(v.Names[0].Name, "_rawDesc") {
			raw, err = literal(v.Values[0])
		}
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	file := &descriptorpb.FileDescriptorProto{}
	return file, proto.Unmarshal(raw, file)
}

// literal returns the bytes of an expression of strings, or of a slice of bytes.
func literal(e ast.Expr) (raw []byte, err error) {
	ast.Inspect(e, func(n ast.Node) bool {
		l, ok := n.(*ast.BasicLit)
		switch {
		case !ok || err != nil:
		case l.Kind == token.STRING:
			var part string
			part, err = strconv.Unquote(l.Value)
			raw = append(raw, part...)
		default:
			var b uint64
			b, err = strconv.ParseUint(l.Value, 0, 8)
			raw = append(raw, byte(b))
		}
		return true
	})
	return raw, err
}

// writeDescriptors writes the descriptors of the suite's service, and of ClientCompatRequest, into a file. They are in
// the suite's Go module at a directory.
func writeDescriptors(module, name string) error {
	set := &descriptorpb.FileDescriptorSet{File: knownFiles()}
	for _, generated := range []string{"config", "service", "client_compat"} {
		file, err := generatedFile(filepath.Join(module, "internal/gen/proto/go/connectrpc/conformance/v1", generated+".pb.go"))
		if err != nil {
			return err
		}
		set.File = append(set.File, file)
	}
	data, err := proto.Marshal(set)
	if err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o600)
}
