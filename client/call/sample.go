package call

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// The bounds of a sample: descriptors may be those of a hostile server.
const (
	maxSampleDepth  = 4 // of messages in messages
	maxSampleFields = 500
)

// sample returns a message with all fields in JSON, to begin with: of a oneof the first one.
func sample(of protoreflect.MessageDescriptor) string {
	s := sampler{left: maxSampleFields}
	return s.message(of, 0)
}

// A sampler makes a sample of at most so many fields.
type sampler struct{ left int }

func (s *sampler) message(of protoreflect.MessageDescriptor, depth int) string {
	if text, ok := wellKnown[of.FullName()]; ok {
		return text
	}
	var fields []string
	for i := range of.Fields().Len() {
		f := of.Fields().Get(i)
		o := f.ContainingOneof()
		if o != nil && !o.IsSynthetic() && o.Fields().Get(0) != f || f.Message() != nil && depth == maxSampleDepth {
			continue
		}
		if s.left--; s.left < 0 {
			break
		}
		name, _ := json.Marshal(f.JSONName()) // a string always marshals
		fields = append(fields, fmt.Sprintf("%s: %s", name, s.field(f, depth)))
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

func (s *sampler) field(f protoreflect.FieldDescriptor, depth int) string {
	switch {
	case f.IsMap():
		key := s.value(f.MapKey(), depth)
		if !strings.HasPrefix(key, `"`) {
			key = `"` + key + `"`
		}
		return "{" + key + ": " + s.value(f.MapValue(), depth) + "}"
	case f.IsList():
		return "[" + s.value(f, depth) + "]"
	}
	return s.value(f, depth)
}

func (s *sampler) value(f protoreflect.FieldDescriptor, depth int) string {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return s.message(f.Message(), depth+1)
	case protoreflect.EnumKind:
		return `"` + string(f.Enum().Values().Get(0).Name()) + `"`
	case protoreflect.BoolKind:
		return "false"
	case protoreflect.StringKind, protoreflect.BytesKind:
		return `""`
	}
	return "0"
}

// wellKnown are types that have a form of their own in JSON.
var wellKnown = map[protoreflect.FullName]string{
	"google.protobuf.Any": "{}", "google.protobuf.Timestamp": `"2026-01-02T03:04:05Z"`, "google.protobuf.Duration": `"1s"`,
	"google.protobuf.FieldMask": `""`, "google.protobuf.Struct": "{}", "google.protobuf.Value": "null", "google.protobuf.ListValue": "[]",
	"google.protobuf.Empty": "{}", "google.protobuf.BoolValue": "false", "google.protobuf.StringValue": `""`, "google.protobuf.BytesValue": `""`,
	"google.protobuf.DoubleValue": "0", "google.protobuf.FloatValue": "0", "google.protobuf.Int64Value": "0", "google.protobuf.UInt64Value": "0",
	"google.protobuf.Int32Value": "0", "google.protobuf.UInt32Value": "0",
}
