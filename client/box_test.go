package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/parts/box"
)

// silence bounds how long a call tells nothing.
const silence = 15 * time.Second

// TestBoxes: the client finds the way that passes each box, and carries a conversation wherever
// HTTP/2, a WebSocket or a streaming POST passes. It finds another connection when the box has cut
// one.
func TestBoxes(t *testing.T) {
	for _, test := range box.Cases() {
		t.Run(test.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { behindBox(t, test) })
		})
	}
}

func behindBox(t *testing.T, test box.Case) {
	places := parts.Places{}
	authority := startEdgeIn(t, places, parts.Echo)
	test.Listener, test.Dial, test.Roots = places.Listen(t, "proxy.test:3128"), places.Dial, authority.Pool
	b := box.Start(t, test.Options)
	roots := b.CA
	if test.Tunnel {
		roots = authority.Pool
	}
	proxy := url.URL{Scheme: "http", Host: "proxy.test:3128"}
	opts := []Option{
		WithTLS(&tls.Config{RootCAs: roots}), WithGRPC(grpc.WithDefaultCallOptions(grpc.ForceCodecV2(parts.BytesCodec{}))),
		func(d *Dialer) error { d.net.Dialer = places.Dial; return nil },
	}
	if test.Asked {
		opts = append(opts, WithProxyLogin(func(_ context.Context, asks *url.URL) (user, password string, err error) {
			if asks.Host != proxy.Host {
				t.Errorf("asked for %s", asks)
			}
			return test.User, test.Password, nil
		}))
	} else if test.User != "" && test.Schemes == nil {
		proxy.User = url.UserPassword(test.User, test.Password)
	}
	c, err := NewClient("https://edge.test", append(opts, WithProxy(proxy.String()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // it is open
	begun := time.Now()
	heard := func(what string) {
		t.Helper()
		if took := time.Since(begun); took > silence {
			t.Errorf("%s took %v, want at most %v", what, took, silence)
		}
		begun = time.Now()
	}
	var reply []byte
	err = c.Invoke(parts.Within(t, parts.Patience), "/a.B/Echo", []byte("hello"), &reply)
	t.Log(time.Since(begun), err)
	heard("a unary call")
	if test.Way == "" {
		if says := status.Convert(err).Message(); status.Code(err) != codes.Unavailable || !strings.Contains(says, "no way to https://edge.test works: ") {
			t.Errorf("%v, by %+v", err, c.Status())
		}
		return
	}
	if err != nil || string(reply) != "hello" {
		t.Fatalf("a unary call: %q, %v, %+v", reply, err, c.Status())
	}
	if s := c.Status(); s.Way != Way(test.Way) || s.TwoWay == test.OneWay {
		t.Errorf("%+v, want %s", s, test.Way)
	}
	err = parts.Converse(t, c, 5, 2*test.Idle)
	if test.Idle == 0 {
		heard("a conversation")
	}
	if test.OneWay {
		if says := status.Convert(errors.Unwrap(err)).Message(); !strings.Contains(says, "requests and answers can't cross at the same time") {
			t.Errorf("a conversation: %v", err)
		}
		if err := streamIn(t, c); err != nil {
			t.Errorf("a stream of requests: %v", err)
		}
		heard("a stream of requests")
		return
	}
	if err != nil {
		t.Errorf("a conversation: %v", err)
	}
	if test.Age == 0 {
		return
	}
	s, err := c.NewStream(parts.Within(t, 2*test.Age), bidi, "/a.B/Echo")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SendMsg([]byte("x")), s.RecvMsg(&reply)); err != nil {
		t.Fatal(err)
	}
	parts.Elapse(test.Age)
	begun = time.Now()
	_ = s.SendMsg([]byte("y")) // RecvMsg tells
	if err := s.RecvMsg(&reply); status.Code(err) != codes.Unavailable {
		t.Errorf("a call that was cut: %v", err)
	}
	heard("the end of a call that was cut")
	if err := parts.Converse(t, c, 5, 0); err != nil {
		t.Errorf("a conversation after the cut: %v", err)
	}
	heard("a conversation after the cut")
}

// TestDistrustedWay: what went silent is still better than a way that streams in one direction
// at a time.
func TestDistrustedWay(t *testing.T) {
	e := startEdge(t, parts.Echo)
	b := box.Start(t, box.Options{Roots: e.authority.Pool, HoldRequests: true})
	for range 2 {
		c := e.connect(t, WithProxy(b.Proxy), WithTLS(&tls.Config{RootCAs: b.CA}))
		if err := c.Invoke(parts.Within(t, parts.Patience), "/a.B/Echo", []byte("x"), new([]byte)); err != nil || c.Status().Way != WebSocket {
			t.Fatalf("%+v, %v", c.Status(), err)
		}
		c.d.mu.Lock()
		conns := slices.Collect(maps.Keys(c.d.conns))
		c.d.mu.Unlock()
		for _, conn := range conns {
			distrust(c.d.where(), conn, time.Now())
		}
	}
}

// streamIn sends three messages without waiting, and reads three.
func streamIn(t testing.TB, c grpc.ClientConnInterface) error {
	t.Helper()
	s, err := c.NewStream(parts.Within(t, parts.Patience), bidi, "/a.B/Echo")
	if err != nil {
		return err
	}
	for i := range 3 {
		if err := s.SendMsg([]byte{byte(i)}); err != nil {
			return err
		}
	}
	_ = s.CloseSend() // RecvMsg tells
	for i := range 3 {
		var came []byte
		if err := s.RecvMsg(&came); err != nil || len(came) != 1 || came[0] != byte(i) {
			return fmt.Errorf("message %d: %v, %w", i, came, err)
		}
	}
	return nil
}
