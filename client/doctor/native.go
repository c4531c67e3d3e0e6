package doctor

import (
	"context"
	"sync"

	"github.com/culvert-grpc/culvert/internal/pathservice"
)

// native examines native gRPC. Each call has a connection of its own, since whoever refuses
// one may close its connection.
func (x *examination) native(ctx context.Context) {
	if !x.h2 {
		return
	}
	f := x.try(ctx, probeHTTP2, 2*patience, func(ctx context.Context) Finding {
		return x.overHTTP2(ctx, func(c *http2Conn) Finding { return c.prove(ctx) })
	})
	if f.Result != works {
		return
	}
	var calls sync.WaitGroup
	call := func(p Probe, method string, examine func(context.Context, *call) Finding) {
		calls.Go(func() {
			x.try(ctx, p, callLimit, func(ctx context.Context) Finding { return x.callNative(ctx, method, examine) })
		})
	}
	call(probeGRPC, pathservice.Echo, unary)
	call(probeGRPCStream, pathservice.Ticks, stream)
	call(probeGRPCBidi, pathservice.Echo, bidi)
	call(probeService, pathservice.Report, x.serviceReport)
	calls.Wait()
}

// callNative makes a call on a connection of its own, and returns what examine finds.
func (x *examination) callNative(ctx context.Context, method string, examine func(context.Context, *call) Finding) Finding {
	return x.overHTTP2(ctx, func(c *http2Conn) Finding { return x.callBy(ctx, c, method, true, examine) })
}

// overHTTP2 opens a connection of HTTP/2, and returns what examine finds.
func (x *examination) overHTTP2(ctx context.Context, examine func(*http2Conn) Finding) Finding {
	conn, err := x.net.Dial(ctx, x.target, "h2")
	if err != nil {
		return finding(err)
	}
	c, err := openHTTP2(ctx, conn, x.target)
	if err != nil {
		return finding(err)
	}
	defer c.close()
	return examine(c)
}
