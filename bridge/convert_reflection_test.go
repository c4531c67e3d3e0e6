package bridge

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// filesOfABackend are what a backend says of itself, whatever that is. Each file is in
// the text form of protobuf.
type filesOfABackend struct {
	files []*descriptorpb.FileDescriptorProto
	calls func(grpc.ServerStream) error // that aren't reflection's
	asked atomic.Int32                  // for files
}

func reflectingFiles(t *testing.T, calls func(grpc.ServerStream) error, files ...string) *filesOfABackend {
	t.Helper()
	r := &filesOfABackend{calls: calls}
	for _, text := range files {
		file := &descriptorpb.FileDescriptorProto{}
		if err := prototext.Unmarshal([]byte(text), file); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		r.files = append(r.files, file)
	}
	return r
}

func (r *filesOfABackend) handle(ss grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(ss)
	if !strings.HasPrefix(method, "/grpc.reflection.v1.") {
		return r.calls(ss)
	}
	for {
		var data []byte
		question := &reflectionpb.ServerReflectionRequest{}
		if ss.RecvMsg(&data) != nil {
			return nil
		}
		if err := proto.Unmarshal(data, question); err != nil {
			return err
		}
		data, err := proto.Marshal(r.answer(question))
		if err != nil {
			return err
		}
		if err := ss.SendMsg(data); err != nil {
			return err
		}
	}
}

func (r *filesOfABackend) answer(question *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
	if _, list := question.GetMessageRequest().(*reflectionpb.ServerReflectionRequest_ListServices); list {
		services := &reflectionpb.ListServiceResponse{}
		for _, f := range r.files {
			for _, s := range f.GetService() {
				services.Service = append(services.Service, &reflectionpb.ServiceResponse{Name: f.GetPackage() + "." + s.GetName()})
			}
		}
		return &reflectionpb.ServerReflectionResponse{MessageResponse: &reflectionpb.ServerReflectionResponse_ListServicesResponse{ListServicesResponse: services}}
	}
	r.asked.Add(1)
	i := slices.IndexFunc(r.files, func(f *descriptorpb.FileDescriptorProto) bool {
		name, extension := question.GetFileContainingSymbol(), question.GetFileContainingExtension()
		return f.GetName() == question.GetFileByFilename() && name == "" && extension == nil ||
			slices.ContainsFunc(f.GetService(), func(s *descriptorpb.ServiceDescriptorProto) bool { return f.GetPackage()+"."+s.GetName() == name }) ||
			slices.ContainsFunc(f.GetMessageType(), func(m *descriptorpb.DescriptorProto) bool { return f.GetPackage()+"."+m.GetName() == name }) ||
			slices.ContainsFunc(f.GetExtension(), func(x *descriptorpb.FieldDescriptorProto) bool {
				return f.GetPackage()+"."+x.GetName() == name || x.GetExtendee() == "."+extension.GetContainingType() && x.GetNumber() == extension.GetExtensionNumber()
			})
	})
	if i < 0 {
		return &reflectionpb.ServerReflectionResponse{MessageResponse: &reflectionpb.ServerReflectionResponse_ErrorResponse{ErrorResponse: &reflectionpb.ErrorResponse{ErrorCode: 5, ErrorMessage: "not here"}}}
	}
	data, err := proto.Marshal(r.files[i])
	if err != nil {
		data = nil
	}
	return &reflectionpb.ServerReflectionResponse{MessageResponse: &reflectionpb.ServerReflectionResponse_FileDescriptorResponse{
		FileDescriptorResponse: &reflectionpb.FileDescriptorResponse{FileDescriptorProto: [][]byte{data}},
	}}
}

const clockFile = `
name: "clock.proto" package: "test" syntax: "proto3" dependency: "google/protobuf/timestamp.proto"
message_type: {name: "Tick" field: {name: "at" json_name: "at" number: 1 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" label: LABEL_OPTIONAL}}
service: {name: "Service" method: {name: "Method" input_type: ".test.Tick" output_type: ".test.Tick" client_streaming: true server_streaming: true}}
`

const tick = `{"at":"1970-01-01T00:00:01Z"}`

// TestReflectedFiles: what a backend says of itself costs the backend's own calls alone.
func TestReflectedFiles(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	for _, c := range []struct {
		name  string
		files []string
		code  int
		says  string
	}{
		{"without protobuf's own files", []string{clockFile}, 200, tick},
		{"a false time", []string{clockFile, `name: "google/protobuf/timestamp.proto" package: "google.protobuf"
			message_type: {name: "Timestamp" field: {name: "seconds" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL}}`}, 500, "define google.protobuf.Timestamp in another way than protobuf"},
		{"a file is missing", []string{strings.Replace(clockFile, `dependency:`, `dependency: "google/type/money.proto" dependency:`, 1)}, 415, "add google/type/money.proto to the backend's server reflection"},
		{"an edition that nobody knows", []string{strings.NewReplacer("clock.proto", "cmd/protoc-gen-go/testdata/t.proto", `syntax: "proto3"`, `syntax: "editions"`).Replace(clockFile)}, 415, "can't be used (see the log"},
	} {
		backend := reflectingFiles(t, echo, c.files...)
		address := serve(t, newServer(t, Config{Backend: Backend{Target: startBackend(t, backend.handle)}}))
		for range 2 {
			if res, body := postJSON(t, address, tick); res.StatusCode != c.code || !strings.Contains(blankless(body), blankless(c.says)) {
				t.Errorf("%s: answered %d %q, want %d %q", c.name, res.StatusCode, body, c.code, c.says)
			}
		}
	}
}

