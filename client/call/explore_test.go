package call

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// zoo has a declaration of each kind.
const zoo = `file: {
	name: "zoo.proto" package: "zoo.v1" syntax: "proto3" dependency: "google/protobuf/timestamp.proto"
	message_type: {
		name: "Animal"
		field: {name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "name"}
		field: {name: "legs" number: 2 type: TYPE_SINT64 label: LABEL_OPTIONAL json_name: "legs" proto3_optional: true oneof_index: 1}
		field: {name: "nick_names" number: 3 type: TYPE_STRING label: LABEL_REPEATED json_name: "nickNames"}
		field: {name: "kind" number: 4 type: TYPE_ENUM type_name: ".zoo.v1.Animal.Kind" label: LABEL_OPTIONAL json_name: "kind"}
		field: {name: "feeds" number: 5 type: TYPE_MESSAGE type_name: ".zoo.v1.Animal.FeedsEntry" label: LABEL_REPEATED json_name: "feeds"}
		field: {name: "cage" number: 6 type: TYPE_INT32 label: LABEL_OPTIONAL json_name: "cage" oneof_index: 0}
		field: {name: "wild" number: 7 type: TYPE_BOOL label: LABEL_OPTIONAL json_name: "wild" oneof_index: 0}
		field: {name: "born" number: 8 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" label: LABEL_OPTIONAL json_name: "born"}
		field: {name: "parent" number: 9 type: TYPE_MESSAGE type_name: ".zoo.v1.Animal" label: LABEL_OPTIONAL json_name: "parent"}
		oneof_decl: {name: "home"}
		oneof_decl: {name: "_legs"}
		nested_type: {
			name: "FeedsEntry" options: {map_entry: true}
			field: {name: "key" number: 1 type: TYPE_UINT32 label: LABEL_OPTIONAL json_name: "key"}
			field: {name: "value" number: 2 type: TYPE_BYTES label: LABEL_OPTIONAL json_name: "value"}
		}
		nested_type: {name: "Empty"}
		enum_type: {name: "Kind" value: {name: "KIND_UNSPECIFIED" number: 0} value: {name: "BIRD" number: 1}}
	}
	service: {
		name: "Zoo"
		method: {name: "Watch" input_type: ".zoo.v1.Animal" output_type: ".zoo.v1.Animal" client_streaming: true server_streaming: true}
	}
}`

func zooSet(t *testing.T) string {
	t.Helper()
	set := new(descriptorpb.FileDescriptorSet)
	if err := prototext.Unmarshal([]byte(zoo), set); err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "zoo.binpb")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestDescribe(t *testing.T) {
	const animal = `message Animal {
  string name = 1;
  optional sint64 legs = 2;
  repeated string nick_names = 3;
  zoo.v1.Animal.Kind kind = 4;
  map<uint32, bytes> feeds = 5;
  oneof home {
    int32 cage = 6;
    bool wild = 7;
  }
  google.protobuf.Timestamp born = 8;
  zoo.v1.Animal parent = 9;
  message Empty {
  }
  enum Kind {
    KIND_UNSPECIFIED = 0;
    BIRD = 1;
  }
}
`
	for symbol, want := range map[string]string{
		"zoo.v1.Zoo":                  "// zoo.v1.Zoo in zoo.proto\nservice Zoo {\n  rpc Watch(stream zoo.v1.Animal) returns (stream zoo.v1.Animal);\n}\n",
		"zoo.v1.Animal":               "// zoo.v1.Animal in zoo.proto\n" + animal,
		"zoo.v1.Zoo/Watch":            "// zoo.v1.Zoo.Watch in zoo.proto\nrpc Watch(stream zoo.v1.Animal) returns (stream zoo.v1.Animal);\n\n" + animal,
		"zoo.v1.Animal.Kind":          "// zoo.v1.Animal.Kind in zoo.proto\nenum Kind {\n  KIND_UNSPECIFIED = 0;\n  BIRD = 1;\n}\n",
		"zoo.v1.Animal.nick_names":    "// zoo.v1.Animal.nick_names in zoo.proto\nrepeated string nick_names = 3;\n",
		"zoo.v1.Animal.home":          "// zoo.v1.Animal.home in zoo.proto\noneof home {\n  int32 cage = 6;\n  bool wild = 7;\n}\n",
		"zoo.v1.Animal.BIRD":          "// zoo.v1.Animal.BIRD in zoo.proto\nBIRD = 1;\n",
		".zoo.v1.Animal.Empty":        "",
		"zoo.v1.None":                 "",
		"google.protobuf.NoSuchThing": "",
	} {
		r := run(t, Config{URL: "http://localhost:1", ProtoSets: []string{zooSet(t)}}, "describe", symbol)
		got, example, hasExample := strings.Cut(r.stdout, "\n// -d ")
		if (r.err == nil) != (want != "") || got != strings.TrimSuffix(want, "\n") && got != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", symbol, r.err, got, want)
		}
		if hasExample && !strings.HasPrefix(example, `'{"name": "", "legs": 0, "nickNames": [""], "kind": "KIND_UNSPECIFIED", "feeds": {"0": ""}, "cage": 0, "born": "2026-01-02T03:04:05Z", "parent": {"name": ""`) {
			t.Errorf("%s: %s", symbol, example)
		}
	}
}

// TestSamplesAreAccepted: what describe shows is JSON of its message.
func TestSamplesAreAccepted(t *testing.T) {
	for name, text := range wellKnown {
		kind, err := protoregistry.GlobalTypes.FindMessageByName(name)
		if err == nil {
			err = protojson.Unmarshal([]byte(text), kind.New().Interface())
		}
		if err != nil {
			t.Errorf("%s: %s: %v", name, text, err)
		}
	}
}

// TestSamplesAreBounded, whatever the types of a hostile server are.
func TestSamplesAreBounded(t *testing.T) {
	var wide strings.Builder
	wide.WriteString(`file: {name: "w.proto" package: "w" syntax: "proto3" message_type: {name: "M" `)
	for i := range 1000 {
		wide.WriteString(strings.ReplaceAll(`field: {name: "f#" number: # type: TYPE_MESSAGE type_name: ".w.M" label: LABEL_OPTIONAL} `, "#", strconv.Itoa(i+1)))
	}
	wide.WriteString("}}")
	set := new(descriptorpb.FileDescriptorSet)
	if err := prototext.Unmarshal([]byte(wide.String()), set); err != nil {
		t.Fatal(err)
	}
	data, _ := proto.Marshal(set)
	file := filepath.Join(t.TempDir(), "w.binpb")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := run(t, Config{URL: "http://localhost:1", ProtoSets: []string{file}}, "describe", "w.M"); r.err != nil || len(r.stdout) > 100_000 {
		t.Errorf("%d bytes, %v", len(r.stdout), r.err)
	}
}
