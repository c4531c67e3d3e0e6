// Package cmdtest has what the tests of the program and of its rooms share.
package cmdtest

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/internal/parts/authority"
)

// Patience is for what takes no time: a test that waits so long has failed.
const Patience = 2 * time.Minute

// ClearEnvironment takes the CULVERT_ variables of whoever runs the tests
// away from them.
func ClearEnvironment(t *testing.T) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "CULVERT_") || strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, value) // puts it back after the test
			_ = os.Unsetenv(name) // can only fail on a malformed name
		}
	}
}

// Load reads a configuration as serve would.
func Load(t *testing.T, content string) *config.Loaded {
	t.Helper()
	ClearEnvironment(t)
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(config.Options{}, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// WritePair writes a self-signed certificate for a name, and its key.
func WritePair(t *testing.T, dir, name string) {
	t.Helper()
	pair := new(authority.Authority).Sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
	})
	if err := authority.Write(pair, filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")); err != nil {
		t.Fatal(err)
	}
}

// DescriptorSet returns what protoc writes for a file with --include_imports.
func DescriptorSet(of protoreflect.FileDescriptor) ([]byte, error) {
	all := &descriptorpb.FileDescriptorSet{}
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i))
		}
		all.File = append(all.File, protodesc.ToFileDescriptorProto(f))
	}
	add(of)
	return proto.Marshal(all)
}
