package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/internal/guard"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// converseFor sends numbered messages to an echo, one each step, until the time is over, and wants each
// one back once.
func converseFor(ctx context.Context, c grpc.ClientConnInterface, d, step time.Duration) error {
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/a.B/Echo")
	if err != nil {
		return err
	}
	for i, end := 0, time.Now().Add(d); time.Now().Before(end); i++ {
		sent := fmt.Appendf(nil, "message %d", i)
		var came []byte
		if err := errors.Join(s.SendMsg(sent), s.RecvMsg(&came)); err != nil {
			return s.RecvMsg(&came)
		}
		if string(came) != string(sent) {
			return fmt.Errorf("%q came back as %q", sent, came)
		}
		parts.Elapse(step)
	}
	return nil
}

// inGuarded runs body in a bubble, with a client of a culvert whose Authenticator is a guard.
func inGuarded(t *testing.T, way Way, source func(asked int) (string, time.Time, error), body func(t *testing.T, c *Client, asked *atomic.Int64)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		places := parts.Places{}
		authority := startEdgeWith(t, places, bridge.Config{Authenticator: guard.Guard{}}, parts.Echo)
		var asked atomic.Int64
		c, err := NewClient("https://edge.test", WithProxy("none"), WithTLS(&tls.Config{RootCAs: authority.Pool}), WithWay(way),
			WithGRPC(grpc.WithDefaultCallOptions(grpc.ForceCodecV2(parts.BytesCodec{}))),
			func(d *Dialer) error { d.net.Dialer = places.Dial; return nil },
			WithTokenSource(func(context.Context) (string, time.Time, error) { return source(int(asked.Add(1))) }))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		body(t, c, &asked)
	})
}

func TestStreamInAWebSocketOutlivesItsTokens(t *testing.T) {
	hourly := func(int) (string, time.Time, error) { return guard.Token("ada", time.Now().Add(time.Hour)), time.Time{}, nil }
	inGuarded(t, WebSocket, hourly, func(t *testing.T, c *Client, asked *atomic.Int64) {
		if err := converseFor(t.Context(), c, 4*time.Hour, 10*time.Second); err != nil {
			t.Error(err)
		}
		if n := asked.Load(); n < 6 || n > 8 { // the connection, the call, and one before each expiry
			t.Errorf("the source was asked %d times", n)
		}
		if s := c.Status(); s.TokenErr != nil {
			t.Errorf("the status has the error %v", s.TokenErr)
		}
	})
	inGuarded(t, GRPC, hourly, func(t *testing.T, c *Client, _ *atomic.Int64) {
		if err := converseFor(t.Context(), c, 4*time.Hour, 10*time.Second); status.Code(err) != codes.Unauthenticated {
			t.Errorf("by another way the stream ended with %v, want Unauthenticated", err)
		}
	})
}
