package descriptor

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

const costly = `
name: "c.proto" package: "c" syntax: "proto3"
dependency: ["google/protobuf/any.proto", "google/protobuf/duration.proto", "google/protobuf/field_mask.proto", "google/protobuf/struct.proto", "google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"]
message_type: { name: "M"
  field: {name: "a" json_name: "a" number: 1 type: TYPE_MESSAGE type_name: ".c.M" label: LABEL_REPEATED}
  field: {name: "i" json_name: "i" number: 2 type: TYPE_INT32 label: LABEL_REPEATED}
  field: {name: "s" json_name: "s" number: 3 type: TYPE_STRING label: LABEL_REPEATED}
  field: {name: "v" json_name: "v" number: 4 type: TYPE_MESSAGE type_name: ".google.protobuf.Value" label: LABEL_REPEATED}
  field: {name: "w" json_name: "w" number: 5 type: TYPE_MESSAGE type_name: ".google.protobuf.Int32Value" label: LABEL_REPEATED}
  field: {name: "b" json_name: "b" number: 6 type: TYPE_BOOL label: LABEL_OPTIONAL}
  field: {name: "c" json_name: "c" number: 7 type: TYPE_MESSAGE type_name: ".c.M.CEntry" label: LABEL_REPEATED}
  field: {name: "d" json_name: "d" number: 536870911 type: TYPE_DOUBLE label: LABEL_REPEATED options:{packed:false}}
  field: {name: "m" json_name: "m" number: 9 type: TYPE_MESSAGE type_name: ".c.M.MEntry" label: LABEL_REPEATED}
  field: {name: "x" json_name: "x" number: 10 type: TYPE_MESSAGE type_name: ".google.protobuf.Any" label: LABEL_REPEATED}
  field: {name: "t" json_name: "t" number: 11 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" label: LABEL_REPEATED}
  field: {name: "k" json_name: "k" number: 12 type: TYPE_MESSAGE type_name: ".google.protobuf.FieldMask" label: LABEL_REPEATED}
  field: {name: "y" json_name: "y" number: 13 type: TYPE_BYTES label: LABEL_REPEATED}
  nested_type: { name: "CEntry" options: {map_entry: true}
    field: {name: "key" json_name: "key" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL}
    field: {name: "value" json_name: "value" number: 2 type: TYPE_BOOL label: LABEL_OPTIONAL}
  }
  nested_type: { name: "MEntry" options: {map_entry: true}
    field: {name: "key" json_name: "key" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL}
    field: {name: "value" json_name: "value" number: 2 type: TYPE_MESSAGE type_name: ".c.M" label: LABEL_OPTIONAL}
  }
}
message_type: { name: "N"
  field: {name: "a" json_name: "a" number: 1 type: TYPE_MESSAGE type_name: ".c.N" label: LABEL_REPEATED}
  field: {name: "i" json_name: "i" number: 2 type: TYPE_INT32 label: LABEL_REPEATED}
  field: {name: "s" json_name: "s" number: 3 type: TYPE_STRING label: LABEL_REPEATED}
  field: {name: "b" json_name: "b" number: 6 type: TYPE_BOOL label: LABEL_OPTIONAL}
  field: {name: "c" json_name: "c" number: 7 type: TYPE_MESSAGE type_name: ".c.N.CEntry" label: LABEL_REPEATED}
  nested_type: { name: "CEntry" options: {map_entry: true}
    field: {name: "key" json_name: "key" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL}
    field: {name: "value" json_name: "value" number: 2 type: TYPE_BOOL label: LABEL_OPTIONAL}
  }
}
service: { name: "S"
  method: {name: "M" input_type: ".c.M" output_type: ".c.M"}
  method: {name: "N" input_type: ".c.N" output_type: ".c.N"}
}
`

