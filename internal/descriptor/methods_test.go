package descriptor

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// shop is a service whose messages have a field of each kind that JSON writes in its own
// way.
const shop = `
name: "shop.proto" package: "shop.v1" syntax: "proto3"
dependency: ["google/protobuf/any.proto", "google/protobuf/duration.proto", "google/protobuf/struct.proto", "google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"]
message_type: { name: "Order"
  field: {name: "order_id" json_name: "orderId" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL}
  field: {name: "note" json_name: "note" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL}
  field: {name: "items" json_name: "items" number: 3 type: TYPE_MESSAGE type_name: ".shop.v1.Item" label: LABEL_REPEATED}
  field: {name: "state" json_name: "state" number: 4 type: TYPE_ENUM type_name: ".shop.v1.State" label: LABEL_OPTIONAL}
  field: {name: "picture" json_name: "picture" number: 5 type: TYPE_BYTES label: LABEL_OPTIONAL}
  field: {name: "weight" json_name: "weight" number: 6 type: TYPE_DOUBLE label: LABEL_OPTIONAL}
  field: {name: "counts" json_name: "counts" number: 7 type: TYPE_MESSAGE type_name: ".shop.v1.Order.CountsEntry" label: LABEL_REPEATED}
  field: {name: "at" json_name: "at" number: 8 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" label: LABEL_OPTIONAL}
  field: {name: "extra" json_name: "extra" number: 9 type: TYPE_MESSAGE type_name: ".google.protobuf.Any" label: LABEL_OPTIONAL}
  field: {name: "parent" json_name: "parent" number: 10 type: TYPE_MESSAGE type_name: ".shop.v1.Order" label: LABEL_OPTIONAL}
  field: {name: "free" json_name: "free" number: 11 type: TYPE_MESSAGE type_name: ".google.protobuf.Value" label: LABEL_OPTIONAL}
  nested_type: { name: "CountsEntry" options: {map_entry: true}
    field: {name: "key" json_name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL}
    field: {name: "value" json_name: "value" number: 2 type: TYPE_UINT64 label: LABEL_OPTIONAL}
  }
}
message_type: { name: "Item"
  field: {name: "price" json_name: "price" number: 1 type: TYPE_UINT32 label: LABEL_OPTIONAL}
}
enum_type: { name: "State" value: {name: "UNKNOWN" number: 0} value: {name: "PAID" number: 1} }
service: { name: "Orders"
  method: {name: "Get" input_type: ".shop.v1.Order" output_type: ".shop.v1.Item" options: {idempotency_level: NO_SIDE_EFFECTS}}
  method: {name: "Watch" input_type: ".shop.v1.Order" output_type: ".shop.v1.Item" server_streaming: true}
  method: {name: "Chat" input_type: ".shop.v1.Order" output_type: ".shop.v1.Item" client_streaming: true server_streaming: true}
}
`

// shopFiles returns the file of the shop, then those that it imports.
func shopFiles(t testing.TB) []*descriptorpb.FileDescriptorProto {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{}
	if err := prototext.Unmarshal([]byte(shop), file); err != nil {
		t.Fatal(err)
	}
	files := []*descriptorpb.FileDescriptorProto{file}
	for _, known := range []protoreflect.FileDescriptor{
		anypb.File_google_protobuf_any_proto, durationpb.File_google_protobuf_duration_proto, structpb.File_google_protobuf_struct_proto,
		timestamppb.File_google_protobuf_timestamp_proto, wrapperspb.File_google_protobuf_wrappers_proto,
	} {
		files = append(files, protodesc.ToFileDescriptorProto(known))
	}
	return files
}

