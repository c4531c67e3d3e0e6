package tunnel

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	coder "github.com/coder/websocket"

	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/tunnel"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// BenchmarkWrite has writes cross loopback to a server that drops what comes. The other
// library's writer is beside it, and the connection alone.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{100, 16 << 10, 64 << 10} {
		for name, open := range openers {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				far, near := parts.TCPPair(b)
				var serving sync.WaitGroup
				serving.Go(func() {
					if name != "socket" {
						wstest.Accept(b, far, tunnel.Name)
					}
					_, _ = io.Copy(io.Discard, struct{ io.Reader }{far}) // until the end
					_ = far.Close()
				})
				w := open(b, near)
				p := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := w.Write(p); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				_ = near.Close()
				serving.Wait()
				_ = w.Close()
			})
		}
	}
}

// openers make a stream of bytes of a connection.
var openers = map[string]func(testing.TB, net.Conn) net.Conn{
	"socket":  func(_ testing.TB, conn net.Conn) net.Conn { return conn },
	"culvert": openOurs, "another": openAnother,
}

func openOurs(t testing.TB, conn net.Conn) net.Conn {
	c, err := Open(context.Background(), conn, edge, nil)
	if err != nil {
		t.Fatal(err)
	}
	run(t, c)
	return c
}

func openAnother(t testing.TB, conn net.Conn) net.Conn {
	dial := func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	ws, _, err := coder.Dial(context.Background(), edge.String(), &coder.DialOptions{
		Subprotocols: []string{tunnel.Name}, HTTPClient: &http.Client{Transport: &http.Transport{DialContext: dial}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return coder.NetConn(context.Background(), ws, coder.MessageBinary)
}

// BenchmarkRead reads what a server sends in messages of 32 KiB, as culvert's does, by as much
// at a time as grpc-go does.
func BenchmarkRead(b *testing.B) {
	const size = 32 << 10
	message := wstest.Plain(wstest.Binary, make([]byte, size))
	for name, open := range openers {
		b.Run(name, func(b *testing.B) {
			far, near := parts.TCPPair(b)
			var serving sync.WaitGroup
			serving.Go(func() {
				if name != "socket" {
					wstest.Accept(b, far, tunnel.Name)
				}
				for {
					if _, err := far.Write(message); err != nil {
						return
					}
				}
			})
			r := open(b, near)
			p := make([]byte, size)
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.ReadFull(r, p); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			_ = near.Close()
			serving.Wait()
			_ = r.Close()
		})
	}
}
