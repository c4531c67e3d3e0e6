package wire

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestPanicBesideAConnection cuts it, and Close still ends.
func TestPanicBesideAConnection(t *testing.T) {
	for name, fail := range map[string]func(t *testing.T, c *Conn){
		"on its goroutine": func(_ *testing.T, c *Conn) {
			_, _ = c.Write([]byte(http2.ClientPreface)) // frames come behind it
			c.offer(ownFrame{bytes: windowUpdate(0, 1), first: func() { panic("sent") }})
		},
		"in a timer": func(_ *testing.T, c *Conn) { c.judgeWait(nil, 1) },
		"in a call's request": func(_ *testing.T, c *Conn) {
			c.streams[1] = stream{flow: new(Flow)} // without a place
			_, _ = c.Write(append([]byte(http2.ClientPreface), 0, 0, 0, byte(http2.FrameData), 0, 0, 0, 0, 1))
		},
		"in its end": func(_ *testing.T, c *Conn) {
			c.mu.Lock()
			c.credits[nil] = struct{}{}
			c.mu.Unlock()
			_ = c.Close()
			c.mu.Lock() // it isn't held
			defer c.mu.Unlock()
			clear(c.credits)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, panics := memory.New(16<<20, 0), report.NewPanics(slog.New(slog.DiscardHandler))
			near, far := net.Pipe()
			c := NewConn(near, Options{Account: a, Window: ConnWindow(a), Panics: panics})
			ended := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, far)
				ended <- err
			}()
			fail(t, c)
			if err := await(t, "the connection's end", ended); err != nil && !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			_ = c.Close() // it is closed
			if panics.Count() != 1 || a.Held() != 0 {
				t.Errorf("%d panics are counted, and %d bytes held; want 1 and 0", panics.Count(), a.Held())
			}
		})
	}
}