// TestWhatMessagesName and the service's file doesn't import is asked for.
func TestWhatMessagesName(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	service := `
name: "item.proto" package: "test" syntax: "proto2" dependency: "google/protobuf/any.proto"
message_type: {name: "Item" extension_range: {start: 100 end: 200}
  field: {name: "any" json_name: "any" number: 1 type: TYPE_MESSAGE type_name: ".google.protobuf.Any" label: LABEL_OPTIONAL}}
service: {name: "Service" method: {name: "Method" input_type: ".test.Item" output_type: ".test.Item" client_streaming: true server_streaming: true}}`
	note := `
name: "note.proto" package: "more" syntax: "proto2" dependency: ["item.proto"]
message_type: {name: "Note" field: {name: "text" json_name: "text" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL}}
extension: {name: "price" json_name: "price" number: 100 type: TYPE_INT32 label: LABEL_OPTIONAL extendee: ".test.Item"}`
	const aNote, aPrice = `{"any":{"@type":"type.googleapis.com/more.Note","text":"hello"}}`, `{"[more.price]":5}`
	const wireNote, wirePrice = "\x0a\x28\x0a\x1dtype.googleapis.com/more.Note\x12\x07\x0a\x05hello", "\xa0\x06\x05"
	for _, c := range []struct{ name, request, wire, reply, answer string }{
		{"a type in a request", aNote, wireNote, "", `{}`},
		{"an extension in a request", aPrice, wirePrice, "", `{}`},
		{"a type in a reply", `{}`, "", wireNote, aNote},
		{"an extension in a reply", `{}`, "", wirePrice, aPrice},
		{"protobuf's own type", `{"any":{"@type":"a/google.protobuf.Duration","value":"1s"}}`, "\x0a\x20\x0a\x1aa/google.protobuf.Duration\x12\x02\x08\x01", "", `{}`},
	} {
		got := make(chan string, 3)
		backend := reflectingFiles(t, func(ss grpc.ServerStream) error {
			var m []byte
			if err := ss.RecvMsg(&m); err != nil {
				return err
			}
			got <- string(m)
			return ss.SendMsg([]byte(c.reply))
		}, service, note)
		address := serve(t, newServer(t, Config{Backend: Backend{Target: startBackend(t, backend.handle)}}))
		for range 3 {
			if res, body := postJSON(t, address, c.request); res.StatusCode != 200 || blankless(body) != c.answer {
				t.Errorf("%s: answered %d %q, want %q", c.name, res.StatusCode, body, c.answer)
			} else if wire := await(t, "the message", got); !slices.Equal(slices.Sorted(slices.Values([]byte(wire))), slices.Sorted(slices.Values([]byte(c.wire)))) { // the fields may come in any order
				t.Errorf("%s: the backend got %q, want %q", c.name, wire, c.wire)
			}
		}
		if n := backend.asked.Load(); n > 5 { // the service, any.proto, the note, and what these import
			t.Errorf("%s: asked for %d files", c.name, n)
		}
	}
}

// TestWhatNobodyKnows is an error about the type, and asks the backend once.
func TestWhatNobodyKnows(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	const inRequest, inReply = `{"any":{"@type":"a/more.None"}}`, "\x0a\x0d\x0a\x0ba/more.None"
	service := `
name: "item.proto" package: "test" syntax: "proto3" dependency: "google/protobuf/any.proto"
message_type: {name: "Item" field: {name: "any" json_name: "any" number: 1 type: TYPE_MESSAGE type_name: ".google.protobuf.Any" label: LABEL_OPTIONAL}}
service: {name: "Service" method: {name: "Method" input_type: ".test.Item" output_type: ".test.Item" client_streaming: true server_streaming: true}}`
	backend := reflectingFiles(t, replying(nil, nil, nil, inReply), service)
	address := serve(t, newServer(t, Config{Backend: Backend{Target: startBackend(t, backend.handle)}}))
	for range 5 {
		if res, body := postJSON(t, address, inRequest); res.StatusCode != 400 || !strings.Contains(body, "the type more.None of a google.protobuf.Any is unknown") {
			t.Errorf("answered %d %q", res.StatusCode, body)
		}
		if res, body := postJSON(t, address, `{}`); res.StatusCode != 500 || !strings.Contains(body, "the type more.None of a google.protobuf.Any is unknown") || strings.Contains(body, "check that the descriptors") {
			t.Errorf("answered %d %q", res.StatusCode, body)
		}
	}
	if n := backend.asked.Load(); n > 3 {
		t.Errorf("asked for %d files", n)
	}
	for i := range 30 {
		_, _ = postJSON(t, address, `{"any":{"@type":"a/more.None`+strings.Repeat("x", i+1)+`"}}`)
	}
	if n := backend.asked.Load(); n > 13 {
		t.Errorf("asked for %d files", n)
	}
	if res, body := postJSON(t, address, `{"any":{"@type":"a/more.Another"}}`); res.StatusCode != 429 || !strings.Contains(body, "10 a minute") {
		t.Errorf("answered %d %q", res.StatusCode, body)
	}
}
