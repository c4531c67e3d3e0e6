//go:build ignore

// Writes the descriptors of what fleet.proto imports: opamp-go has opamp.proto as Go code only.
package main

import (
	"log"
	"os"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func main() {
	files, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(timestamppb.File_google_protobuf_timestamp_proto),
		protodesc.ToFileDescriptorProto(protobufs.File_anyvalue_proto),
		protodesc.ToFileDescriptorProto(protobufs.File_opamp_proto),
	}})
	if err == nil {
		_, err = os.Stdout.Write(files)
	}
	if err != nil {
		log.Fatal(err)
	}
}
