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
// and returns those of which calls may cross, sorted. It waits for a backend
// that isn't there yet until the context ends.
func (s *Server) Services(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	cc := s.router.only.cc
	stream, err := reflectionpb.NewServerReflectionClient(cc).ServerReflectionInfo(ctx, grpc.ForceCodecV2(protoCodec()), grpc.WaitForReady(true))
	if err != nil {
		return nil, reflectionError(err)
	}
	ask := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(ask); err != nil { // io.EOF: Recv has the status
		_, err = stream.Recv()
		return nil, reflectionError(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		return nil, reflectionError(err)
	}
	if e := answer.GetErrorResponse(); e != nil {
		return nil, fmt.Errorf("server reflection: %s", e.GetErrorMessage())
	}
	var names []string
	for _, service := range answer.GetListServicesResponse().GetService() {
		if s.exposes(service.GetName()) {
			names = append(names, service.GetName())
		}
	}
	slices.Sort(names)
	return names, nil
}

// exposes holds when calls of some method of the service may cross.
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
	return fmt.Errorf("server reflection: %w", err)
}
