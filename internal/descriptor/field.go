package descriptor

import (
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A Field is a field of a message that is one text or one integer.
type Field struct {
	number protowire.Number
	kind   protoreflect.Kind
}

// Field returns the field of that name, as the definition has it.
func (m Message) Field(name string) (Field, error) {
	f := m.descriptor.Fields().ByName(protoreflect.Name(name))
	if f == nil {
		return Field{}, fmt.Errorf("%s has no field %q", m.Name(), name)
	}
	switch f.Kind() {
	case protoreflect.StringKind, protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Uint32Kind, protoreflect.Uint64Kind,
		protoreflect.Sint32Kind, protoreflect.Sint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind, protoreflect.Sfixed32Kind, protoreflect.Sfixed64Kind:
		if !f.IsList() {
			return Field{f.Number(), f.Kind()}, nil
		}
	}
	return Field{}, fmt.Errorf("the field %q of %s is neither text nor an integer", name, m.Name())
}

// Of returns the field's value in a message in the wire form, as text, or "" if the message
// doesn't have it. Of a field that occurs several times, the last one counts.
func (f Field) Of(wire []byte) (value string) {
	for field, err := range WireFields(wire) {
		if err == nil && field.Number == f.number {
			value = f.text(field.Kind, field.Value)
		}
	}
	return value
}

func (f Field) text(kind protowire.Type, b []byte) string {
	var v uint64
	switch kind {
	case protowire.BytesType:
		return string(b)
	case protowire.VarintType:
		v, _ = protowire.ConsumeVarint(b)
	case protowire.Fixed32Type:
		short, _ := protowire.ConsumeFixed32(b)
		v = uint64(short)
	case protowire.Fixed64Type:
		v, _ = protowire.ConsumeFixed64(b)
	default:
		return ""
	}
	switch f.kind {
	case protoreflect.Sint32Kind, protoreflect.Sint64Kind:
		return strconv.FormatInt(protowire.DecodeZigZag(v), 10)
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Sfixed64Kind:
		return strconv.FormatInt(int64(v), 10)
	case protoreflect.Sfixed32Kind:
		return strconv.FormatInt(int64(int32(v)), 10)
	default:
		return strconv.FormatUint(v, 10)
	}
}
