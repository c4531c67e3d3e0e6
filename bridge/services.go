package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

// ErrNoReflection says that the backend doesn't offer gRPC server reflection.
var ErrNoReflection = errors.New("the backend has no server reflection")

// Services asks the backend, by server reflection, which services it offers,
// and returns, sorted, the open ones, of which calls may cross, and the unnamed
// ones: AllowMethods keeps those out although DenyMethods doesn't name them. The
// unnamed leave out reflection, health and what shows a backend's inside. It waits
// for a backend that isn't there yet until the context ends.
func (s *Server) Services(ctx context.Context) (open, unnamed []string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	cc := s.router.only.cc
	stream, err := reflectionpb.NewServerReflectionClient(cc).ServerReflectionInfo(ctx, grpc.ForceCodecV2(protoCodec()), grpc.WaitForReady(true))
	if err != nil {
		return nil, nil, reflectionError(err)
	}
	ask := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(ask); err != nil { // io.EOF: Recv has the status
		_, err = stream.Recv()
		return nil, nil, reflectionError(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		return nil, nil, reflectionError(err)
	}
	if e := answer.GetErrorResponse(); e != nil {
		return nil, nil, fmt.Errorf("server reflection: %s", e.GetErrorMessage())
	}
	for _, service := range answer.GetListServicesResponse().GetService() {
		name := service.GetName()
		switch {
		case s.exposes(name):
			open = append(open, name)
		case !s.leavesOut(name):
			unnamed = append(unnamed, name)
		}
	}
	slices.Sort(open)
	slices.Sort(unnamed)
	// The end is the backend's, as in any call: else it would see a cancelled one.
	_ = stream.CloseSend() // an error shows in Recv, and the answer is there
	_, _ = stream.Recv()
	return open, unnamed, nil
}

// leavesOut reports whether the service is kept out on purpose: DenyMethods names
// it, or it is one that a gRPC server offers beside its own.
func (s *Server) leavesOut(service string) bool {
	return matchesService(s.router.policy.deny, service) || matchesService(deniedUnlessAllowed, service) || matchesService(ofServers, service)
}

// ofServers are services that a gRPC server offers beside its own.
var ofServers = []string{"grpc.health.*/*", "grpc.reflection.*/*"}

// exposes reports whether some method of the service can be called.
func (s *Server) exposes(service string) bool {
	p := s.router.policy
	if p.allows("/" + service + "/*") {
		return true
	}
	return matchesService(p.allow, service) && !matchesAny(p.deny, service+"/*")
}

func reflectionError(err error) error {
	if status.Code(err) == codes.Unimplemented {
		return ErrNoReflection
	}
	return fmt.Errorf("server reflection: %w", causeOf(err))
}
