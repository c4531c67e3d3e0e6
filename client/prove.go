package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/client/internal/frame"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// maxReplay bounds what an edge sends before it answers the ping, in bytes.
const maxReplay = 64 << 10

// prove sends the client's preface, SETTINGS and a PING, and waits for the server's SETTINGS and
// the answer to the ping, and to further pings. Only then grpc-go may have the connection. It
// sends SETTINGS of its own, which may come at any time. RFC 9113 §3.4, §6.5, §6.7.
func (c *conn) prove(ctx context.Context, pings int) (rtt time.Duration, err error) {
	stop := socket.WhenEnded(ctx, func() { _ = c.Conn.SetDeadline(socket.LongAgo) }) // it fails only on a closed connection
	defer func() {
		if stop(); ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}()
	ping := make([]byte, 8)
	_, _ = rand.Read(ping) // it never fails
	begun := time.Now()
	if _, err := c.Conn.Write(slices.Concat([]byte(http2.ClientPreface), frame.Make(http2.FrameSettings), frame.Make(http2.FramePing, ping...))); err != nil {
		return 0, err
	}
	c.preface = len(http2.ClientPreface)
	for settled := false; ; {
		f, err := readFrame(c.Conn, settled)
		if err != nil {
			return 0, err
		}
		switch kind, flags := http2.FrameType(f[3]), http2.Flags(f[4]); {
		case !settled: // readFrame knows that it has SETTINGS
			settled = true
		case kind == http2.FramePing && flags.Has(http2.FlagPingAck) && bytes.Equal(f[frame.HeaderBytes:], ping):
			rtt = time.Since(begun)
			if pings--; pings == 0 {
				c.read.Store(c.now())
				return rtt, nil
			}
			begun = time.Now()
			ping[0]++
			if _, err := c.Conn.Write(frame.Make(http2.FramePing, ping...)); err != nil {
				return 0, err
			}
			continue
		case kind == http2.FrameGoAway:
			return 0, errors.New("the edge takes no calls on a new connection (GOAWAY): it may be shutting down")
		}
		c.replay = append(c.replay, f...)
		if len(c.replay) > maxReplay {
			return 0, errors.New("the other side sends much, and doesn't answer an HTTP/2 ping")
		}
	}
}

// readFrame reads a frame. The first one must be SETTINGS.
func readFrame(r io.Reader, settled bool) ([]byte, error) {
	f := make([]byte, frame.HeaderBytes, 64)
	n, err := io.ReadFull(r, f)
	if bytes.HasPrefix(f[:n], []byte("HTTP/")) {
		return nil, errors.New("the other side answers HTTP/2 with HTTP/1.1")
	}
	if err != nil {
		if n == 0 && errors.Is(err, io.EOF) {
			return nil, errors.New("the connection was closed before a byte of HTTP/2 came")
		}
		return nil, err
	}
	length := frame.Length(f)
	switch kind, flags := http2.FrameType(f[3]), http2.Flags(f[4]); {
	case !settled && (kind != http2.FrameSettings || flags.Has(http2.FlagSettingsAck)):
		return nil, fmt.Errorf("the other side doesn't speak HTTP/2: it began with %q", f)
	case length > 1<<14:
		return nil, fmt.Errorf("the other side sent a frame of %d bytes, over HTTP/2's limit of %d: it may not speak HTTP/2", length, 1<<14)
	}
	f = append(f, make([]byte, length)...)
	if _, err := io.ReadFull(r, f[frame.HeaderBytes:]); err != nil {
		return nil, err
	}
	return f, nil
}
