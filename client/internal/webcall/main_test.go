package webcall

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/culvert-grpc/culvert/internal/parts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect returns a client whose calls go to an edge that says a text to each request, and then
// waits until the connection is closed.
func connect(t testing.TB, text string) (*Server, *grpc.ClientConn) {
	t.Helper()
	return connectTo(t, serveHeld(t, text))
}

// connectTo returns a client whose calls go to an edge.
func connectTo(t testing.TB, url string) (*Server, *grpc.ClientConn) {
	t.Helper()
	trip := &http.Transport{DisableCompression: true}
	s := New(trip, Options{
		URL:    func(path string) string { return url + path },
		Unsent: func(error) bool { return false },
		Lost:   func(error) {},
		Prove:  func(context.Context) error { return nil },
	})
	cc, err := grpc.NewClient("passthrough:///edge",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.Dial(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(parts.BytesCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cc.Close() // it can only be closed already
		s.Close()
		trip.CloseIdleConnections()
	})
	return s, cc
}

// serveHeld serves a text to the first request of each connection, which then stays open.
func serveHeld(t testing.TB, text string) (url string) {
	t.Helper()
	ln := parts.Listen(t, "127.0.0.1:0")
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				in := bufio.NewReader(c)
				if r, err := http.ReadRequest(in); err == nil {
					_, _ = io.WriteString(c, text) // the client may be gone
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = io.Copy(io.Discard, in) // until the client goes
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close() // ends Accept
		serving.Wait()
	})
	return "http://" + ln.Addr().String()
}