// costlyMethod returns a method of costly.
func costlyMethod(t testing.TB, name string) Method {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{}
	if err := prototext.Unmarshal([]byte(costly), file); err != nil {
		t.Fatal(err)
	}
	files := append(shopFiles(t)[1:], protodesc.ToFileDescriptorProto(fieldmaskpb.File_google_protobuf_field_mask_proto),
		protodesc.ToFileDescriptorProto(emptypb.File_google_protobuf_empty_proto), file)
	s, err := Parse(shopSet(t, files))
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Method("/c.S/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestCosts: an estimate is at least what a message takes, and at most eight times that.
func TestCosts(t *testing.T) {
	boxing, plain := costlyMethod(t, "M").Request, costlyMethod(t, "N").Request
	keys := func(f string, n int) string {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, f, i)
		}
		return b.String()
	}
	const n = 10000
	rep := func(x string) string { return strings.TrimSuffix(strings.Repeat(x+",", n), ",") }
	for _, c := range []struct {
		name, text string
	}{
		{"messages", `{"a":[` + rep(`{}`) + `]}`},
		{"messages bool", `{"a":[` + rep(`{"b":true}`) + `]}`},
		{"messages 2", `{"a":[` + rep(`{"b":true,"i":[]}`) + `]}`},
		{"messages emptylist", `{"a":[` + rep(`{"a":[]}`) + `]}`},
		{"messages list1", `{"a":[` + rep(`{"i":[1]}`) + `]}`},
		{"messages map1", `{"a":[` + rep(`{"c":{"1":true}}`) + `]}`},
		{"messages all", `{"a":[` + rep(`{"i":[1],"s":["x"],"v":[1],"w":[1],"b":true,"c":{"1":true},"d":[1],"m":{"1":{}},"a":[{}]}`) + `]}`},
		{"plain ints", `{"i":[` + rep(`1`) + `]}`},
		{"plain strings", `{"s":[` + rep(`"ab"`) + `]}`},
		{"plain messages", `{"a":[` + rep(`{"b":true,"i":[1,2]}`) + `]}`},
		{"plain map", `{"c":{` + keys(`"%d":true`, n) + `}}`},
		{"ints", `{"i":[` + rep(`1`) + `]}`},
		{"doubles", `{"d":[` + rep(`1`) + `]}`},
		{"strings", `{"s":[` + rep(`""`) + `]}`},
		{"strings2", `{"s":[` + rep(`"ab"`) + `]}`},
		{"values", `{"v":[` + rep(`1`) + `]}`},
		{"values str", `{"v":[` + rep(`""`) + `]}`},
		{"values list", `{"v":[` + rep(`[]`) + `]}`},
		{"values obj", `{"v":[` + rep(`{}`) + `]}`},
		{"values obj1", `{"v":[` + rep(`{"":1}`) + `]}`},
		{"values one list", `{"v":[[` + rep(`1`) + `]]}`},
		{"values one obj", `{"v":[{` + keys(`"%d":1`, n) + `}]}`},
		{"wrappers", `{"w":[` + rep(`1`) + `]}`},
		{"map", `{"c":{` + keys(`"%d":true`, n) + `}}`},
		{"map msgs", `{"m":{` + keys(`"%d":{}`, n) + `}}`},
		{"long string", `{"s":["` + strings.Repeat("x", n) + `"]}`},
		{"escaped string", `{"s":["` + strings.Repeat(`\n`, n) + `"]}`},
		{"times", `{"t":[` + rep(`"1970-01-01T00:00:01Z"`) + `]}`},
		{"masks", `{"k":[` + rep(`"a,b"`) + `]}`},
		{"long mask", `{"k":["` + strings.TrimSuffix(strings.Repeat("a,", n), ",") + `"]}`},
		{"bytes", `{"y":[` + rep(`"YQ=="`) + `]}`},
		{"Any", `{"x":[` + rep(`{"@type":"/c.N","b":true}`) + `]}`},
		{"Any empty", `{"x":[` + rep(`{}`) + `]}`},
		{"Any of a Value", `{"x":[` + rep(`{"value":[1],"@type":"/google.protobuf.Value"}`) + `]}`},
		{"Any of many", `{"x":[{"a":[` + rep(`{}`) + `],"@type":"/c.N"}]}`},
		{"Any in Any of many", `{"x":[{"@type":"/c.M","x":[{"a":[` + rep(`{"i":[1]}`) + `],"@type":"/c.N"}]}]}`},
		{"by escaped names", `{"\u0061":[` + rep(`{"\u0062":true}`) + `]}`},
	} {
		const most = 8
		of, text := boxing, []byte(c.text)
		if strings.HasPrefix(c.name, "plain ") {
			of = plain
		}
		m := dynamicpb.NewMessage(of.descriptor)
		in := &keptTypes{types: of.set.types, messages: make([]protoreflect.Message, 0, n)}
		took := taken(t, func() error {
			return protojson.UnmarshalOptions{DiscardUnknown: true, Resolver: in, RecursionLimit: maxDepth}.Unmarshal(text, m)
		})
		if cost, err := (JSON{}).ReadCost(of, text); err != nil || cost < took || cost > most*took+4*len(text)+2000 {
			t.Errorf("%s: reading takes %d, estimated %d, %v", c.name, took, cost, err)
		}
		wire, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var out []byte
		m = dynamicpb.NewMessage(of.descriptor)
		in.messages = make([]protoreflect.Message, 0, n)
		took = taken(t, func() (err error) {
			if err = (proto.UnmarshalOptions{Resolver: in}).Unmarshal(wire, m); err != nil {
				return err
			}
			out, err = protojson.MarshalOptions{Resolver: in}.Marshal(m)
			return err
		})
		if cost, err := (JSON{}).WriteCost(of, wire); err != nil || cost < took || cost > most*took+4000 {
			t.Errorf("%s: writing takes %d, estimated %d, %v", c.name, took, cost, err)
		}
		c := costs{set: of.set}
		if c.message(of.descriptor, wire, maxDepth); c.text < len(bytes.ReplaceAll(out, []byte(" "), nil)) {
			t.Errorf("%.40s: the text has %d bytes, estimated %d", text, len(out), c.text)
		}
		runtime.KeepAlive(m)
		runtime.KeepAlive(in)
	}
}

