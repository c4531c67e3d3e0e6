package upstream

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// asked is the backend as the Book asks it. It implements reflection.Backend.
type asked struct{ u *Upstream }

func (a asked) Open(ctx context.Context, path string, wait bool, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := a.u.cc.NewStream(ctx, bidi, path, slices.Concat(a.u.options.plain, opts, []grpc.CallOption{grpc.WaitForReady(wait)})...)
	switch {
	case err != nil && !wait:
		return nil, noConnection(causeOf(err))
	case err != nil && ctx.Err() != nil:
		if why := a.u.pool.lastFailure(); why != nil {
			err = status.Error(status.Code(err), why.Error())
		}
	}
	return stream, err
}

func (asked) Cause(err error) error { return causeOf(err) }

func (a asked) Readied() int64 { return a.u.pool.readied.Load() }

func (a asked) Ready() bool { return a.u.pool.absent.Load() == 0 }