func shopSet(t testing.TB, files []*descriptorpb.FileDescriptorProto) []byte {
	t.Helper()
	data, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: files})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func shopDescriptors(t testing.TB) *Set {
	t.Helper()
	s, err := Parse(shopSet(t, shopFiles(t)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func zipped(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(data) // to memory
	_ = z.Close()        // to memory
	return b.Bytes()
}

func TestMethods(t *testing.T) {
	s := shopDescriptors(t)
	for _, c := range []struct {
		path  string
		kinds string // of streams, and whether it has side effects
	}{
		{"/shop.v1.Orders/Get", "false false true"},
		{"/shop.v1.Orders/Watch", "false true false"},
		{"/shop.v1.Orders/Chat", "true true false"},
		{"/shop.v1.Orders/get", ""},
		{"/shop.v1.Orders/", ""},
		{"/shop.v1.Orders", ""},
		{"/shop.v1.Order/Get", ""},
		{"/shop.v2.Orders/Get", ""},
		{"/shop.v1.Orders/Get/x", ""},
		{"", ""},
	} {
		m, err := s.Method(c.path)
		switch {
		case c.kinds == "":
			if !errors.Is(err, ErrUnknown) {
				t.Errorf("%q: %v, want ErrUnknown", c.path, err)
			}
		case err != nil || fmt.Sprint(m.ClientStreams, m.ServerStreams, m.NoSideEffects) != c.kinds || m.Request.Name() != "shop.v1.Order" || m.Reply.Name() != "shop.v1.Item":
			t.Errorf("%q: %+v, %v, want %s", c.path, m, err, c.kinds)
		}
	}
	if got := s.Services(); !slices.Equal(got, []string{"shop.v1.Orders"}) {
		t.Errorf("services %q", got)
	}
}

func TestSetsOfFiles(t *testing.T) {
	files := shopFiles(t)
	set := shopSet(t, files)
	// Buf adds field 8042 to each file.
	image := shopSet(t, files[1:])
	own, err := proto.Marshal(files[0])
	if err != nil {
		t.Fatal(err)
	}
	own = protowire.AppendBytes(protowire.AppendTag(own, 8042, protowire.BytesType), []byte{8, 1})
	image = protowire.AppendBytes(protowire.AppendTag(image, 1, protowire.BytesType), own)
	for _, c := range []struct {
		name string
		data []byte
		want string // of the error; empty: it has the service
	}{
		{"a set", set, ""},
		{"in another order", shopSet(t, append(slices.Clone(files[1:]), files[0])), ""},
		{"twice the same", append(slices.Clone(set), set...), ""},
		{"a Buf image", image, ""},
		{"compressed", zipped(set), ""},
		{"without the files of protobuf", shopSet(t, files[:1]), ""},
		{"without an import", shopSet(t, []*descriptorpb.FileDescriptorProto{aFile(t, `name: "a.proto" dependency: "b.proto"`)}), "a.proto imports b.proto, which is missing: write the set with its imports"},
		{"empty", nil, "has no descriptors"},
		{"text", []byte(shop), "not a FileDescriptorSet"},
		{"cut", set[:len(set)-1], "not a FileDescriptorSet"},
		{"cut gzip", zipped(set)[:100], "not gzip"},
		{"a bomb", zipped(make([]byte, MaxSetBytes+1)), "larger than 64 MiB"},
		{"a type that nothing defines", shopSet(t, []*descriptorpb.FileDescriptorProto{{Name: proto.String("a.proto"), MessageType: []*descriptorpb.DescriptorProto{{
			Name: proto.String("A"), Field: []*descriptorpb.FieldDescriptorProto{{Name: proto.String("b"), Number: proto.Int32(1), TypeName: proto.String(".B"), Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}},
		}}}}), "contradict each other"},
	} {
		s, err := Parse(c.data)
		switch {
		case c.want != "":
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", c.name, err, c.want)
			}
		case err != nil:
			t.Errorf("%s: %v", c.name, err)
		default:
			if _, err := s.Method("/shop.v1.Orders/Get"); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

// A shelf is a Source of some files.
type shelf struct {
	files []*descriptorpb.FileDescriptorProto
	whole bool // its answers have all imports
	asked int
}

var errNotThere = errors.New("not there")

func (s *shelf) answer(is func(*descriptorpb.FileDescriptorProto) bool) ([][]byte, error) {
	s.asked++
	i := slices.IndexFunc(s.files, is)
	if i < 0 {
		return nil, errNotThere
	}
	files := s.files[i : i+1]
	if s.whole {
		files = append(slices.Clone(files), s.files...)
	}
	var answer [][]byte
	for _, f := range files {
		data, err := proto.Marshal(f)
		if err != nil {
			return nil, err
		}
		answer = append(answer, data)
	}
	return answer, nil
}

func (s *shelf) FilesOf(_ context.Context, symbol string) ([][]byte, error) {
	return s.answer(func(f *descriptorpb.FileDescriptorProto) bool {
		named := func(d interface{ GetName() string }) bool { return f.GetPackage()+"."+d.GetName() == symbol }
		return slices.ContainsFunc(f.GetService(), func(s *descriptorpb.ServiceDescriptorProto) bool { return named(s) }) ||
			slices.ContainsFunc(f.GetMessageType(), func(m *descriptorpb.DescriptorProto) bool { return named(m) }) ||
			slices.ContainsFunc(f.GetExtension(), func(x *descriptorpb.FieldDescriptorProto) bool { return named(x) })
	})
}

func (s *shelf) FilesOfExtension(_ context.Context, message string, number int32) ([][]byte, error) {
	return s.answer(func(f *descriptorpb.FileDescriptorProto) bool {
		return slices.ContainsFunc(f.GetExtension(), func(x *descriptorpb.FieldDescriptorProto) bool {
			return strings.TrimPrefix(x.GetExtendee(), ".") == message && x.GetNumber() == number
		})
	})
}

func (s *shelf) File(_ context.Context, name string) ([][]byte, error) {
	return s.answer(func(f *descriptorpb.FileDescriptorProto) bool { return f.GetName() == name })
}

func TestFetch(t *testing.T) {
	files := shopFiles(t)
	for _, c := range []struct {
		name  string
		from  *shelf
		asked int
		want  string // of the error
	}{
		{"with all imports", &shelf{files: files, whole: true}, 1, ""},
		{"file by file", &shelf{files: files}, len(files), ""},
		{"without protobuf's files", &shelf{files: files[:3]}, len(files), ""},
		{"without an import", &shelf{files: []*descriptorpb.FileDescriptorProto{aFile(t, `name: "a" package: "shop.v1" dependency: "b" service: {name: "Orders"}`)}}, 2, "a imports b, which is missing: not there"},
		{"without the service", &shelf{files: files[1:]}, 1, "the descriptors of shop.v1.Orders: not there"},
	} {
		s, err := Fetch(t.Context(), c.from, nil, "shop.v1.Orders")
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, errNotThere) {
				t.Errorf("%s: %v, want %q", c.name, err, c.want)
			}
		} else if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if _, err := s.Method("/shop.v1.Orders/Chat"); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.from.asked != c.asked {
			t.Errorf("%s: asked %d times, want %d", c.name, c.from.asked, c.asked)
		}
	}
}

// endless gives files that import ever more files.
type endless struct{ size, asked int }

func (e *endless) FilesOf(context.Context, string) ([][]byte, error) { return e.next() }

func (e *endless) FilesOfExtension(context.Context, string, int32) ([][]byte, error) { return e.next() }

func (e *endless) File(context.Context, string) ([][]byte, error) { return e.next() }

func (e *endless) next() ([][]byte, error) {
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String(fmt.Sprint(e.asked)), Dependency: []string{fmt.Sprint(e.asked + 1)}, Options: &descriptorpb.FileOptions{JavaPackage: proto.String(strings.Repeat("a", e.size))},
	}
	e.asked++
	data, err := proto.Marshal(file)
	return [][]byte{data}, err
}

func TestFetchIsBounded(t *testing.T) {
	for _, c := range []struct {
		from *endless
		want string
	}{{&endless{size: 1}, "more than 2000 files"}, {&endless{size: 1 << 20}, "more than 16 MiB"}} {
		if _, err := Fetch(t.Context(), c.from, nil, "x"); err == nil || !strings.Contains(err.Error(), c.want) || c.from.asked > 2001 {
			t.Errorf("%v after %d questions, want %q", err, c.from.asked, c.want)
		}
	}
	liar := &shelf{files: []*descriptorpb.FileDescriptorProto{{Name: proto.String("a"), Package: proto.String("p"), Dependency: []string{"b"}, Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("S")}}}}}
	if _, err := Fetch(t.Context(), &lying{liar}, nil, "p.S"); err == nil || !strings.Contains(err.Error(), "the answer doesn't have it") {
		t.Errorf("an answer with another file: %v", err)
	}
}

