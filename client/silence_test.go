package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/client/internal/webcall"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/parts/box"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// awaitDistrust waits until the way is known to have gone silent.
func awaitDistrust(t testing.TB, c *Client, way Way) {
	t.Helper()
	parts.Poll(t, func() string {
		if known := recall(c.d.where(), time.Now()); known.silent != way {
			return fmt.Sprintf("the lesson is %+v", known)
		}
		return ""
	})
}

// TestSilentWay: a connection that goes silent ends its calls, and the next ones take another
// way.
func TestSilentWay(t *testing.T) {
	for _, way := range []Way{GRPC, WebSocket} {
		t.Run(string(way), func(t *testing.T) {
			t.Parallel()
			e := startEdge(t, parts.Echo)
			b := box.Start(t, box.Options{Roots: e.authority.Pool, HTTP2: true, MaxDown: 30_000})
			c := e.connect(t, WithWay(way), WithProxy(b.Proxy), WithTLS(&tls.Config{RootCAs: b.CA}))
			begun := time.Now()
			err := parts.Converse(t, c, 40, 0)
			if status.Code(errors.Unwrap(err)) != codes.Unavailable {
				t.Errorf("%v", err)
			}
			t.Log(time.Since(begun), err)
			awaitDistrust(t, c, way)
		})
	}
	// By gRPC-Web, where the edge has no heart-beats, a request on another connection finds out:
	// one for all calls.
	t.Run(string(GRPCWeb), func(t *testing.T) {
		t.Parallel()
		e := startEdge(t, echoOrNothing)
		b := box.Start(t, box.Options{Roots: e.authority.Pool, DropHeaders: []string{codec.Heartbeat}})
		c := e.connect(t, WithWay(GRPCWeb), WithProxy(b.Proxy), WithTLS(&tls.Config{RootCAs: b.CA}))
		var dials atomic.Int64
		c.d.net.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
			dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, address)
		}
		const many = 20
		var ready, all sync.WaitGroup
		ready.Add(many)
		ends := make(chan error, many)
		for i := range many {
			all.Go(func() {
				method := []string{"/a.B/Echo", "/a.B/Nothing"}[i%2]
				s, err := c.NewStream(parts.Within(t, parts.Patience), bidi, method)
				if err == nil {
					err = s.SendMsg([]byte("x"))
				}
				if err == nil && method != "/a.B/Nothing" {
					err = s.RecvMsg(new([]byte))
				}
				ready.Done()
				if err == nil {
					err = s.RecvMsg(new([]byte))
				}
				ends <- err
			})
		}
		ready.Wait()
		parts.Poll(t, func() string { // also those without an answer are on their way
			if n := seen(b, "POST /a.B/Nothing"); n < many/2 {
				return fmt.Sprintf("%d calls", n)
			}
			return ""
		})
		before := dials.Load()
		b.Silence()
		begun := time.Now()
		for range many {
			err := parts.Await(t, "the end of a call", ends)
			if st := status.Convert(err); st.Code() != codes.Unavailable || parts.ErrorInfo(t, st).GetReason() != "CONNECTION_SILENT" {
				t.Errorf("after %v: %v", time.Since(begun), err)
			}
		}
		all.Wait()
		t.Log(time.Since(begun), dials.Load()-before, "connections to find out")
		if n := dials.Load() - before; n >= many/2 {
			t.Errorf("%d new connections for %d calls", n, many)
		}
		awaitDistrust(t, c, GRPCWeb)
	})
}

// TestSilentAndOpen: the next connection takes another way, also if the silent one isn't closed yet.
func TestSilentAndOpen(t *testing.T) {
	t.Parallel()
	e := startEdge(t, parts.Echo)
	d, err := NewDialer(e.url, e.trust()...)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var taken []Way // the first one is GRPC, unless a busy machine has another one win
	for range 2 {
		opened, err := d.Dial(parts.Within(t, parts.Patience))
		if err != nil {
			t.Fatal(err)
		}
		c := opened.(*secureConn).conn
		if slices.Contains(taken, c.way) {
			t.Errorf("the way is %s again", c.way)
		}
		taken = append(taken, c.way)
		past := c.now() - int64(pingAfter+pingTimeout)
		c.read.Store(past)
		c.asked.Store(past)
		socket.Cut(c.Conn)
		if _, err := io.Copy(io.Discard, c); err == nil {
			t.Error("a connection that was cut has no error")
		}
	}
}

