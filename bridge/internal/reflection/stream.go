package reflection

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

	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/internal/descriptor"
)

// ErrNoReflection reports that the backend doesn't offer gRPC server reflection.
var ErrNoReflection = errors.New("the backend has no server reflection")

// Services asks the backend for the names of its services, by server reflection. It
// waits for a backend that isn't up yet until the context ends.
func (b *Book) Services(ctx context.Context) (names []string, err error) {
	err = b.reflect(ctx, true, func(r *stream) error {
		services, err := r.services()
		names = slices.Collect(maps.Keys(services))
		return err
	})
	return names, err
}

// Descriptors asks the backend for the descriptors of services or message types, by
// server reflection. It waits like Services.
func (b *Book) Descriptors(ctx context.Context, symbols ...string) (set *descriptor.Set, err error) {
	err = b.reflect(ctx, true, func(r *stream) (err error) {
		set, err = descriptor.Fetch(ctx, r, nil, symbols...)
		return err
	})
	return set, err
}

// The paths of server reflection. The messages are the same; older servers have only the
// second. https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
var paths = []string{
	reflectionpb.ServerReflection_ServerReflectionInfo_FullMethodName,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
}

// reflect opens a stream for some questions, as Backend.Open does.
func (b *Book) reflect(ctx context.Context, wait bool, questions func(*stream) error) error {
	for _, path := range paths {
		err := b.reflectAt(ctx, path, wait, questions)
		if status.Code(err) != codes.Unimplemented {
			return err
		}
	}
	return ErrNoReflection
}

func (b *Book) reflectAt(ctx context.Context, path string, wait bool, questions func(*stream) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	s, err := b.backend.Open(ctx, path, wait, grpc.ForceCodecV2(codec{encoding.GetCodecV2("proto")}), grpc.MaxCallRecvMsgSize(b.limit))
	switch {
	case err == nil:
		err = questions(&stream{s})
	case !wait:
		return err
	}
	if err != nil {
		return fmt.Errorf("server reflection: %w", b.whyUseless(err))
	}
	// Let the backend end the call, as in any call: otherwise it would see a
	// cancelled one.
	_ = s.CloseSend()          // an error shows in RecvMsg, and the answers have arrived
	_ = s.RecvMsg(new(answer)) // the answers have arrived
	return nil
}

// whyUseless returns the cause of an error of grpc-go. Errors about the answers stay.
func (b *Book) whyUseless(err error) error {
	if _, missing := errors.AsType[*descriptor.MissingFileError](err); missing {
		return err
	}
	if st, ofCall := status.FromError(err); ofCall {
		return wire.Cause(st.Message(), st)
	}
	return err
}

// A stream is a stream of server reflection. It implements descriptor.Source.
type stream struct{ of grpc.ClientStream }

func (r *stream) ask(question *reflectionpb.ServerReflectionRequest) (*answer, error) {
	a := new(answer)
	if err := r.of.SendMsg(question); err != nil { // io.EOF: RecvMsg has the status
		return nil, r.of.RecvMsg(a)
	}
	if err := r.of.RecvMsg(a); err != nil {
		return nil, err
	}
	if a.failed {
		return nil, errors.New(cmp.Or(a.failure, "the backend gives no reason"))
	}
	return a, nil
}

// services returns the names of the services.
func (r *stream) services() (map[string]bool, error) {
	a, err := r.ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	if err != nil {
		return nil, err
	}
	if a.services == nil {
		return map[string]bool{}, nil
	}
	return a.services, nil
}

// FilesOf implements descriptor.Source. The context is the stream's.
func (r *stream) FilesOf(_ context.Context, symbol string) ([][]byte, error) {
	return r.files(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol}})
}

// FilesOfExtension implements descriptor.Source.
func (r *stream) FilesOfExtension(_ context.Context, message string, number int32) ([][]byte, error) {
	return r.files(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingExtension{
		FileContainingExtension: &reflectionpb.ExtensionRequest{ContainingType: message, ExtensionNumber: number},
	}})
}

// File implements descriptor.Source.
func (r *stream) File(_ context.Context, name string) ([][]byte, error) {
	return r.files(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileByFilename{FileByFilename: name}})
}

func (r *stream) files(question *reflectionpb.ServerReflectionRequest) ([][]byte, error) {
	a, err := r.ask(question)
	if err != nil {
		return nil, err
	}
	return a.files, nil
}
