package descriptor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// aFile returns a file in the text form of protobuf.
func aFile(t testing.TB, text string) *descriptorpb.FileDescriptorProto {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{}
	if err := prototext.Unmarshal([]byte(text), file); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return file
}

// TestHostileFiles end no process, and cost no more than their size lets one expect. Some
// would end it with os.Exit, so a process of its own reads them.
func TestHostileFiles(t *testing.T) {
	if os.Getenv("HOSTILE_FILES") != "" {
		for _, c := range hostileFiles(t) {
			fmt.Println("reading", c.name)
			if _, err := Parse(shopSet(t, c.files)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", c.name, err, c.want)
			}
		}
		fmt.Println("the end")
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	run := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestHostileFiles$")
	run.Env = append(os.Environ(), "HOSTILE_FILES=1")
	if out, err := run.CombinedOutput(); err != nil || !strings.Contains(string(out), "the end") {
		t.Errorf("%v: %.3000s", err, out)
	}
}

type hostile struct {
	name, want string // in the error
	files      []*descriptorpb.FileDescriptorProto
}

func hostileFiles(t testing.TB) (all []hostile) {
	t.Helper()
	add := func(name, want string, files ...*descriptorpb.FileDescriptorProto) {
		all = append(all, hostile{name, want, files})
	}
	for _, edition := range []descriptorpb.Edition{5000, 0, 1, 900, 998, 999, 9999, 99997, 2147483647, -1} {
		file := aFile(t, `name: "cmd/protoc-gen-go/testdata/t.proto" syntax: "editions" message_type: {name: "M"}`)
		file.Edition = &edition
		add(fmt.Sprint("edition ", edition), "culvert knows 2023 and 2024", file)
	}
	add("no edition", "culvert knows 2023 and 2024", aFile(t, `name: "cmd/protoc-gen-go/testdata/t.proto" syntax: "editions"`))
	add("another syntax", "invalid syntax", aFile(t, `name: "a" syntax: "proto4"`))
	add("no name", "a file has no name", aFile(t, `package: "a"`))
	add("a package that is no name", "is no name", aFile(t, `name: "a" package: "a..b"`))
	add("a message without a name", "is no name", aFile(t, `name: "a" message_type: {}`))
	add("a long name", "more than 1000 bytes", aFile(t, `name: "a" message_type: {name: "`+strings.Repeat("a", 1001)+`"}`))
	add("a long reference", "more than 1000 bytes", aFile(t, `name: "a" message_type: {name: "A" field: {name: "a" number: 1 type_name: "`+strings.Repeat("a.", 10_000)+`"}}`))
	add("a package of many parts", "64 parts", aFile(t, `name: "a" package: "`+strings.Repeat("a.", 400)+`a"`))
	add("a cycle", "imports itself", aFile(t, `name: "a" dependency: "b"`), aFile(t, `name: "b" dependency: "a"`))
	add("itself", "imports itself", aFile(t, `name: "a" dependency: "a"`))
	nested := &descriptorpb.DescriptorProto{Name: proto.String("M")}
	for range 1000 {
		nested = &descriptorpb.DescriptorProto{Name: proto.String("M"), NestedType: []*descriptorpb.DescriptorProto{nested}}
	}
	add("deep nesting", "nested more than 32 deep", &descriptorpb.FileDescriptorProto{Name: proto.String("a"), MessageType: []*descriptorpb.DescriptorProto{nested}})
	// Two ways to each file, so 2^200 ways to the first.
	diamonds := []*descriptorpb.FileDescriptorProto{aFile(t, `name: "a0"`), aFile(t, `name: "b0"`)}
	for i := range 200 {
		for _, name := range []string{"a", "b"} {
			diamonds = append(diamonds, aFile(t, fmt.Sprintf(`name: "%s%d" dependency: ["a%d", "b%d"] public_dependency: [0, 1]`, name, i+1, i, i)))
		}
	}
	add("public imports in diamonds", "too long to look up", diamonds...)
	lookups := aFile(t, `name: "a" package: "`+strings.Repeat("a.", 60)+`a"`)
	m := &descriptorpb.DescriptorProto{Name: proto.String("M")}
	lookups.MessageType = append(lookups.MessageType, m)
	for i := range 10_000 {
		m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{Name: proto.String(fmt.Sprint("f", i)), Number: proto.Int32(int32(i + 1)), TypeName: proto.String(strings.Repeat("a.", 60) + "b")})
	}
	add("references that are looked up in many scopes", "too long to look up", lookups)
	enums := &descriptorpb.DescriptorProto{Name: proto.String("M")}
	for i := range 10_000 {
		enums.EnumType = append(enums.EnumType, &descriptorpb.EnumDescriptorProto{Name: proto.String(fmt.Sprint("E", i)), Value: []*descriptorpb.EnumValueDescriptorProto{{Name: proto.String(fmt.Sprint("V", i)), Number: proto.Int32(0)}}})
		enums.Field = append(enums.Field, &descriptorpb.FieldDescriptorProto{Name: proto.String(fmt.Sprint("f", i)), Number: proto.Int32(int32(i + 1)), TypeName: proto.String(".M.None")})
	}
	add("references into a message of many enums", "too long to look up", &descriptorpb.FileDescriptorProto{Name: proto.String("a"), MessageType: []*descriptorpb.DescriptorProto{enums}})
	return all
}