// TestForgottenConnection: a box forgets connections, and takes what comes on them. Only those
// end by gRPC-Web, too, and calls on new ones never notice.
func TestForgottenConnection(t *testing.T) {
	t.Parallel()
	e := startEdge(t, echoOrNothing)
	b := box.Start(t, box.Options{Roots: e.authority.Pool})
	c := e.connect(t, WithWay(GRPCWeb), WithProxy(b.Proxy), WithTLS(&tls.Config{RootCAs: b.CA}))
	ctx := parts.Within(t, parts.Patience)
	ends := make(chan error, 3)
	streams := make([]grpc.ClientStream, 0, 2)
	for _, method := range []string{"/a.B/Echo", "/a.B/Nothing"} {
		s, err := c.NewStream(ctx, bidi, method)
		if err == nil {
			err = s.SendMsg([]byte("x"))
		}
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	var reply []byte
	if err := streams[0].RecvMsg(&reply); err != nil {
		t.Fatal(err)
	}
	go func() { ends <- c.Invoke(ctx, "/a.B/Nothing", []byte("x"), new([]byte)) }()
	parts.Poll(t, func() string { // all are on their way
		if n := seen(b, "POST /a.B/Nothing"); n < 2 {
			return fmt.Sprintf("%d calls", n)
		}
		return ""
	})
	b.Forget()
	begun := time.Now()
	for _, s := range streams {
		go func() { ends <- s.RecvMsg(new([]byte)) }()
	}
	if err := c.Invoke(ctx, "/a.B/Echo", []byte("y"), &reply); err != nil || string(reply) != "y" {
		t.Errorf("a call meanwhile: %q, %v", reply, err)
	}
	for range cap(ends) {
		err := parts.Await(t, "the end of a call", ends)
		if st := status.Convert(err); st.Code() != codes.Unavailable || parts.ErrorInfo(t, st).GetReason() != "CONNECTION_SILENT" {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	}
	t.Log(time.Since(begun))
	if err := c.Invoke(ctx, "/a.B/Echo", []byte("z"), &reply); err != nil || string(reply) != "z" {
		t.Errorf("a call later: %q, %v", reply, err)
	}
}

// TestQuietStream: by gRPC-Web, a stream in which nobody says a word outlives the time-outs of
// boxes.
func TestQuietStream(t *testing.T) {
	t.Parallel()
	e := startEdge(t, parts.Echo)
	b := box.Start(t, box.Options{Roots: e.authority.Pool, Idle: 12 * time.Second})
	c := e.connect(t, WithWay(GRPCWeb), WithProxy(b.Proxy), WithTLS(&tls.Config{RootCAs: b.CA}))
	s, err := c.NewStream(parts.Within(t, parts.Patience), bidi, "/a.B/Echo")
	for i := 0; i < 2 && err == nil; i++ {
		var reply []byte
		if err = s.SendMsg([]byte("x")); err == nil {
			err = s.RecvMsg(&reply)
		}
		if err == nil && i == 0 {
			<-time.After(2 * 12 * time.Second)
		}
	}
	if err != nil {
		t.Error(err)
	}
}

func seen(b *box.Box, line string) int {
	n := 0
	for _, s := range b.Seen() {
		if s == line {
			n++
		}
	}
	return n
}

// echoOrNothing echoes, or answers nothing.
func echoOrNothing(s grpc.ServerStream) error {
	if method, _ := grpc.MethodFromServerStream(s); method == "/a.B/Nothing" {
		<-s.Context().Done()
		return s.Context().Err()
	}
	return parts.Echo(s)
}

// TestSlowBackend: a backend that answers late, or reads late, is not a path that has gone
// silent.
func TestSlowBackend(t *testing.T) {
	const slow = 22 * time.Second // more than silence takes, and than TCP's user time-out
	payload := bytes.Repeat([]byte("x"), 1<<20)
	const messages = 32 // more than the buffers on the way
	e := startEdge(t, func(s grpc.ServerStream) error {
		timer := time.NewTimer(slow)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.Context().Done():
			return s.Context().Err()
		}
		n := 0
		for {
			var m []byte
			if err := s.RecvMsg(&m); errors.Is(err, io.EOF) {
				return s.SendMsg(fmt.Append(nil, n))
			} else if err != nil {
				return err
			}
			n += len(m)
		}
	})
	for _, direct := range []bool{true, false} {
		for name, call := range map[string]func(t *testing.T, c *Client) (reply []byte, err error){
			"answers": func(t *testing.T, c *Client) (reply []byte, err error) {
				return reply, c.Invoke(parts.Within(t, parts.Patience), "/a.B/C", []byte{}, &reply)
			},
			"reads": func(t *testing.T, c *Client) (reply []byte, err error) {
				s, err := c.NewStream(parts.Within(t, parts.Patience), bidi, "/a.B/C")
				if err != nil {
					return nil, err
				}
				for range messages {
					if s.SendMsg(payload) != nil {
						break // RecvMsg tells
					}
				}
				return reply, errors.Join(s.CloseSend(), s.RecvMsg(&reply))
			},
		} {
			t.Run(fmt.Sprintf("%s, direct %v", name, direct), func(t *testing.T) {
				t.Parallel()
				opts := []Option{WithWay(GRPCWeb)}
				b := box.Start(t, box.Options{Roots: e.authority.Pool, Edge: e.address, DropHeaders: []string{codec.Heartbeat}}) // as to an edge without any
				if !direct {
					opts = append(opts, WithConnectTo(b.Address), WithTLS(&tls.Config{RootCAs: b.CA}))
				}
				c := e.connect(t, opts...)
				reply, err := call(t, c)
				if want := map[string]string{"answers": "0", "reads": fmt.Sprint(messages * len(payload))}[name]; err != nil || string(reply) != want {
					t.Errorf("%q, %v, want %s", reply, err, want)
				}
				if !direct && name == "answers" && seen(b, "POST "+webcall.EchoPath) < 4 {
					t.Errorf("two requests open the way, and further ones prove it while it is quiet: %q", slices.Compact(b.Seen()))
				}
			})
		}
	}
}
