package docs

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/pluginpb"
)

// Two of protoc's plugins are binaries that their makers publish on GitHub alone:
// protoc-gen-js and protoc-gen-grpc-web. gen has what they made of the demo's
// service, built from their sources (v3.21.4 and 2.0.2). In their place the tests
// run this program: it gives protoc those files, if it is asked for them as the
// real ones were.
//
//go:embed gen
var recorded embed.FS

var recordings = map[string]struct {
	parameter string
	file      string
}{
	"protoc-gen-js":       {"import_style=commonjs,binary", "demo_pb.js"},
	"protoc-gen-grpc-web": {"import_style=commonjs,mode=grpcwebtext", "demo_grpc_web_pb.js"},
}

// linkRecordings makes this program known to protoc as the plugins.
func linkRecordings(dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for name := range recordings {
		err = errors.Join(err, os.Symlink(self, filepath.Join(dir, name)))
	}
	return err
}

// replay answers protoc, if this program was started as one of the plugins.
func replay() (asked bool, err error) {
	name := filepath.Base(os.Args[0])
	r, asked := recordings[name]
	if !asked {
		return false, nil
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return true, err
	}
	var request pluginpb.CodeGeneratorRequest
	if err := proto.Unmarshal(input, &request); err != nil {
		return true, err
	}
	text, err := recorded.ReadFile("gen/" + r.file)
	if err != nil {
		return true, err
	}
	content := string(text)
	if request.GetParameter() == strings.Replace(r.parameter, "mode=grpcwebtext", "mode=grpcweb", 1) {
		// All that the plugin's other mode changes.
		content = strings.ReplaceAll(content, "options.format = 'text'", "options.format = 'binary'")
	} else if request.GetParameter() != r.parameter {
		return true, fmt.Errorf("%s was recorded with %q, not with %q", name, r.parameter, request.GetParameter())
	}
	for _, f := range request.GetProtoFile() {
		for _, m := range f.GetMessageType() {
			if f.GetName() != "demo.proto" || name == "protoc-gen-js" && !strings.Contains(content, "proto."+f.GetPackage()+"."+m.GetName()+" = function") {
				return true, fmt.Errorf("%s was recorded without %s of %s", name, m.GetName(), f.GetName())
			}
		}
	}
	output, err := proto.Marshal(&pluginpb.CodeGeneratorResponse{
		SupportedFeatures: proto.Uint64(uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL)),
		File:              []*pluginpb.CodeGeneratorResponse_File{{Name: &r.file, Content: &content}},
	})
	if err != nil {
		return true, err
	}
	_, err = os.Stdout.Write(output)
	return true, err
}