// bloats returns files of which each byte becomes many in memory.
func bloats() map[string][]byte {
	repeat := func(fields ...protowire.Number) []byte {
		b := []byte{}
		for i, f := range slices.Backward(fields) {
			b = protowire.AppendBytes(protowire.AppendTag(nil, f, protowire.BytesType), b)
			if i == len(fields)-1 {
				b = []byte(strings.Repeat(string(b), 5<<20/len(b)))
			}
		}
		return append([]byte("\x0a\x01a"), b...)
	}
	return map[string][]byte{
		"messages": repeat(4), "enums": repeat(5), "services": repeat(6), "extensions": repeat(7), "imports": repeat(3),
		"fields": repeat(4, 2), "nested messages": repeat(4, 3), "extension ranges": repeat(4, 5), "oneofs": repeat(4, 8), "reserved ranges": repeat(4, 9), "reserved names": repeat(4, 10),
		"enum values": repeat(5, 2), "methods": repeat(6, 2), "options": repeat(8, 999),
	}
}

// TestBloatedFiles: what a file becomes in memory is bounded before it is read.
func TestBloatedFiles(t *testing.T) {
	for name, data := range bloats() {
		if _, err := Fetch(t.Context(), &wireSource{data}, nil, "x"); err == nil || !strings.Contains(err.Error(), "more than 128 MiB of memory") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Parse(append([]byte{0x0a}, protowire.AppendBytes(nil, bloats()["messages"])...)); err == nil || !strings.Contains(err.Error(), "more than 1024 MiB of memory") {
		t.Errorf("in a file: %v", err)
	}
	comments := append([]byte("\x0a\x01a"), protowire.AppendBytes([]byte{9<<3 | 2}, []byte(strings.Repeat("\x0a\x00", 1<<20)))...)
	if _, err := Fetch(t.Context(), &wireSource{comments}, nil, "x"); err != nil {
		t.Errorf("comments, which are left out: %v", err)
	}
	errFull := errors.New("no room")
	if _, err := Fetch(t.Context(), &wireSource{[]byte("\x0a\x01a\x22\x03\x0a\x01M")}, func(int, int) error { return errFull }, "x"); !errors.Is(err, errFull) {
		t.Errorf("without room: %v", err)
	}
}

// A wireSource answers each question with one file.
type wireSource struct{ file []byte }

func (s *wireSource) FilesOf(context.Context, string) ([][]byte, error) { return [][]byte{s.file}, nil }

func (s *wireSource) FilesOfExtension(context.Context, string, int32) ([][]byte, error) {
	return nil, errNotThere
}

func (s *wireSource) File(context.Context, string) ([][]byte, error) { return nil, errNotThere }

const clock = `
name: "clock.proto" package: "clock" syntax: "proto3" dependency: "google/protobuf/timestamp.proto"
message_type: {name: "Tick" field: {name: "at" json_name: "at" number: 1 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" label: LABEL_OPTIONAL}}
service: {name: "Clock" method: {name: "Get" input_type: ".clock.Tick" output_type: ".clock.Tick"}}
`

// TestSpecialTypesAreProtobufs: protojson panics if a type that it treats in a way of its
// own has other fields.
func TestSpecialTypesAreProtobufs(t *testing.T) {
	type files = []*descriptorpb.FileDescriptorProto
	own := protodesc.ToFileDescriptorProto(timestamppb.File_google_protobuf_timestamp_proto)
	timestamp := func(path, fields string) *descriptorpb.FileDescriptorProto {
		return aFile(t, `name: "`+path+`" package: "google.protobuf" syntax: "proto3" message_type: {name: "Timestamp" `+fields+`}`)
	}
	const usual, other = "google/protobuf/timestamp.proto", "all.proto"
	bundle := aFile(t, strings.Replace(clock, usual, other, 1))
	for _, c := range []struct {
		name  string
		files files
		fails bool
	}{
		{"its own", files{aFile(t, clock), own}, false},
		{"none", files{aFile(t, clock)}, false},
		{"without fields", files{aFile(t, clock), timestamp(usual, "")}, false},
		{"with one more", files{aFile(t, clock), timestamp(usual, `field: {name: "zone" number: 3 type: TYPE_STRING label: LABEL_OPTIONAL}`)}, false},
		{"with a string", files{aFile(t, clock), timestamp(usual, `field: {name: "seconds" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL}`)}, true},
		{"with a list", files{aFile(t, clock), timestamp(usual, `field: {name: "seconds" number: 1 type: TYPE_INT64 label: LABEL_REPEATED}`)}, true},
		{"in another file", files{bundle, timestamp(other, `field: {name: "seconds" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL}`)}, false},
		{"a false one in another file", files{bundle, timestamp(other, `field: {name: "seconds" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL}`)}, true},
		{"an enum of that name", files{aFile(t, `name: "a" package: "google.protobuf" enum_type: {name: "Timestamp" value: {name: "A" number: 0}}`)}, true},
		{"a message in place of an enum", files{aFile(t, `name: "a" package: "google.protobuf" message_type: {name: "NullValue"}`)}, true},
		{"a message in the message google.protobuf", files{aFile(t, `name: "a" package: "google" message_type: {name: "protobuf" nested_type: {name: "Value"
			field: {name: "v" number: 1 type: TYPE_MESSAGE type_name: ".google.protobuf.Value" label: LABEL_OPTIONAL}}}`)}, true},
		{"an enum there", files{aFile(t, `name: "a" package: "google" message_type: {name: "protobuf" enum_type: {name: "Any" value: {name: "A" number: 0}}}`)}, true},
		{"a message in messages", files{aFile(t, `name: "a" message_type: {name: "google" nested_type: {name: "protobuf" nested_type: {name: "Any"}}}`)}, true},
		{"a service there", files{aFile(t, `name: "a" package: "google.protobuf" service: {name: "Duration"}`)}, true},
		{"other messages there", files{aFile(t, clock), aFile(t, `name: "a" package: "google" message_type: {name: "protobufs" nested_type: {name: "Value"}}`)}, false},
	} {
		s, err := Parse(shopSet(t, c.files))
		if c.fails {
			var f *FalseTypeError
			if !errors.As(err, &f) {
				t.Errorf("%s: %v, want a FalseTypeError", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		m, err := s.Method("/clock.Clock/Get")
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		text, err := JSON{}.Write(nil, m.Reply, []byte("\x0a\x02\x08\x01"), new(Unknowns))
		if want := `{"at":"1970-01-01T00:00:01Z"}`; err != nil || compact(t, text) != want {
			t.Errorf("%s: %s, %v, want %s", c.name, text, err, want)
		}
		if wire, err := (JSON{}).Read(m.Request, text, new(Unknowns)); err != nil || string(wire) != "\x0a\x02\x08\x01" {
			t.Errorf("%s: %x, %v", c.name, wire, err)
		}
	}
}

// TestNewerDescriptorsStay: only special types are replaced.
func TestNewerDescriptorsStay(t *testing.T) {
	newer := protodesc.ToFileDescriptorProto(descriptorpb.File_google_protobuf_descriptor_proto)
	newer.MessageType = append(newer.MessageType, aFile(t, `message_type: {name: "NewDescriptorProto"}`).GetMessageType()[0])
	user := aFile(t, `name: "a.proto" package: "a" dependency: "google/protobuf/descriptor.proto"
		service: {name: "S" method: {name: "M" input_type: ".google.protobuf.NewDescriptorProto" output_type: ".google.protobuf.FileDescriptorProto"}}`)
	s, err := Parse(shopSet(t, []*descriptorpb.FileDescriptorProto{user, newer}))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.Method("/a.S/M"); err != nil || m.Request.Name() != "google.protobuf.NewDescriptorProto" {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestMissingFiles: those of protobuf itself are there, and for another the error names it.
func TestMissingFiles(t *testing.T) {
	files := shopFiles(t)
	for name, from := range map[string]*shelf{"of protobuf": {files: files[:1]}, "some of protobuf": {files: files[:3]}} {
		s, err := Fetch(t.Context(), from, nil, "shop.v1.Orders")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		m, err := s.Method("/shop.v1.Orders/Get")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if wire, err := (JSON{}).Read(m.Request, []byte(`{"at":"1970-01-01T00:00:01Z","free":[1],"extra":{"@type":"a/google.protobuf.Int32Value","value":1}}`), new(Unknowns)); err != nil {
			t.Errorf("%s: %x, %v", name, wire, err)
		}
	}
	own := aFile(t, `name: "a.proto" package: "a" dependency: ["google/protobuf/type.proto", "google/protobuf/api.proto", "google/protobuf/compiler/plugin.proto", "google/protobuf/go_features.proto"] service: {name: "S"}`)
	if _, err := Fetch(t.Context(), &shelf{files: []*descriptorpb.FileDescriptorProto{own}}, nil, "a.S"); err != nil {
		t.Error(err)
	}
	for _, missing := range []string{"google/type/money.proto", "google/protobuf/none.proto", "b.proto"} {
		file := proto.CloneOf(own)
		file.Dependency = append(slices.Clone(file.Dependency), missing)
		_, err := Fetch(t.Context(), &shelf{files: []*descriptorpb.FileDescriptorProto{file}}, nil, "a.S")
		var m *MissingFileError
		if !errors.As(err, &m) || m.File != missing || m.ImportedBy != "a.proto" || !errors.Is(err, errNotThere) {
			t.Errorf("%s: %v", missing, err)
		}
	}
}

// TestDescriptorCosts compares the estimates with what descriptors take, while they are
// linked and after it.
func TestDescriptorCosts(t *testing.T) {
	const n = 5000
	each := func(format string) *descriptorpb.FileDescriptorProto {
		before, rest, _ := strings.Cut(format, "{{")
		one, after, _ := strings.Cut(rest, "}}")
		var text strings.Builder
		text.WriteString(before)
		for i := range n {
			text.WriteString(strings.ReplaceAll(one, "#", fmt.Sprint(i+1)))
		}
		return aFile(t, `name: "a" package: "p" `+text.String()+after)
	}
	for _, format := range []string{
		`{{message_type: {name: "M#"} }}`,
		`{{message_type: {name: "M#" field: {name: "a" number: 1 type: TYPE_BOOL} field: {name: "bcd" number: 2 type: TYPE_BOOL} } }}`,
		`{{message_type: {name: "M#" options: {features: { } } nested_type: {name: "A"} } }}`,
		`message_type: {name: "M" {{field: {name: "f#" number: # type: TYPE_BOOL json_name: "f#"} }} }`,
		`message_type: {name: "M" {{field: {name: "f#" number: # type: TYPE_BOOL oneof_index: 0} }} oneof_decl: {name: "o"} }`,
		`message_type: {name: "M" {{oneof_decl: {name: "o#"} field: {name: "f#" number: # type: TYPE_BOOL} }} }`,
		`message_type: {name: "M" {{reserved_name: "a#"}} }`,
		`{{enum_type: {name: "E#" value: {name: "V#" number: 0} } }}`,
		`enum_type: {name: "E" {{value: {name: "V#" number: #} }} }`,
		`message_type: {name: "M"} {{service: {name: "S#" method: {name: "A" input_type: ".p.M" output_type: ".p.M"} } }}`,
		`message_type: {name: "M" extension_range: {start: 1 end: 10000} } {{extension: {name: "x#" extendee: ".p.M" number: # type: TYPE_BOOL} }}`,
	} {
		file := each(format)
		for i := range file.GetMessageType() { // a oneof has at least one field
			for k := range file.GetMessageType()[i].GetOneofDecl() {
				if len(file.GetMessageType()[i].GetOneofDecl()) > 1 {
					file.GetMessageType()[i].GetField()[k].OneofIndex = proto.Int32(int32(k))
				}
			}
		}
		data, err := proto.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		var s *Set
		var read *descriptorpb.FileDescriptorProto
		q := &quota{maxMemory: maxSetMemory, maxWork: maxSetWork}
		got := taken(t, func() (err error) {
			if read, err = q.readFile(data); err == nil {
				s, err = newSet([]*descriptorpb.FileDescriptorProto{read}, q)
			}
			if err == nil {
				_, _ = s.types.FindExtensionByNumber("p.M", 1) // it makes a map of all
			}
			return err
		})
		if got > s.Size() || s.Size() > 6*got {
			t.Errorf("%s: they take %d bytes each, estimated %d", format, got/n, s.Size()/n)
		}
		runtime.KeepAlive(read)
	}
}
