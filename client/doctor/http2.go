package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/client/internal/frame"
	"github.com/culvert-grpc/culvert/client/internal/network"
)

// An http2Conn is a client's end of HTTP/2 by net/http, which doesn't show what a probe looks
// for: the peer's SETTINGS, answers to PING, GOAWAY. So the connection under it reads along.
type http2Conn struct {
	net.Conn
	calls *http.ClientConn

	began chan struct{} // closed with the peer's SETTINGS
	pongs chan [8]byte
	ended chan struct{} // closed with the connection
	pings byte

	mu   sync.Mutex
	in   []byte // what came of a frame that isn't whole
	gone bool   // GOAWAY has come
	err  error  // once ended is closed
}

var errGoAway = errors.New("the other side closed the connection with GOAWAY")

// openHTTP2 begins HTTP/2. The caller must close it.
func openHTTP2(ctx context.Context, conn net.Conn, t network.Target) (*http2Conn, error) {
	c := &http2Conn{Conn: conn, began: make(chan struct{}), pongs: make(chan [8]byte, 16), ended: make(chan struct{})}
	var err error
	if c.calls, err = network.HTTP2(ctx, c, t, maxMessage); err != nil {
		_ = conn.Close() // it is over
		return nil, err  //nolint:wrapcheck // of the connection
	}
	return c, nil
}

func (c *http2Conn) close() {
	_ = c.calls.Close() // it may be closed
	_ = c.Conn.Close()  // it may be closed
}

// Read is net/http's.
func (c *http2Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	c.in = append(c.in, p[:n]...)
	for c.frame() {
	}
	c.mu.Unlock()
	if err != nil {
		c.end(err)
	}
	return n, err
}

// Close is net/http's: it doesn't understand the other side, unless the doctor closes.
func (c *http2Conn) Close() error {
	c.end(errors.New("these aren't HTTP/2's bytes"))
	return c.Conn.Close()
}

func (c *http2Conn) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.ended)
	}
}

// frame takes a whole frame from what came, and reports whether there was one. net/http ends the
// connection at the header of a frame that is too large, so no more of it comes.
func (c *http2Conn) frame() bool {
	f := frame.First(c.in)
	if f == nil {
		return false
	}
	payload := f[frame.HeaderBytes:]
	switch kind, ack := http2.FrameType(f[3]), http2.Flags(f[4]).Has(http2.FlagPingAck); { // the same bit as in SETTINGS
	case kind == http2.FrameSettings && !ack:
		select {
		case <-c.began:
		default:
			close(c.began)
		}
	case kind == http2.FramePing && ack && len(payload) == 8:
		select {
		case c.pongs <- [8]byte(payload):
		default: // nobody waits for so many
		}
	case kind == http2.FrameGoAway:
		c.gone = true
	}
	c.in = c.in[len(f):]
	return true
}

// because returns why a call failed: the connection may know more. A nil connection knows
// nothing.
func (c *http2Conn) because(err error) error {
	if c == nil {
		return err
	}
	select {
	case <-c.ended:
		return c.failure()
	default:
		return err
	}
}

// failure returns why the connection has ended.
func (c *http2Conn) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case bytes.HasPrefix(c.in, []byte("HTTP/")):
		line, _, _ := strings.Cut(string(c.in), "\n")
		err := fmt.Errorf("it answers in HTTP/1.1 where HTTP/2 was agreed on: %q", printable(strings.TrimSpace(line)))
		return &ending{result: refused, cause: causeHTTP1, err: err}
	case c.gone:
		return &ending{result: cut, err: errGoAway}
	case isCut(c.err):
		return &ending{result: cut, err: errors.New("the connection was closed")}
	}
	return c.err
}

// prove waits for the peer's SETTINGS and for the answer to a PING: bytes pass both ways.
func (c *http2Conn) prove(ctx context.Context) Finding {
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	select {
	case <-c.began:
	case <-c.ended:
		return finding(c.failure())
	case <-wait.Done():
		return found(silent, "the peer's SETTINGS don't come")
	}
	settings := time.Since(began)
	if err := c.ping(ctx); err != nil {
		f := finding(err)
		if f.Result == silent {
			f.Cause, f.Evidence = causeNoPong, "the peer's SETTINGS came, and no answer to a PING"
		}
		return f
	}
	return found(works, "SETTINGS after %v, PING answered after %v", round(settings), round(time.Since(began)-settings))
}

// round rounds a time for people.
func round(d time.Duration) time.Duration {
	if d > 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}

// ping waits for the answer to a PING. net/http knows nothing of it, and ignores the answer. It
// must not be writing a long request: it writes all other frames at once.
func (c *http2Conn) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c.pings++
	data := [8]byte{'d', 'o', 'c', 't', 'o', 'r', 0, c.pings}
	if _, err := c.Conn.Write(frame.Make(http2.FramePing, data[:]...)); err != nil {
		select {
		case <-c.ended:
			return c.failure()
		case <-ctx.Done():
			return err
		}
	}
	for {
		select {
		case got := <-c.pongs:
			if got == data {
				return nil
			}
		case <-c.ended:
			return c.failure()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ignored writes a frame of a type that nobody knows, which the peer must ignore: data one
// way. RFC 9113 §5.5.
func (c *http2Conn) ignored(context.Context) error {
	_, err := c.Conn.Write(frame.Make(0xfa, []byte("culvert doctor")...))
	return err //nolint:wrapcheck // of the connection
}
