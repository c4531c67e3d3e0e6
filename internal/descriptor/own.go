package descriptor

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/gofeaturespb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/apipb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/sourcecontextpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/typepb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"google.golang.org/protobuf/types/pluginpb"
)

// ownFiles are the files of protobuf-go itself, by name. A set has those that it imports
// and that nobody gives. Those with special types are always protobuf-go's.
var ownFiles = byPath(
	anypb.File_google_protobuf_any_proto,
	apipb.File_google_protobuf_api_proto,
	descriptorpb.File_google_protobuf_descriptor_proto,
	durationpb.File_google_protobuf_duration_proto,
	emptypb.File_google_protobuf_empty_proto,
	fieldmaskpb.File_google_protobuf_field_mask_proto,
	gofeaturespb.File_google_protobuf_go_features_proto,
	pluginpb.File_google_protobuf_compiler_plugin_proto,
	sourcecontextpb.File_google_protobuf_source_context_proto,
	structpb.File_google_protobuf_struct_proto,
	timestamppb.File_google_protobuf_timestamp_proto,
	typepb.File_google_protobuf_type_proto,
	wrapperspb.File_google_protobuf_wrappers_proto,
)

func byPath(files ...protoreflect.FileDescriptor) map[string]protoreflect.FileDescriptor {
	paths := make(map[string]protoreflect.FileDescriptor, len(files))
	for _, f := range files {
		paths[f.Path()] = f
	}
	return paths
}

// special are the types that protojson writes in ways of their own, by full name. It
// panics if one has other fields than protobuf-go's.
var special = func() map[protoreflect.FullName]protoreflect.Descriptor {
	types := make(map[protoreflect.FullName]protoreflect.Descriptor)
	for _, path := range []string{"any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers"} {
		f := ownFiles["google/protobuf/"+path+".proto"]
		for i := range f.Messages().Len() {
			types[f.Messages().Get(i).FullName()] = f.Messages().Get(i)
		}
		for i := range f.Enums().Len() {
			types[f.Enums().Get(i).FullName()] = f.Enums().Get(i)
		}
	}
	return types
}()

// ownTypes takes the special types out of a file, so that protobuf-go's are used in their
// place, and imports these. It refuses types that contradict protobuf-go's: then the
// backend's messages can't be read by them.
func ownTypes(f *descriptorpb.FileDescriptorProto) (err error) {
	if f.GetPackage() != wellKnown {
		return nil
	}
	replaced := func(name string, contradicts func(own protoreflect.Descriptor) error) bool {
		own := special[protoreflect.FullName(wellKnown+"."+name)]
		if own == nil || err != nil {
			return false
		}
		if err = contradicts(own); err != nil {
			err = &FalseTypeError{Type: string(own.FullName()), File: readable(f.GetName()), Cause: err}
		}
		if path := own.ParentFile().Path(); path != f.GetName() && !slices.Contains(f.GetDependency(), path) {
			f.PublicDependency = append(f.PublicDependency, int32(len(f.GetDependency())))
			f.Dependency = append(f.Dependency, path)
		}
		return true
	}
	f.MessageType = slices.DeleteFunc(f.GetMessageType(), func(m *descriptorpb.DescriptorProto) bool {
		return replaced(m.GetName(), func(own protoreflect.Descriptor) error {
			of, ok := own.(protoreflect.MessageDescriptor)
			if !ok {
				return errKind
			}
			return contradiction(m, of)
		})
	})
	f.EnumType = slices.DeleteFunc(f.GetEnumType(), func(e *descriptorpb.EnumDescriptorProto) bool {
		return replaced(e.GetName(), func(own protoreflect.Descriptor) error {
			if _, ok := own.(protoreflect.EnumDescriptor); !ok {
				return errKind
			}
			return nil
		})
	})
	return err
}

// A FalseTypeError reports that descriptors define a special type in another way than
// protobuf does.
type FalseTypeError struct {
	Type, File string
	Cause      error
}

func (e *FalseTypeError) Error() string {
	return fmt.Sprintf("%s defines %s in another way than protobuf: %v", e.File, e.Type, e.Cause)
}

func (e *FalseTypeError) Unwrap() error { return e.Cause }

var errKind = errors.New("it is no message, or no enum")

// contradiction returns an error if a field has another type than protobuf-go's with the
// same number. Further fields, or fewer, are another version.
func contradiction(m *descriptorpb.DescriptorProto, own protoreflect.MessageDescriptor) error {
	for _, f := range m.GetField() {
		want := own.Fields().ByNumber(protoreflect.FieldNumber(f.GetNumber()))
		if want == nil {
			continue
		}
		repeated := f.GetLabel() == descriptorpb.FieldDescriptorProto_LABEL_REPEATED
		same := repeated == (want.Cardinality() == protoreflect.Repeated) && (f.Type == nil || protoreflect.Kind(f.GetType()) == want.Kind())
		if want.Message() != nil {
			same = same && protoreflect.FullName(f.GetTypeName()).Name() == want.Message().Name()
		}
		if !same {
			return fmt.Errorf("its field %d has another type", f.GetNumber())
		}
	}
	for _, nested := range m.GetNestedType() {
		if of := own.Messages().ByName(protoreflect.Name(nested.GetName())); of != nil {
			if err := contradiction(nested, of); err != nil {
				return err
			}
		}
	}
	return nil
}
