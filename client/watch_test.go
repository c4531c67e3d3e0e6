package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// A path counts pings, and goes silent.
type path struct {
	net.Conn
	pings  *atomic.Int64
	silent *atomic.Bool
}

func (p path) Write(b []byte) (int, error) {
	p.pings.Add(int64(bytes.Count(b, pingFrame)))
	if p.silent.Load() {
		return len(b), nil
	}
	return p.Conn.Write(b)
}

func (p path) Read(b []byte) (int, error) {
	for {
		n, err := p.Conn.Read(b)
		if err != nil || !p.silent.Load() {
			return n, err
		}
	}
}

// TestPings: culvert is pinged while a call is quiet. grpc-go, which ends connections at the
// third ping within 5 minutes, is pinged once at most: if what was sent last has no answer. Either way
// a path that goes silent ends its calls.
func TestPings(t *testing.T) {
	const quiet = time.Hour
	for name, test := range map[string]struct {
		serve       func(testing.TB, net.Listener)
		least, most int64
	}{
		"stock":   {serveStock, 0, 1},
		"culvert": {serveCulvert, int64(quiet / pingAfter * 9 / 10), int64(quiet / pingAfter)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				places := parts.Places{}
				test.serve(t, places.Listen(t, "edge.example.com:80"))
				var pings atomic.Int64
				var silent atomic.Bool
				c, err := NewClient("http://edge.example.com", WithWay(GRPC), WithProxy("none"),
					WithGRPC(grpc.WithDefaultCallOptions(grpc.ForceCodecV2(parts.BytesCodec{}))),
					func(d *Dialer) error {
						d.net.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
							conn, err := places.Dial(ctx, network, address)
							return path{conn, &pings, &silent}, err
						}
						return nil
					})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				s, err := c.NewStream(t.Context(), bidi, "/a.B/Echo")
				if err != nil {
					t.Fatal(err)
				}
				parts.Elapse(quiet)
				if got := pings.Load(); got < test.least || got > test.most {
					t.Errorf("%d pings in %v, want %d to %d", got, quiet, test.least, test.most)
				}
				var came []byte
				if err := s.SendMsg([]byte("x")); err != nil {
					t.Fatal(err)
				}
				if err := s.RecvMsg(&came); err != nil || string(came) != "x" {
					t.Fatalf("%q, %v", came, err)
				}
				synctest.Wait()
				silent.Store(true)
				began := time.Now()
				if err := s.SendMsg([]byte("y")); err != nil {
					t.Fatal(err)
				}
				err = s.RecvMsg(&came)
				if took := time.Since(began); status.Code(err) != codes.Unavailable || took > 2*pingAfter+pingTimeout || took < pingTimeout {
					t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}

// TestSlowUpload: an upload on a slow link, behind which a ping waits, isn't silence.
func TestSlowUpload(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells what has arrived")
	}
	const size, rate = 512 << 10, 64 << 10
	ln := parts.Listen(t, "127.0.0.1:0")
	parts.ServeBackend(t, ln, func(s grpc.ServerStream) error {
		var m []byte
		if method, _ := grpc.MethodFromServerStream(s); method != "/a.B/C" {
			return status.Error(codes.Unimplemented, "unknown service")
		}
		return errors.Join(s.RecvMsg(&m), s.SendMsg(fmt.Append(nil, len(m))))
	}, grpc.InitialWindowSize(8*size), grpc.InitialConnWindowSize(8*size)) // it opens no window meanwhile
	c, err := NewClient("http://edge.test", WithWay(GRPC), WithProxy("none"), WithConnectTo(slowLink(t, ln.Addr().String(), rate)),
		WithGRPC(grpc.WithDefaultCallOptions(grpc.ForceCodecV2(parts.BytesCodec{}))))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var took time.Duration
	for _, n := range []int{1, size} { // at the second one, all settings have come
		begun := time.Now()
		var reply []byte
		err := c.Invoke(parts.Within(t, parts.Patience), "/a.B/C", make([]byte, n), &reply)
		if took = time.Since(begun); err != nil || string(reply) != fmt.Sprint(n) {
			t.Errorf("%d bytes after %v: %q, %v", n, took, reply, err)
		}
	}
	if took < pingAfter+pingTimeout {
		t.Errorf("it took only %v", took)
	}
	if known := recall(c.d.where(), time.Now()); known.silent != "" {
		t.Errorf("the lesson is %+v", known)
	}
}

// slowLink returns the address of a link to another one, which takes at most so many bytes in a
// second.
func slowLink(t testing.TB, to string, rate int) string {
	ln := parts.Listen(t, "127.0.0.1:0")
	var work sync.WaitGroup
	work.Go(func() {
		for {
			from, err := ln.Accept()
			if err != nil {
				return
			}
			_ = from.(*net.TCPConn).SetReadBuffer(8 << 10) // otherwise all is acknowledged at once
			work.Go(func() {
				defer from.Close()
				onward, err := new(net.Dialer).DialContext(t.Context(), "tcp", to)
				if err != nil {
					return
				}
				defer onward.Close()
				work.Go(func() { _, _ = io.Copy(from, onward) }) // until either is closed
				for err == nil {
					var n int64
					n, err = io.CopyN(onward, from, int64(rate)/20)
					<-time.After(time.Duration(n) * time.Second / time.Duration(rate))
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close() // it may be closed
		work.Wait()    // the client has closed its end
	})
	return ln.Addr().String()
}

// serveStock serves gRPC by grpc-go, with its usual rules for pings. It names culvert in a detail.
func serveStock(t testing.TB, ln net.Listener) {
	parts.ServeBackend(t, ln, func(s grpc.ServerStream) error {
		if method, _ := grpc.MethodFromServerStream(s); method != "/a.B/Echo" {
			st, err := status.New(codes.Unimplemented, "unknown service").WithDetails(&errdetails.ErrorInfo{Domain: "edge.example.com", Metadata: map[string]string{"service": "culvert.v1.Path"}})
			if err != nil {
				return err
			}
			return st.Err()
		}
		return parts.Echo(s)
	})
}

func serveCulvert(t testing.TB, ln net.Listener) {
	backend := parts.Places{}
	parts.ServeBackend(t, backend.Listen(t, "backend"), parts.Echo)
	b, err := bridge.New(bridge.Config{Backend: bridge.Backend{
		Target: "passthrough:///backend",
		Dial:   func(ctx context.Context, _ string) (net.Conn, error) { return backend.Dial(ctx, "", "backend") },
	}})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = b.ServeListener(ln, bridge.Listener{}) }) // it always returns the error of a closed server
	t.Cleanup(func() {
		_ = b.Close()
		_ = ln.Close() // it may be closed
		serving.Wait()
	})
}

// TestPingBetweenFrames: a ping that becomes due while a frame is written, or is half written,
// follows it, also if nothing else is ever written.
func TestPingBetweenFrames(t *testing.T) {
	sink := new(sink)
	c := newConn(sink, GRPC, nil)
	c.watched = true
	due := func() {
		c.due.Store(true)
		c.pingIfDue()
	}
	write := func(p []byte) {
		if _, err := c.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	write(goAway[:5])
	due()
	write(goAway[5:])
	sink.during = due
	write(goAway)
	sink.during = nil
	due()
	if want := slices.Concat(goAway, pingFrame, goAway, pingFrame, pingFrame); !bytes.Equal(sink.Bytes(), want) {
		t.Errorf("%x, want %x", sink.Bytes(), want)
	}
}

// A sink takes what is written.
type sink struct {
	net.Conn
	bytes.Buffer
	during func() // nil: nothing happens during a Write
}

func (s *sink) Write(p []byte) (int, error) {
	if during := s.during; during != nil {
		s.during = nil
		during()
	}
	return s.Buffer.Write(p)
}

func (*sink) Read([]byte) (int, error) { return 0, net.ErrClosed }

func (*sink) RemoteAddr() net.Addr { return nil }