// lying answers each question for a file with the same one.
type lying struct{ *shelf }

func (l *lying) File(context.Context, string) ([][]byte, error) {
	return l.answer(func(*descriptorpb.FileDescriptorProto) bool { return true })
}

func FuzzParse(f *testing.F) {
	set := shopSet(f, shopFiles(f))
	f.Add(set)
	f.Add(zipped(set))
	f.Add(set[:200])
	f.Add([]byte{})
	f.Add(shopSet(f, []*descriptorpb.FileDescriptorProto{aFile(f, clock)}))
	f.Add(shopSet(f, []*descriptorpb.FileDescriptorProto{aFile(f, `name: "a" package: "google.protobuf" message_type: {name: "Any"} message_type: {name: "Struct"} enum_type: {name: "NullValue" value: {name: "A" number: 0}}`)}))
	f.Add(shopSet(f, []*descriptorpb.FileDescriptorProto{aFile(f, `name: "a" syntax: "editions" edition: EDITION_2023 options: {features: {field_presence: LEGACY_REQUIRED message_encoding: DELIMITED}}
		message_type: {name: "M" field: {name: "m" number: 1 type: TYPE_MESSAGE type_name: ".M" label: LABEL_OPTIONAL} field: {name: "b" number: 2 type: TYPE_BYTES default_value: "\\001" label: LABEL_OPTIONAL} extension_range: {start: 100 end: 200}}
		extension: {name: "x" number: 100 type: TYPE_ENUM type_name: "E" extendee: "M" label: LABEL_REPEATED options: {packed: true}} enum_type: {name: "E" value: {name: "A" number: 0}}
		service: {name: "S" method: {name: "Get" input_type: ".M" output_type: "M"}}`)}))
	f.Fuzz(func(_ *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		s.files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
			for i := range file.Messages().Len() {
				use(Message{file.Messages().Get(i), s})
			}
			return true
		})
		for _, name := range s.Services() {
			_, _ = s.Method("/" + name + "/Get") // it may not have one
		}
	})
}

