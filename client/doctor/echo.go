package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/culvert-grpc/culvert/internal/pathservice"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// payload returns a google.protobuf.BytesValue that no other call has.
func payload(n int) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), fmt.Appendf(nil, "culvert doctor %d", n))
}

// unary makes a call of one message each way. Any answer in gRPC makes it work: whoever answered
// speaks gRPC.
func unary(ctx context.Context, c *call) Finding {
	f := echoOnce(ctx, c)
	if f.Result == unknown && f.Answer == nil {
		f.Result = works
	}
	return f
}

func echoOnce(ctx context.Context, c *call) Finding {
	m := payload(0)
	if err := errors.Join(c.send(m), c.closeSend()); err != nil {
		return unsent(ctx, c, err)
	}
	got, err := c.receive(ctx)
	if err == nil {
		_, err = c.receive(ctx)
	}
	switch {
	case err != io.EOF: //nolint:errorlint // a call's own
		return finding(err)
	case !bytes.Equal(got, m):
		return found(failed, "another message came back")
	}
	return found(works, "")
}

// unsent returns the finding of a write that failed: what came back says more.
func unsent(ctx context.Context, c *call, err error) Finding {
	if _, received := c.receive(ctx); received != nil && received != io.EOF { //nolint:errorlint // a call's own
		err = received
	}
	return finding(err)
}

// bidi sends two messages, each after the echo of the one before, and ends then. If no
// echo comes, it ends the request, to see whether somebody holds it.
func bidi(ctx context.Context, c *call) Finding {
	for n := range 2 {
		m := payload(n)
		if err := c.send(m); err != nil {
			return unsent(ctx, c, err)
		}
		got, err := within(ctx, patience, c)
		switch {
		case socket.TimedOut(err):
			return unechoed(ctx, c, n, m)
		case err == io.EOF: //nolint:errorlint // a call's own
			return found(failed, "the call ended before its request")
		case err != nil:
			return finding(err)
		case !bytes.Equal(got, m):
			return found(failed, "another message came back")
		}
	}
	if err := c.closeSend(); err != nil {
		return unsent(ctx, c, err)
	}
	if _, err := within(ctx, patience, c); err != io.EOF { //nolint:errorlint // a call's own
		return finding(err)
	}
	return found(works, "two messages, each echoed before the next")
}

// unechoed ends a request whose echo doesn't come, and looks whether it comes now.
func unechoed(ctx context.Context, c *call, n int, m []byte) Finding {
	if n > 0 {
		return found(silent, "the first message came back, and nothing after it")
	}
	if c.closeSend() == nil {
		got, err := within(ctx, patience, c)
		switch {
		case err == nil && bytes.Equal(got, m):
			return found(held, "the echo came only when the request had ended")
		case err != nil && err != io.EOF && !socket.TimedOut(err): //nolint:errorlint // a call's own
			return finding(err) // net/http tells of some errors only then
		}
	}
	return found(silent, "no echo, also not when the request had ended")
}

// stream makes a call that the service answers over some time, and looks when the messages
// arrive.
func stream(ctx context.Context, c *call) Finding {
	if err := errors.Join(c.send(nil), c.closeSend()); err != nil {
		return unsent(ctx, c, err)
	}
	var arrivals []time.Time
	for {
		_, err := c.receive(ctx)
		if err == io.EOF { //nolint:errorlint // a call's own
			break
		}
		if err != nil {
			if socket.TimedOut(err) && len(arrivals) > 0 {
				return found(silent, "%d of %d messages came, and nothing after them", len(arrivals), pathservice.TickMessages)
			}
			return finding(err)
		}
		if arrivals = append(arrivals, time.Now()); len(arrivals) > pathservice.TickMessages {
			return finding(nil)
		}
	}
	return judgeArrivals(arrivals)
}

// judgeArrivals judges when the messages of Ticks arrived. A box that holds them lets them
// arrive together; a slow machine only spreads them more.
func judgeArrivals(arrivals []time.Time) Finding {
	if len(arrivals) != pathservice.TickMessages {
		return found(failed, "%d messages came, want %d", len(arrivals), pathservice.TickMessages)
	}
	const sent = (pathservice.TickMessages - 1) * pathservice.TickInterval
	spread := arrivals[pathservice.TickMessages-1].Sub(arrivals[0])
	if spread < sent/4 {
		return found(held, "messages sent over %v arrived within %v", sent, spread.Round(time.Millisecond))
	}
	return found(works, "%d messages over %v", pathservice.TickMessages, spread.Round(time.Millisecond))
}

func within(ctx context.Context, patience time.Duration, c *call) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return c.receive(ctx)
}
