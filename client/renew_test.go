package client

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
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
		<-time.After(step)
	}
	return nil
}

// A tokenFunc is a source that is told how often it was asked.
type tokenFunc func(ctx context.Context, asked int) (string, time.Time, error)

// inGuarded runs body in a bubble, with a client of a culvert whose Authenticator is a guard.
func inGuarded(t *testing.T, way Way, source tokenFunc, body func(t *testing.T, c *Client, asked *atomic.Int64)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c, asked := guardedBy(t, guard.Guard{}, way, source)
		body(t, c, asked)
	})
}

// guardedBy returns a client of a culvert in memory, and how often its source of tokens was asked.
func guardedBy(t *testing.T, by bridge.Authenticator, way Way, source tokenFunc) (*Client, *atomic.Int64) {
	t.Helper()
	places := parts.Places{}
	authority := startEdgeWith(t, places, bridge.Config{Authenticator: by}, parts.Echo)
	asked := new(atomic.Int64)
	c, err := NewClient("https://edge.test", WithProxy("none"), WithTLS(&tls.Config{RootCAs: authority.Pool}), WithWay(way),
		WithGRPC(grpc.WithDefaultCallOptions(grpc.ForceCodecV2(parts.BytesCodec{}))),
		func(d *Dialer) error { d.net.Dialer = places.Dial; return nil },
		WithTokenSource(func(ctx context.Context) (string, time.Time, error) { return source(ctx, int(asked.Add(1))) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // a second Close is an error
	return c, asked
}

func TestStreamInAWebSocketOutlivesItsTokens(t *testing.T) {
	hourly := func(context.Context, int) (string, time.Time, error) {
		return guard.Token("ada", time.Now().Add(time.Hour)), time.Time{}, nil
	}
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

// TestTokensThatCantBeRenewed: the stream runs until the token expires that it has, and the status tells why.
func TestTokensThatCantBeRenewed(t *testing.T) {
	refusal := func(c guard.Claims) func(context.Context, int) (string, error) {
		return func(context.Context, int) (string, error) { return c.Token(), nil }
	}
	later := 1e10
	for name, test := range map[string]struct {
		next func(ctx context.Context, asked int) (string, error)
		err  string // in the status; "": none
	}{
		"refused":          {refusal(guard.Claims{Sub: "ada", Exp: later, Code: codes.Unauthenticated}), "the token says so"},
		"another caller's": {refusal(guard.Claims{Sub: "eve", Exp: later}), "the new credential is that of another identity"},
		"unavailable":      {refusal(guard.Claims{Sub: "ada", Exp: later, Code: codes.Unavailable}), "the token says so"},
		"judged for ever":  {refusal(guard.Claims{Sub: "ada", Exp: later, Hang: true}), "deadline"},
		"the source fails": {func(context.Context, int) (string, error) { return "", errors.New("logged out") }, "logged out"},
		"the source hangs": {func(ctx context.Context, _ int) (string, error) { <-ctx.Done(); return "", ctx.Err() }, "deadline"},
		"nothing newer":    {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var first string
			source := func(ctx context.Context, asked int) (string, time.Time, error) {
				if asked == 1 {
					first = guard.Token("ada", time.Now().Add(time.Hour))
				}
				if asked <= 2 || test.next == nil { // for the connection, and for the call
					return first, time.Time{}, nil
				}
				token, err := test.next(ctx, asked)
				return token, time.Time{}, err
			}
			inGuarded(t, WebSocket, source, func(t *testing.T, c *Client, _ *atomic.Int64) {
				began := time.Now()
				err := converseFor(t.Context(), c, 2*time.Hour, time.Second)
				if took := time.Since(began); status.Code(err) != codes.Unauthenticated || took < time.Hour || took > time.Hour+3*time.Second {
					t.Errorf("the stream ended after %v with %v", took, err)
				}
				if info := parts.ErrorInfo(t, status.Convert(err)); info.GetReason() != "TOKEN_EXPIRED" {
					t.Errorf("the reason is %s", info.GetReason())
				}
				switch got := c.Status().TokenErr; {
				case test.err == "" && got != nil:
					t.Errorf("the status has the error %v", got)
				case test.err != "" && (got == nil || !strings.Contains(got.Error(), test.err)):
					t.Errorf("the status has the error %v, want %q", got, test.err)
				}
			})
		})
	}
}

// TestTokenIsRenewedAfterFailures: whatever failed before, a newer token in time goes on.
func TestTokenIsRenewedAfterFailures(t *testing.T) {
	bad := []guard.Claims{
		{Sub: "ada", Exp: 1e10, Code: codes.Unavailable},
		{Sub: "ada", Exp: 1e10, Code: codes.Unauthenticated},
		{Sub: "ada", Exp: 1e10, Code: codes.Unauthenticated},
		{Sub: "eve", Exp: 1e10},
		{Sub: "ada", Exp: 1e10, Hang: true},
	}
	source := func(_ context.Context, asked int) (string, time.Time, error) {
		switch i := asked - 3; {
		case i < 0:
			return guard.Token("ada", time.Now().Add(time.Hour)), time.Time{}, nil
		case i < len(bad):
			return bad[i].Token(), time.Time{}, nil
		}
		return guard.Token("ada", time.Now().Add(5*time.Hour)), time.Time{}, nil
	}
	inGuarded(t, WebSocket, source, func(t *testing.T, c *Client, asked *atomic.Int64) {
		if err := converseFor(t.Context(), c, 4*time.Hour, 10*time.Second); err != nil {
			t.Error(err)
		}
		if n := asked.Load(); int(n) != len(bad)+3 {
			t.Errorf("the source was asked %d times", n)
		}
		if err := c.Status().TokenErr; err != nil {
			t.Errorf("the status has the error %v", err)
		}
	})
}

// A plainGuard judges no connections, as an edge that doesn't know refreshMethod.
type plainGuard struct{ bridge.Authenticator }

func TestEdgeThatTakesNoTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, asked := guardedBy(t, plainGuard{guard.Guard{}}, WebSocket, func(context.Context, int) (string, time.Time, error) {
			return guard.Token("ada", time.Now().Add(time.Hour)), time.Time{}, nil
		})
		if err := converseFor(t.Context(), c, 2*time.Hour, time.Second); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%v", err)
		}
		if err := converseFor(t.Context(), c, time.Minute, time.Second); err != nil {
			t.Error(err)
		}
		if n, err := asked.Load(), c.Status().TokenErr; n != 4 || err != nil { // connection, call, renewal, call
			t.Errorf("the source was asked %d times, and the status has the error %v", n, err)
		}
	})
}

