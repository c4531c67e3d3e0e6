package bridgetest

import (
	"bytes"
	"context"
	"io"
	"net"
	"slices"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A fakeBackend speaks HTTP/2 frame by frame, to misbehave as no library would.
// Each connection serves its calls with the script, one after the other.
type fakeBackend struct {
	acceptor
	script script
}

// A script is the answer to one call.
type script func(c *fakeConn, stream uint32)

func (f *fakeBackend) serve(conn net.Conn) {
	defer conn.Close() // the script may have
	defer context.AfterFunc(f.ctx, func() { _ = conn.Close() })()
	c := newFakeConn(conn)
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	_ = c.framer.WriteSettings() // to memory
	if c.flush() != nil {
		return
	}
	for {
		fr, err := c.framer.ReadFrame()
		if err != nil {
			return
		}
		switch fr := fr.(type) {
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				_ = c.framer.WriteSettingsAck() // to memory
			}
		case *http2.PingFrame:
			if !fr.IsAck() {
				_ = c.framer.WritePing(true, fr.Data) // to memory
			}
		case *http2.HeadersFrame:
			f.script(c, fr.StreamID)
		}
		if c.flush() != nil {
			return
		}
	}
}

// A fakeConn is an HTTP/2 connection whose frames a scenario writes itself,
// mostly as a backend. Its methods write to memory; the bytes leave by flush,
// by cutAt, or when a backend's script returns.
type fakeConn struct {
	net.Conn
	out, block bytes.Buffer
	framer     *http2.Framer
	hpack      *hpack.Encoder
}

func newFakeConn(conn net.Conn) *fakeConn {
	c := &fakeConn{Conn: conn}
	c.framer = http2.NewFramer(&c.out, conn)
	c.hpack = hpack.NewEncoder(&c.block)
	return c
}

func (c *fakeConn) flush() error {
	_, err := c.Write(c.out.Bytes())
	c.out.Reset()
	return err
}

func (c *fakeConn) mustFlush(t *trial) {
	t.Helper()
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
}

// cutAt sends the first n of the written bytes, and cuts the connection.
func (c *fakeConn) cutAt(n int, how cut) {
	_, _ = c.Write(c.out.Bytes()[:n]) // cut either way
	c.out.Reset()
	cutConn(c.Conn, how)
}

// body reads a request's body to its end.
func (c *fakeConn) body(stream uint32) (b []byte) {
	for {
		fr, err := c.framer.ReadFrame()
		if err != nil {
			return b
		}
		d, ok := fr.(*http2.DataFrame)
		if !ok || d.StreamID != stream {
			continue
		}
		if b = append(b, d.Data()...); d.StreamEnded() {
			return b
		}
	}
}

// headers writes a HEADERS frame of names and values in turn.
func (c *fakeConn) headers(stream uint32, end bool, fields ...string) {
	c.block.Reset()
	for field := range slices.Chunk(fields, 2) {
		// Never indexed: no frame depends on one that may not have been sent.
		f := hpack.HeaderField{Name: field[0], Value: field[1], Sensitive: true}
		_ = c.hpack.WriteField(f) // to memory
	}
	rest := c.block.Bytes()
	first := rest[:min(len(rest), 16<<10)]
	rest = rest[len(first):]
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{ // to memory
		StreamID: stream, BlockFragment: first, EndStream: end, EndHeaders: len(rest) == 0,
	})
	for len(rest) > 0 {
		next := rest[:min(len(rest), 16<<10)]
		rest = rest[len(next):]
		_ = c.framer.WriteContinuation(stream, len(rest) == 0, next) // to memory
	}
}

// ok writes the head of a gRPC answer, with more fields if given.
func (c *fakeConn) ok(stream uint32, fields ...string) {
	c.headers(stream, false, append([]string{":status", "200", "content-type", "application/grpc"}, fields...)...)
}

// answerOf answers with OK after the bytes of frames, and with more fields in the head.
func answerOf(frames []byte, fields ...string) script {
	return answerWith(fields, frames, "grpc-status", "0")
}

// answerWith answers with a head of more fields, the bytes of frames if there are any, and
// trailers.
func answerWith(head []string, frames []byte, trailers ...string) script {
	return func(c *fakeConn, stream uint32) {
		c.ok(stream, head...)
		if frames != nil {
			c.data(stream, false, frames)
		}
		c.headers(stream, true, trailers...)
	}
}

// headOnly answers with one block, which has more fields.
func headOnly(fields ...string) script {
	return func(c *fakeConn, stream uint32) {
		c.headers(stream, true, append([]string{":status", "200", "content-type", "application/grpc"}, fields...)...)
	}
}

func (c *fakeConn) data(stream uint32, end bool, b []byte) {
	_ = c.framer.WriteData(stream, end, b) // to memory
}
