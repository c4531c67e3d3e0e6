package descriptor

import (
	"context"
	"strings"
	"testing"

	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// TestQuestions: as protobuf-go reads them.
func TestQuestions(t *testing.T) {
	var asked *reflectionpb.ServerReflectionRequest
	r := Reflection(func(_ context.Context, question []byte, read func([]byte) error) error {
		asked = new(reflectionpb.ServerReflectionRequest)
		if err := proto.Unmarshal(question, asked); err != nil {
			t.Errorf("%x: %v", question, err)
		}
		return read(nil)
	})
	for want, ask := range map[string]func() error{
		`list_services:""`:                        func() error { _, err := r.Services(t.Context()); return err },
		`file_containing_symbol:"shop.v1.Orders"`: func() error { _, err := r.FilesOf(t.Context(), "shop.v1.Orders"); return err },
		`file_by_filename:"shop.proto"`:           func() error { _, err := r.File(t.Context(), "shop.proto"); return err },
		`file_containing_extension:{containing_type:"shop.v1.Order" extension_number:-1}`:    func() error { _, err := r.FilesOfExtension(t.Context(), "shop.v1.Order", -1); return err },
		`file_containing_extension:{containing_type:"shop.v1.Order" extension_number:70000}`: func() error { _, err := r.FilesOfExtension(t.Context(), "shop.v1.Order", 70000); return err },
	} {
		if err := ask(); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if got := strings.ReplaceAll(asked.String(), "  ", " "); got != want {
			t.Errorf("asked %s, want %s", got, want)
		}
	}
}

// TestBloatedAnswers: reading allocates little, whatever the answer is.
func TestBloatedAnswers(t *testing.T) {
	message := func(number protowire.Number, of string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), of)
	}
	for name, wire := range map[string][]byte{
		"empty services":   message(6, strings.Repeat("\x0a\x00", 5<<20)),
		"empty files":      message(4, strings.Repeat("\x0a\x00", 5<<20)),
		"long names":       message(6, string(message(1, string(message(1, strings.Repeat("a", 2<<20)))))),
		"a cut one":        []byte("\x32\x05a"),
		"a long complaint": message(7, string(message(2, strings.Repeat("\xff", 5<<20)))),
	} {
		if n := testing.AllocsPerRun(1, func() { _ = new(reflected).read(wire) }); n > 3*maxReflectedFiles {
			t.Errorf("%s: reading took %v allocations", name, n)
		}
	}
}

// FuzzAnswer: as protobuf-go reads it, or not at all.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{"\x22\x03\x0a\x01a", "\x32\x05\x0a\x03\x0a\x01a", "\x3a\x05\x08\x05\x12\x01a", "\x32\x05a", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got reflected
		var want reflectionpb.ServerReflectionResponse
		if got.read(data) != nil || proto.Unmarshal(data, &want) != nil {
			return
		}
		if files := want.GetFileDescriptorResponse().GetFileDescriptorProto(); len(got.files) < len(files) {
			t.Errorf("%x: %d files, want %d", data, len(got.files), len(files))
		}
		for _, s := range want.GetListServicesResponse().GetService() {
			if !got.services[s.GetName()] {
				t.Errorf("%x: no service %q", data, s.GetName())
			}
		}
		if got.failed != (want.GetErrorResponse() != nil) && !got.failed {
			t.Errorf("%x: failed %v", data, got.failed)
		}
	})
}