// use converts messages of a type, of which many are none.
func use(of Message) {
	var wire, text []byte
	text = append(text, '{')
	fields := of.descriptor.Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		wire = protowire.AppendVarint(protowire.AppendTag(wire, f.Number(), protowire.VarintType), 1)
		wire = protowire.AppendString(protowire.AppendTag(wire, f.Number(), protowire.BytesType), "\x08\x01")
		text = fmt.Appendf(text, `%q:[{"":1},%[1]q,1,null,{}],`, f.JSONName())
		for _, value := range []string{`{}`, `{"a":{}}`, `[]`, `[{}]`, `1`, `"1"`, `null`, `true`, `[1,2]`, `["A"]`, `"A"`} {
			_, _ = read(JSON{}, of, fmt.Sprintf(`{%q:%s}`, f.JSONName(), value)) // the outcome doesn't matter here
		}
	}
	for _, b := range [][]byte{nil, wire, []byte("\x08\x01"), []byte("\x0a\x00"), []byte("\x0b\x0c")} {
		for _, j := range []JSON{{}, {Defaults: true, ProtoNames: true}} {
			_, _ = j.Write(nil, of, b, new(Unknowns))
			_, _ = j.WriteCost(of, b)
		}
	}
	_, _ = read(JSON{}, of, string(append(text, '}')))
}
