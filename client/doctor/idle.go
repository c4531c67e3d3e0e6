package doctor

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/internal/pathservice"
	"github.com/culvert-grpc/culvert/internal/socket"
	"github.com/culvert-grpc/culvert/internal/websocket"
)

// idle leaves connections alone, or nearly, to see what ends them after how long.
func (x *examination) idle(ctx context.Context) {
	var all sync.WaitGroup
	leave := func(p Probe, how func(context.Context) Finding) {
		all.Go(func() { x.probe(ctx, p, x.o.Idle+5*patience+connectLimit+handshakeLimit, how) })
	}
	if x.earlier(probeSocketHTTP2).Result == works {
		none := func(*http2Conn, context.Context) error { return nil } // but the answers to the service's own pings
		leave(probeIdleSocket, func(ctx context.Context) Finding { return x.leaveSocket(ctx, false, none) })
		leave(probeIdlePing, func(ctx context.Context) Finding { return x.leaveSocket(ctx, true, none) })
		leave(probeIdleOneWay, func(ctx context.Context) Finding { return x.leaveSocket(ctx, false, (*http2Conn).ignored) })
		leave(probeIdleAnswered, func(ctx context.Context) Finding { return x.leaveSocket(ctx, false, (*http2Conn).ping) })
	}
	// A stream of the service may be as long only with serve --doctor.
	if x.facts() != nil && x.earlier(probeGRPCBidi).Result == works {
		leave(probeIdleGRPC, func(ctx context.Context) Finding { return x.callNative(ctx, pathservice.Echo, x.leaveSilent) })
		leave(probeIdleGRPCBusy, func(ctx context.Context) Finding { return x.callNative(ctx, pathservice.Echo, x.leaveBusy) })
	}
	if x.facts() != nil && x.earlier(probeWebBidi).Result == works {
		leave(probeIdleWeb, func(ctx context.Context) Finding { return x.callBy(ctx, nil, pathservice.Echo, true, x.leaveSilent) })
		leave(probeIdleWebBusy, func(ctx context.Context) Finding { return x.callBy(ctx, nil, pathservice.Echo, true, x.leaveBusy) })
	}
	all.Wait()
}

// every is how often something passes on a connection that isn't silent.
func (x *examination) every() time.Duration {
	return min(max(x.o.Idle/24, time.Second), 5*time.Second)
}

// leaveSocket keeps a WebSocket for the time, with a sign of life now and then.
func (x *examination) leaveSocket(ctx context.Context, pings bool, sign func(*http2Conn, context.Context) error) Finding {
	c, ws, f := x.openSocket(ctx)
	if f.Result != works {
		return f
	}
	defer c.close()
	if f := c.prove(ctx); f.Result != works {
		return f
	}
	if x.facts() != nil { // else the service ends the connection after a time without a call, with GOAWAY
		s := x.open(ctx, c, pathservice.Echo, true)
		defer s.close()
		if err := x.echo(ctx, s); err != nil {
			return finding(err)
		}
	}
	lost := make(chan struct{})
	if pings {
		every := x.every()
		ws.Watch(websocket.KeepAlive{Interval: every, Timeout: every / 2, Gone: func(error) { close(lost) }})
	}
	return x.leave(ctx, c.ended, lost, c.failure, func(ctx context.Context) error { return sign(c, ctx) }, c.ping)
}

// leave waits for the time, and gives a sign of life now and then. At the end it looks
// whether the connection still lives.
func (x *examination) leave(ctx context.Context, ended, lost <-chan struct{}, why func() error, sign, alive func(context.Context) error) Finding {
	began := time.Now()
	end := time.NewTimer(x.o.Idle)
	defer end.Stop()
	tick := time.NewTicker(x.every())
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := sign(ctx); err != nil {
				return cutAfter(time.Since(began), err)
			}
		case <-ended:
			return cutAfter(time.Since(began), why())
		case <-lost:
			return cutAfter(time.Since(began), os.ErrDeadlineExceeded)
		case <-end.C:
			if err := alive(ctx); err != nil {
				f := cutAfter(x.o.Idle, err)
				if f.Result == silent {
					f.Evidence = "dead at the end, and nobody has said so"
				}
				return f
			}
			return found(works, "alive after %v", x.o.Idle)
		case <-ctx.Done():
			return finding(context.Cause(ctx))
		}
	}
}

// cutAfter returns the finding of a connection that ended.
func cutAfter(d time.Duration, err error) Finding {
	f := finding(err)
	switch {
	case errors.Is(err, errGoAway):
		return found(unknown, "after %v the service itself ended it, with GOAWAY", round(d))
	case f.Result == unknown:
		return f // the service itself ended it
	case f.Result == silent:
		f.Evidence = "no answer any more"
	default:
		f.Result = cut
	}
	f.After = d
	f.Evidence = "after " + round(d).String() + ": " + f.Evidence
	return f
}

// echo sends a message, and waits for it.
func (x *examination) echo(ctx context.Context, c *call) error {
	if err := c.send(payload(0)); err != nil {
		return err
	}
	_, err := within(ctx, patience, c)
	return err
}

// leaveBusy keeps a call, with an echo now and then.
func (x *examination) leaveBusy(ctx context.Context, c *call) Finding {
	echo := func(ctx context.Context) error { return x.echo(ctx, c) }
	if err := echo(ctx); err != nil {
		return finding(err)
	}
	return x.leave(ctx, nil, nil, nil, echo, echo)
}

// leaveSilent keeps a call without a message.
func (x *examination) leaveSilent(ctx context.Context, c *call) Finding {
	if err := x.echo(ctx, c); err != nil {
		return finding(err)
	}
	began := time.Now()
	_, err := within(ctx, x.o.Idle, c) // nothing comes but the end
	switch {
	case socket.TimedOut(err):
	case errors.Is(err, io.EOF):
		return cutAfter(time.Since(began), &ending{result: cut, err: errors.New("the call ended")})
	case err != nil:
		return cutAfter(time.Since(began), err)
	}
	if err := x.echo(ctx, c); err != nil {
		return cutAfter(x.o.Idle, err)
	}
	return found(works, "alive after %v", x.o.Idle)
}
