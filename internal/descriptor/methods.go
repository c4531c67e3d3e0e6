package descriptor

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// A Set has the methods and messages of a set of descriptors. Several goroutines may use it.
type Set struct {
	files *protoregistry.Files
	types types
	size  int
}

// Size estimates how many bytes the descriptors take in memory. Of nil it is 0.
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
		return Method{}, &UnknownMethodError{Method: name, of: of}
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