// TestConnectionLostWhileATokenIsRenewed: its stream ends, and the tokens of the next connection's are
// renewed.
func TestConnectionLostWhileATokenIsRenewed(t *testing.T) {
	source := func(_ context.Context, asked int) (string, time.Time, error) {
		if asked == 3 {
			return guard.Claims{Sub: "ada", Exp: 1e10, Hang: true}.Token(), time.Time{}, nil
		}
		return guard.Token("ada", time.Now().Add(time.Hour)), time.Time{}, nil
	}
	inGuarded(t, WebSocket, source, func(t *testing.T, c *Client, asked *atomic.Int64) {
		ended := make(chan error, 1)
		go func() { ended <- converseFor(t.Context(), c, 2*time.Hour, time.Second) }()
		for asked.Load() < 3 {
			parts.Elapse(time.Second)
		}
		for _, conn := range c.d.those(func(*conn) bool { return true }) {
			_ = conn.Close() // it may be closed
		}
		if err := <-ended; status.Code(err) != codes.Unavailable {
			t.Errorf("the first stream ended with %v", err)
		}
		if err := converseFor(t.Context(), c, 4*time.Hour, 10*time.Second); err != nil {
			t.Error(err)
		}
	})
}

// TestTokenComesSoonAfterExpiry: an edge whose clock is late, or that closes no streams, gets it within seconds.
func TestTokenComesSoonAfterExpiry(t *testing.T) {
	var back time.Time // when the source has tokens again
	var gave time.Duration
	source := func(_ context.Context, asked int) (string, time.Time, error) {
		now := time.Now()
		if asked > 2 && now.Before(back) {
			return "", time.Time{}, errors.New("no network")
		}
		if asked > 2 && gave == 0 {
			gave = now.Sub(back)
		}
		return guard.Claims{Sub: "ada", Exp: 1e10}.Token(), now.Add(time.Hour), nil
	}
	inGuarded(t, WebSocket, source, func(t *testing.T, c *Client, asked *atomic.Int64) {
		back = time.Now().Add(time.Hour + 6*time.Second)
		if err := converseFor(t.Context(), c, time.Hour+10*time.Minute, time.Second); err != nil {
			t.Error(err)
		}
		if gave > 3*time.Second {
			t.Errorf("it gave a token only after %v", gave)
		}
		if err := c.Status().TokenErr; err != nil || asked.Load() < 4 {
			t.Errorf("asked %d times, the status has the error %v", asked.Load(), err)
		}
	})
}

// TestUnaryCallsNeedNoRenewal: each brings its own token.
func TestUnaryCallsNeedNoRenewal(t *testing.T) {
	source := func(context.Context, int) (string, time.Time, error) {
		return guard.Token("ada", time.Now().Add(20*time.Second)), time.Time{}, nil
	}
	inGuarded(t, WebSocket, source, func(t *testing.T, c *Client, asked *atomic.Int64) {
		for range 3 {
			if err := c.Invoke(t.Context(), "/a.B/Echo", []byte("x"), new([]byte)); err != nil {
				t.Fatal(err)
			}
			parts.Elapse(30 * time.Second)
		}
		if n := asked.Load(); n != 4 { // with the connection
			t.Errorf("the source was asked %d times", n)
		}
	})
}

