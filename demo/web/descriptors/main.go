// Command descriptors writes the descriptors for generating the page's
// TypeScript: the demo's service, and google.rpc's status and error details. See
// demo/generate.sh.
package main

import (
	"fmt"
	"os"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/culvert-grpc/culvert/demo/demopb"
)

func main() {
	var set descriptorpb.FileDescriptorSet
	written := map[string]bool{}
	for _, file := range []protoreflect.FileDescriptor{
		status.File_google_rpc_status_proto,
		errdetails.File_google_rpc_error_details_proto,
		demopb.File_demo_demopb_demo_proto,
	} {
		add(&set, written, file)
	}
	out, err := proto.Marshal(&set)
	if err == nil {
		_, err = os.Stdout.Write(out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "descriptors:", err)
		os.Exit(1)
	}
}

// add appends a file after its imports, as protoc requires.
func add(set *descriptorpb.FileDescriptorSet, written map[string]bool, file protoreflect.FileDescriptor) {
	if written[file.Path()] {
		return
	}
	written[file.Path()] = true
	for i := range file.Imports().Len() {
		add(set, written, file.Imports().Get(i).FileDescriptor)
	}
	set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
}
