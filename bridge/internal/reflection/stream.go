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
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/internal/descriptor"
)

// ErrNoReflection reports that the backend doesn't offer gRPC server reflection.
var ErrNoReflection = errors.New("the backend has no server reflection")

// Services asks the backend for the names of its services, by server reflection. It
// waits for a backend that isn't up yet until the context ends.
func (b *Book) Services(ctx context.Context) (names []string, err error) {
	err = b.reflect(ctx, true, func(r descriptor.Reflection) error {
		services, err := r.Services(ctx)
		names = slices.Collect(maps.Keys(services))
		return err
	})
	return names, err
}

// Descriptors asks the backend for the descriptors of services or message types, by
// server reflection. It waits like Services.
func (b *Book) Descriptors(ctx context.Context, symbols ...string) (set *descriptor.Set, err error) {
	err = b.reflect(ctx, true, func(r descriptor.Reflection) (err error) {
		set, err = descriptor.Fetch(ctx, r, nil, symbols...)
		return err
	})
	return set, err
}

// reflect opens a stream for some questions, as Backend.Open does.
func (b *Book) reflect(ctx context.Context, wait bool, questions func(descriptor.Reflection) error) error {
	for _, path := range []string{descriptor.ReflectionV1, descriptor.ReflectionV1Alpha} {
		err := b.reflectAt(ctx, path, wait, questions)
		if status.Code(err) != codes.Unimplemented {
			return err
		}
	}
	return ErrNoReflection
}

func (b *Book) reflectAt(ctx context.Context, path string, wait bool, questions func(descriptor.Reflection) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	s, err := b.backend.Open(ctx, path, wait, grpc.ForceCodecV2(codec{encoding.GetCodecV2("proto")}), grpc.MaxCallRecvMsgSize(b.limit))
	switch {
	case err == nil:
		err = questions(asking(s))
	case !wait:
		return err
	}
	if err != nil {
		return fmt.Errorf("server reflection: %w", b.whyUseless(err))
	}
	// Let the backend end the call, as in any call: otherwise it would see a
	// cancelled one.
	_ = s.CloseSend()                                // an error shows in RecvMsg, and the answers have arrived
	_ = s.RecvMsg(func([]byte) error { return nil }) // the answers have arrived
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

// asking asks on a stream of server reflection, whose context is that of the questions.
func asking(on grpc.ClientStream) descriptor.Reflection {
	return func(_ context.Context, question []byte, read func([]byte) error) error {
		if err := on.SendMsg(question); err != nil { // io.EOF: RecvMsg has the status
			return cmp.Or(on.RecvMsg(read), err)
		}
		return on.RecvMsg(read)
	}
}

// codec writes a question, a []byte, and has a func([]byte) error read an answer.
type codec struct{ encoding.CodecV2 }

// Marshal returns a question.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

// Unmarshal reads an answer.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	b := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer b.Free()
	return v.(func([]byte) error)(b.ReadOnlyData())
}
