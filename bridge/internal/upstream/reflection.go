package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/descriptor"
)

// ErrNoReflection reports that the backend doesn't offer gRPC server reflection.
var ErrNoReflection = errors.New("the backend has no server reflection")

// Services asks the backend for the names of its services, by server reflection. It
// waits for a backend that isn't up yet until the context ends.
func (u *Upstream) Services(ctx context.Context) (names []string, err error) {
	err = u.reflect(ctx, true, func(r *reflectionStream) error {
		services, err := r.services()
		names = slices.Collect(maps.Keys(services))
		return err
	})
	return names, err
}

// Descriptors asks the backend for the descriptors of services or message types, by
// server reflection. It waits like Services.
func (u *Upstream) Descriptors(ctx context.Context, symbols ...string) (set *descriptor.Set, err error) {
	err = u.reflect(ctx, true, func(r *reflectionStream) (err error) {
		set, err = descriptor.Fetch(ctx, r, nil, symbols...)
		return err
	})
	return set, err
}

// The paths of server reflection. The messages are the same; older servers have only the
// second. https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
var reflectionPaths = []string{
	reflectionpb.ServerReflection_ServerReflectionInfo_FullMethodName,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
}

// reflect opens a stream of server reflection for some questions. If it doesn't wait for a
// connection when attempts fail, the error is a *report.Fault then, as a call's.
func (u *Upstream) reflect(ctx context.Context, wait bool, questions func(*reflectionStream) error) error {
	for _, path := range reflectionPaths {
		err := u.reflectAt(ctx, path, wait, questions)
		if status.Code(err) != codes.Unimplemented {
			return err
		}
	}
	return ErrNoReflection
}

func (u *Upstream) reflectAt(ctx context.Context, path string, wait bool, questions func(*reflectionStream) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := u.cc.NewStream(ctx, &reflectionpb.ServerReflection_ServiceDesc.Streams[0], path,
		grpc.ForceCodecV2(reflectionCodec{protoCodec()}), grpc.MaxCallRecvMsgSize(min(maxAnswer, u.limit.Bytes)), grpc.WaitForReady(wait))
	switch {
	case err != nil && !wait:
		return noConnection(causeOf(err))
	case err != nil && ctx.Err() != nil:
		if why := u.pool.lastFailure(); why != nil {
			err = status.Error(status.Code(err), why.Error())
		}
	case err == nil:
		err = questions(&reflectionStream{stream})
	}
	if err != nil {
		return fmt.Errorf("server reflection: %w", whyUseless(err))
	}
	// Let the backend end the call, as in any call: otherwise it would see a
	// cancelled one.
	_ = stream.CloseSend()                    // an error shows in RecvMsg, and the answers have arrived
	_ = stream.RecvMsg(new(reflectionAnswer)) // the answers have arrived
	return nil
}

// whyUseless returns the cause of an error of grpc-go. Errors about the answers stay.
func whyUseless(err error) error {
	if _, missing := errors.AsType[*descriptor.MissingFileError](err); missing {
		return err
	}
	if _, ofCall := status.FromError(err); ofCall {
		return causeOf(err)
	}
	return err
}

// A reflectionStream is a stream of server reflection. It implements descriptor.Source.
type reflectionStream struct{ stream grpc.ClientStream }

func (r *reflectionStream) ask(question *reflectionpb.ServerReflectionRequest) (*reflectionAnswer, error) {
	answer := new(reflectionAnswer)
	if err := r.stream.SendMsg(question); err != nil { // io.EOF: RecvMsg has the status
		return nil, r.stream.RecvMsg(answer)
	}
	if err := r.stream.RecvMsg(answer); err != nil {
		return nil, err
	}
	if answer.failed {
		return nil, errors.New(cmp.Or(answer.failure, "the backend gives no reason"))
	}
	return answer, nil
}

// services returns the names of the services.
func (r *reflectionStream) services() (map[string]bool, error) {
	answer, err := r.ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	if err != nil {
		return nil, err
	}
	if answer.services == nil {
		return map[string]bool{}, nil
	}
	return answer.services, nil
}

// FilesOf implements descriptor.Source. The context is the stream's.
func (r *reflectionStream) FilesOf(_ context.Context, symbol string) ([][]byte, error) {
	return r.files(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol}})
}

// FilesOfExtension implements descriptor.Source.
func (r *reflectionStream) FilesOfExtension(_ context.Context, message string, number int32) ([][]byte, error) {
	return r.files(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingExtension{
		FileContainingExtension: &reflectionpb.ExtensionRequest{ContainingType: message, ExtensionNumber: number},
	}})
}

// File implements descriptor.Source.
func (r *reflectionStream) File(_ context.Context, name string) ([][]byte, error) {
	return r.files(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileByFilename{FileByFilename: name}})
}

func (r *reflectionStream) files(question *reflectionpb.ServerReflectionRequest) ([][]byte, error) {
	answer, err := r.ask(question)
	if err != nil {
		return nil, err
	}
	return answer.files, nil
}

// protoCodec returns grpc-go's own codec. An upstream's connection has another one.
func protoCodec() encoding.CodecV2 { return encoding.GetCodecV2("proto") }
