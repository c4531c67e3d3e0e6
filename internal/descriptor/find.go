package descriptor

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Find returns what the Set declares under a full name: "shop.v1.Orders.Get", or nil.
func (s *Set) Find(name string) protoreflect.Descriptor {
	d, err := s.files.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil
	}
	return d
}

// Message returns the type of messages of that full name. It looks for it in the Set, then among
// protobuf's own.
func (s *Set) Message(name string) (m Message, ok bool) {
	found, err := s.types.FindMessageByName(protoreflect.FullName(name))
	if err != nil {
		return Message{}, false
	}
	return Message{found.Descriptor(), s}, true
}

// Around returns the full name of the message that the last name of a path belongs to, as a
// ReadError has the path, or "" if that isn't known.
func (m Message) Around(path string) string {
	names := strings.Split(path, ".")
	d := m.descriptor
	for _, name := range names[:len(names)-1] {
		name, _, indexed := strings.Cut(name, "[")
		f := fieldOf(d, name)
		if f == nil || f.Message() == nil || f.IsMap() || f.IsList() != indexed || formOf(f.Message()) != formOwn {
			return ""
		}
		d = f.Message()
	}
	if formOf(d) != formOwn {
		return ""
	}
	return string(d.FullName())
}

// fieldOf returns a field by either of its names in JSON, or nil.
func fieldOf(d protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if f := d.Fields().ByJSONName(name); f != nil {
		return f
	}
	return d.Fields().ByTextName(name)
}
