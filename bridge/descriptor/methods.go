package descriptor

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// A Set is what a set of descriptors says. Several goroutines may use it.
type Set struct {
	files *protoregistry.Files
	types *dynamicpb.Types
	size  int

	boxing sync.Map // by name of a message's type: what boxes has found
}

// Size returns how many bytes the descriptors have in their wire form. Of nil it is 0.
func (s *Set) Size() int {
	if s == nil {
		return 0
	}
	return s.size
}

// A Method is one method of a Set.
type Method struct {
	Request, Reply Message

	ClientStreams, ServerStreams bool

	// NoSideEffects reports that the method's definition says so (idempotency_level).
	NoSideEffects bool
}

// A Message is a type of messages.
type Message struct {
	descriptor protoreflect.MessageDescriptor
	set        *Set // for Any, and for extensions
}

// Name returns the full name of the type: "shop.v1.Order".
func (m Message) Name() string { return string(m.descriptor.FullName()) }

// ErrUnknown reports that a Set has no such method.
var ErrUnknown = errors.New("the descriptors don't have it")

// newSet links the files, each of which may come before those that it imports. Files
// of the same name count once.
func newSet(files []*descriptorpb.FileDescriptorProto) (*Set, error) {
	byName := make(map[string]*descriptorpb.FileDescriptorProto, len(files))
	all := &descriptorpb.FileDescriptorSet{}
	for _, f := range files {
		if byName[f.GetName()] == nil {
			byName[f.GetName()] = f
			all.File = append(all.File, f)
		}
	}
	for _, f := range all.File {
		for _, name := range f.GetDependency() {
			if byName[name] == nil {
				return nil, fmt.Errorf("%s imports %s, which is missing", f.GetName(), name)
			}
		}
	}
	linked, err := protodesc.NewFiles(all)
	if err != nil {
		return nil, fmt.Errorf("the descriptors contradict each other: %w", err)
	}
	return &Set{files: linked, types: dynamicpb.NewTypes(linked), size: proto.Size(all)}, nil
}

// Method returns the method of a path, "/package.Service/Method", or an error that
// wraps ErrUnknown.
func (s *Set) Method(path string) (Method, error) {
	service, name, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !ok {
		return Method{}, fmt.Errorf("%q is no method: %w", path, ErrUnknown)
	}
	found, err := s.files.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return Method{}, fmt.Errorf("the service %s: %w", service, ErrUnknown)
	}
	of, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return Method{}, fmt.Errorf("%s is no service: %w", service, ErrUnknown)
	}
	m := of.Methods().ByName(protoreflect.Name(name))
	if m == nil {
		return Method{}, fmt.Errorf("the method %s of the service %s: %w", name, service, ErrUnknown)
	}
	options, _ := m.Options().(*descriptorpb.MethodOptions)
	return Method{
		Request: Message{m.Input(), s}, Reply: Message{m.Output(), s},
		ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer(),
		NoSideEffects: options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS,
	}, nil
}

// Services returns the full names of the services.
func (s *Set) Services() []string {
	var names []string
	s.files.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			names = append(names, string(f.Services().Get(i).FullName()))
		}
		return true
	})
	return names
}