// keptTypes keeps each message in an Any until the end of a measurement. protojson drops it
// earlier, but sync.Pools of protobuf-go may still refer to it, or may not: with the race
// detector a pool drops one item in four.
type keptTypes struct {
	types
	messages []protoreflect.Message
}

func (k *keptTypes) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	of, err := k.types.FindMessageByURL(url)
	return keptType{of, k}, err
}

type keptType struct {
	protoreflect.MessageType
	by *keptTypes
}

func (t keptType) New() protoreflect.Message {
	m := t.MessageType.New()
	t.by.messages = append(t.by.messages, m)
	return m
}

// taken returns how many bytes stay in use after f. Two collections before it empty the pools
// of others.
func taken(t *testing.T, f func() error) int {
	t.Helper()
	runtime.GC()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	if err := f(); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	return int(after.HeapAlloc) - int(before.HeapAlloc)
}

// TestUnknownFieldsTakeNothing: Read skips them, wherever they are, so their estimate is that
// of their text.
func TestUnknownFieldsTakeNothing(t *testing.T) {
	of := costlyMethod(t, "M").Request
	const n = 150_000
	list := "[{}" + strings.Repeat(",{}", n) + "]"
	for name, text := range map[string]string{
		"a list":                   `{"new":` + list + `}`,
		"objects":                  `{"new":{` + strings.TrimSuffix(strings.Repeat(`"":{},`, n), ",") + `}}`,
		"texts":                    `{"new":["` + strings.Repeat(`","`, n) + `"]}`,
		"many members":             `{` + strings.TrimSuffix(strings.Repeat(`"new":0,`, n), ",") + `}`,
		"in a message":             `{"a":[{"new":` + list + `}]}`,
		"in a map":                 `{"m":{"1":{"new":` + list + `}}}`,
		"in an Any":                `{"x":[{"new":` + list + `,"@type":"/c.N"}]}`,
		"beside the value of Any":  `{"x":[{"@type":"/google.protobuf.Struct","value":{},"new":` + list + `}]}`,
		"in an Any without a type": `{"x":[{"new":` + list + `}]}`,
		"in an Any of Empty":       `{"x":[{"@type":"/google.protobuf.Empty","value":{"new":` + list + `}}]}`,
		"an unknown extension":     `{"[c.new]":` + list + `}`,
		"of another type":          `{"b":` + list + `}`,
		"behind a mistake":         `{"b":1,"a":[1` + strings.Repeat(",{}", n) + `]}`,
	} {
		for _, j := range []JSON{{}, {RejectUnknown: true}} {
			if cost, err := j.ReadCost(of, []byte(text)); err != nil || cost > 5*len(text)+10_000 {
				t.Errorf("%s: %d bytes are estimated at %d, %v", name, len(text), cost, err)
			}
		}
	}
}
