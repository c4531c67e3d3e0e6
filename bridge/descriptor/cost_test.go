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
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

const costly = `
name: "c.proto" package: "c" syntax: "proto3"
dependency: ["google/protobuf/any.proto", "google/protobuf/duration.proto", "google/protobuf/struct.proto", "google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"]
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
	s, err := Parse(shopSet(t, append([]*descriptorpb.FileDescriptorProto{file}, shopFiles(t)[1:]...)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Method("/c.S/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestCosts: an estimate is at least what a message takes. It is at most eight times that
// for a type without values that are messages in protobuf, but not in JSON.
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
		{"unknown", `{"x":[` + rep(`{"x":[1]}`) + `]}`},
	} {
		of, text, most := boxing, []byte(c.text), 60
		if strings.HasPrefix(c.name, "plain ") {
			of, most = plain, 8
		}
		m := dynamicpb.NewMessage(of.descriptor)
		took := taken(t, func() error {
			return protojson.UnmarshalOptions{DiscardUnknown: true, Resolver: of.set.types, RecursionLimit: maxDepth}.Unmarshal(text, m)
		})
		if cost := (JSON{}).ReadCost(of, text); cost < took || cost > most*took+4*len(text)+2000 && c.name != "unknown" {
			t.Errorf("%s: reading takes %d, estimated %d", c.name, took, cost)
		}
		wire, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var out []byte
		m = dynamicpb.NewMessage(of.descriptor)
		took = taken(t, func() (err error) {
			if err = (proto.UnmarshalOptions{Resolver: of.set.types}).Unmarshal(wire, m); err != nil {
				return err
			}
			out, err = protojson.Marshal(m)
			return err
		})
		if cost := (JSON{}).WriteCost(of, wire); cost < took || cost > most*took+4000 {
			t.Errorf("%s: writing takes %d, estimated %d", c.name, took, cost)
		}
		c := costs{set: of.set}
		if c.message(of.descriptor, wire, maxDepth); c.text < len(bytes.ReplaceAll(out, []byte(" "), nil)) {
			t.Errorf("%.40s: the text has %d bytes, estimated %d", text, len(out), c.text)
		}
		runtime.KeepAlive(m)
	}
}

// taken returns how many bytes stay in use after f.
func taken(t *testing.T, f func() error) int {
	t.Helper()
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