// TestBetterWayWaitsForStreamsWithTokens: in a connection that is retired, no token can be renewed.
func TestBetterWayWaitsForStreamsWithTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := inMemory(t, parts.Places{})
		d.watches = true
		r := d.renewals.add()
		if d.needs(nil) || d.needs(r) {
			t.Error("without calls, it waits")
		}
		defer d.beginCall()()
		if d.needs(r) {
			t.Error("without a token that expires, it waits")
		}
		d.renewals.begin(time.Now().Add(time.Hour))
		if !d.needs(r) {
			t.Error("it doesn't wait")
		}
		d.renewals.take(r)
		if !d.needs(r) {
			t.Error("while the edge gets a newer token, it doesn't wait")
		}
		d.renewals.end(r, time.Time{}, false)
		if d.needs(r) {
			t.Error("for a token without an end, it waits")
		}
	})
}

// TestBetterWayWaitsForStreamsThatBeginMeanwhile: a try takes time, and streams may begin in it.
func TestBetterWayWaitsForStreamsThatBeginMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places := parts.Places{}
		authority := startEdgeIn(t, places, parts.Echo)
		ends := make(chan func(), 1) // of the call
		d, err := NewDialer("https://edge.test", WithProxy("none"), WithTLS(&tls.Config{RootCAs: authority.Pool}), func(d *Dialer) error {
			d.net.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
				if d.calls.Load() == 0 && len(ends) == 0 {
					ends <- d.beginCall()
					d.renewals.begin(time.Now().Add(time.Hour))
				}
				return places.Dial(ctx, network, address)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		d.watches = true
		near, far := net.Pipe()
		defer far.Close()
		c := newConn(near, WebSocket, nil)
		defer c.Close()
		c.renewal = d.renewals.add()
		var work sync.WaitGroup
		defer work.Wait()
		work.Go(func() { d.improve(c) })
		parts.Elapse(d.o.improveAfter + time.Second)
		if d.calls.Load() == 0 || c.retired.Load() {
			t.Errorf("%d calls run, and the connection is retired: %v", d.calls.Load(), c.retired.Load())
		}
		(<-ends)()
		ends <- nil // no other one begins
		parts.Elapse(2*d.o.improveAfter + time.Second)
		if !c.retired.Load() {
			t.Error("without calls, the better way isn't taken")
		}
	})
}

func TestExpiry(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	token := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
	}
	hour := now.Add(time.Hour)
	for _, test := range []struct {
		token string
		want  time.Time
	}{
		{token(`{"exp":1800003600}`), hour},
		{token(`{"exp":1800003600,"iat":1799999990}`), hour},
		{token(`{"exp":1800003600.5}`), hour.Add(time.Second / 2)},
		{token(`{"exp":1799990000,"iat":1799986400}`), hour}, // this clock is ahead
		{token(`{"exp":1800093600,"iat":1800090000}`), hour}, // or behind
		{token(`{"exp":1799990000}`), time.Unix(1_799_990_000, 0)},
		{token(`{"exp":1800003600,"iat":1e300}`), hour},
		{token(`{"exp":"1800003600"}`), time.Time{}},
		{token(`{"exp":-1}`), time.Time{}},
		{token(`{"exp":1e300}`), time.Time{}},
		{token(`{}`), time.Time{}},
		{token(`[]`), time.Time{}},
		{"e30." + strings.Repeat("e", maxToken) + ".c2ln", time.Time{}},
		{"opaque", time.Time{}},
		{"", time.Time{}},
		{"a.b", time.Time{}},
		{"a.b.c", time.Time{}},
		{"a.e30.c.d.e", time.Time{}},
	} {
		if got := expiry(test.token, now); !got.Equal(test.want) {
			t.Errorf("%.80s: %v, want %v", test.token, got, test.want)
		}
	}
}

func FuzzExpiry(f *testing.F) {
	f.Add("e30.eyJleHAiOjE4MDAwMDM2MDAsImlhdCI6MX0.c2ln", int64(1_800_000_000))
	f.Add("e30.eyJleHAiOjFlMTF9.c2ln", int64(0))
	f.Add("a.b.c", int64(5))
	f.Fuzz(func(t *testing.T, token string, at int64) {
		now := time.Unix(at%1e11, 0)
		got := expiry(token, now)
		if got.IsZero() {
			return
		}
		if due := renewalTime(now, got); due.After(now.Add(never)) || got.After(now) && (due.Before(now) || due.After(got)) {
			t.Errorf("%q expires at %v, and is renewed at %v; now it is %v", token, got, due, now)
		}
	})
}
