package reflection

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	reflectionalphapb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

func TestServicesOfABackendWithoutReflection(t *testing.T) {
	address := startBackend(t, func(grpc.ServerStream) error { return status.Error(codes.Unimplemented, "unknown service") })
	b := bookOf(t, address)
	if got, err := b.Services(within(t, patience)); !errors.Is(err, ErrNoReflection) || got != nil {
		t.Errorf("got %q, %v; want %v", got, err, ErrNoReflection)
	}
}

func TestServicesOfABackendThatFails(t *testing.T) {
	for name, handle := range map[string]func(ss grpc.ServerStream) error{
		"with a status": func(grpc.ServerStream) error { return status.Error(codes.PermissionDenied, "no reflection for you") },
		"with garbage": func(ss grpc.ServerStream) error {
			if err := ss.RecvMsg(new([]byte)); err != nil {
				return err
			}
			return ss.SendMsg([]byte{0xff})
		},
		"with nothing": func(ss grpc.ServerStream) error { return ss.RecvMsg(new([]byte)) },
	} {
		address := startBackend(t, handle)
		b := bookOf(t, address)
		if got, err := b.Services(within(t, patience)); err == nil || errors.Is(err, ErrNoReflection) || got != nil || !strings.HasPrefix(err.Error(), "server reflection: ") {
			t.Errorf("%s: got %q, %v; want an error of server reflection", name, got, err)
		}
	}
}

// TestDescriptorsByReflection of either version.
func TestDescriptorsByReflection(t *testing.T) {
	const service = "grpc.reflection.v1.ServerReflection"
	for name, register := range map[string]func(*grpc.Server){
		"both": func(gs *grpc.Server) { reflection.Register(gs) },
		"v1":   func(gs *grpc.Server) { reflection.RegisterV1(gs) },
		"v1alpha": func(gs *grpc.Server) {
			reflectionalphapb.RegisterServerReflectionServer(gs, reflection.NewServer(reflection.ServerOptions{Services: gs}))
		},
	} {
		ln := listen(t, "127.0.0.1:0")
		describing(t, ln, register)
		b := bookOf(t, ln.Addr().String())
		if names, err := b.Services(within(t, patience)); err != nil || len(names) == 0 {
			t.Errorf("%s: services %q, %v", name, names, err)
		}
		set, err := b.Descriptors(within(t, patience), service)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m, err := set.Method("/" + service + "/ServerReflectionInfo"); err != nil || !m.ClientStreams || m.Reply.Name() != "grpc.reflection.v1.ServerReflectionResponse" {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
		if _, err := b.Descriptors(within(t, patience), service, "shop.v1.Orders"); err == nil || errors.Is(err, ErrNoReflection) || !strings.HasPrefix(err.Error(), "server reflection: the descriptors of shop.v1.Orders: ") {
			t.Errorf("%s: a service that isn't there: %v", name, err)
		}
	}
}

// TestBloatedAnswers: what an answer becomes in memory is bounded before it is read.
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
		address := startBackend(t, func(ss grpc.ServerStream) error {
			if err := ss.RecvMsg(new([]byte)); err != nil {
				return err
			}
			return ss.SendMsg(wire)
		})
		b := bookOf(t, address)
		if got, err := b.Services(within(t, patience)); err == nil || len(got) > 0 && name != "empty files" || len(err.Error()) > 500 {
			t.Errorf("%s: %d services, %.600v", name, len(got), err)
		}
	}
}
