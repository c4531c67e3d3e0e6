package descriptor

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// TestFields reads each kind of integer and text as JSON writes it.
func TestFields(t *testing.T) {
	var text strings.Builder
	text.WriteString(`name: "f.proto" package: "f" syntax: "proto3" service: { name: "S" method: {name: "M" input_type: ".f.M" output_type: ".f.M"} } message_type: { name: "M"`)
	kinds := map[string]string{ // and a value
		"INT32": "-7", "INT64": "-7", "UINT32": "4000000000", "UINT64": "18000000000000000000", "SINT32": "-7", "SINT64": "-7",
		"FIXED32": "4000000000", "FIXED64": "18000000000000000000", "SFIXED32": "-7", "SFIXED64": "-7", "STRING": "a-7",
	}
	number := 0
	for kind := range kinds {
		number++
		text.WriteString(strings.NewReplacer("KIND", kind, "NAME", strings.ToLower(kind), "NUMBER", string(rune('0'+number/10))+string(rune('0'+number%10))).Replace(
			` field: {name: "NAME" json_name: "NAME" number: NUMBER type: TYPE_KIND label: LABEL_OPTIONAL}`))
	}
	text.WriteString(` field: {name: "many" json_name: "many" number: 90 type: TYPE_INT32 label: LABEL_REPEATED} field: {name: "half" json_name: "half" number: 91 type: TYPE_FLOAT label: LABEL_OPTIONAL} }`)
	file := &descriptorpb.FileDescriptorProto{}
	if err := prototext.Unmarshal([]byte(strings.NewReplacer(" number: 0", " number: ").Replace(text.String())), file); err != nil {
		t.Fatal(err)
	}
	set, err := newSet([]*descriptorpb.FileDescriptorProto{file}, &quota{maxMemory: maxSetMemory, maxWork: maxSetWork})
	if err != nil {
		t.Fatal(err)
	}
	m, err := set.Method("/f.S/M")
	if err != nil {
		t.Fatal(err)
	}
	for kind, value := range kinds {
		name := strings.ToLower(kind)
		f, err := m.Reply.Field(name)
		if err != nil {
			t.Fatal(err)
		}
		wire, err := (JSON{}).Read(m.Reply, []byte(`{"many":[1,2],"half":0.5,"`+name+`":"`+value+`"}`), new(Unknowns))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Of(wire); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
		if got := f.Of(wire[:len(wire)-1]); strings.HasPrefix(got, "x") || f.Of(nil) != "" {
			t.Errorf("%s of a message that is cut: %q", name, got)
		}
	}
	for name, want := range map[string]string{"none": "has no field", "many": "neither text", "half": "neither text"} {
		if _, err := m.Reply.Field(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// FuzzField reads a field of what a backend may send.
func FuzzField(f *testing.F) {
	f.Add([]byte("\x08\x07"), uint8(5))
	f.Add([]byte("\x0a\x03abc\x0a\x01x"), uint8(9))
	f.Add([]byte("\x0d\x01\x02\x03\x04\x09\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c"), uint8(15))
	f.Fuzz(func(t *testing.T, wire []byte, kind uint8) {
		of := Field{1, protoreflect.Kind(1 + kind%18)}
		if got := of.Of(wire); len(got) > len(wire)+20 {
			t.Errorf("%q of %d bytes", got, len(wire))
		}
	})
}
