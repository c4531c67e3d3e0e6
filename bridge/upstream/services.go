package upstream

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

// ErrNoReflection reports that the backend doesn't offer gRPC server reflection.
var ErrNoReflection = errors.New("the backend has no server reflection")

// Services asks the backend for the names of its services, by server reflection. It
// waits for a backend that isn't up yet until the context ends.
func (u *Upstream) Services(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := reflectionpb.NewServerReflectionClient(u.cc).ServerReflectionInfo(ctx, grpc.ForceCodecV2(protoCodec()), grpc.WaitForReady(true))
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
		names = append(names, service.GetName())
	}
	// Let the backend end the call, as in any call: otherwise it would see a
	// cancelled one.
	_ = stream.CloseSend() // an error shows in Recv, and the answer has arrived
	_, _ = stream.Recv()
	return names, nil
}

func reflectionError(err error) error {
	if status.Code(err) == codes.Unimplemented {
		return ErrNoReflection
	}
	return fmt.Errorf("server reflection: %w", causeOf(err))
}

// protoCodec returns grpc-go's own codec. An upstream's connection has another one.
func protoCodec() encoding.CodecV2 { return encoding.GetCodecV2("proto") }
