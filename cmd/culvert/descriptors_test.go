package main

import (
	"os"

	"github.com/rogpeppe/go-internal/testscript"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/internal/parts/script"
)

// descriptors writes the descriptors of the backend's services.
func descriptors(ts *testscript.TestScript, neg bool, args []string) {
	script.WantArgs(ts, neg, args, 0, "descriptors")
	for name, file := range map[string]protoreflect.FileDescriptor{"testing.binpb": testpb.File_grpc_testing_test_proto, "health.binpb": healthpb.File_grpc_health_v1_health_proto} {
		data, err := cmdtest.DescriptorSet(file)
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(name), data, 0o600))
	}
}
