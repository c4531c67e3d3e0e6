package main

import (
	"bytes"
	"net"
	"net/http"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// An http2Conn is an HTTP/2 connection with many calls.
type http2Conn struct {
	*attack
	plan plan
	conn net.Conn
	in   *http2.Framer

	mu      sync.Mutex // held for writes, and guards what follows
	out     bytes.Buffer
	framer  *http2.Framer // to out
	window  int           // of the connection
	initial int           // of each stream
	calls   map[uint32]*http2Call
}

type http2Call struct {
	window int
	rest   []byte // of the piece that is being sent
	body   []byte // of the answer, for its trailers; gRPC-Web's only
}

func newHTTP2(a *attack, conn net.Conn, p plan) *http2Conn {
	const standard = 65535 // RFC 9113 §6.9.2
	c := &http2Conn{attack: a, plan: p, conn: conn, window: standard, initial: standard, calls: map[uint32]*http2Call{}}
	c.framer = http2.NewFramer(&c.out, nil)
	c.in = http2.NewFramer(nil, conn)
	c.in.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	return c
}

// flush writes what was framed. c.mu is held.
func (c *http2Conn) flush() error {
	if c.out.Len() == 0 {
		return nil
	}
	_, err := c.conn.Write(c.out.Bytes())
	c.out.Reset()
	return err
}

func (c *http2Conn) begin(calls int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.WriteString(http2.ClientPreface)
	var settings []http2.Setting
	if c.plan.stalled {
		settings = []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}
	}
	_ = c.framer.WriteSettings(settings...) // to memory, like all frames below
	var block bytes.Buffer
	table := hpack.NewEncoder(&block)
	contentType := "application/grpc"
	if c.transport == wire.WebH2 {
		contentType = "application/grpc-web+proto"
	}
	scheme := "http"
	if c.tls != nil && c.transport != wire.Tunnel {
		scheme = "https"
	}
	for i := range calls {
		block.Reset()
		for _, f := range [][2]string{
			{":method", "POST"},
			{":scheme", scheme},
			{":path", c.plan.method},
			{":authority", "127.0.0.1"},
			{"content-type", contentType},
			{"te", "trailers"},
			{probe.ScriptKey, c.plan.script},
		} {
			_ = table.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // to memory
		}
		id := uint32(2*i + 1)
		_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
		c.calls[id] = &http2Call{window: c.initial}
	}
	return c.flush()
}

// frameSize is the least that each peer takes in one frame. RFC 9113 §4.2.
const frameSize = 16 << 10

func (c *http2Conn) send(p *piece) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, call := range c.calls {
		if len(call.rest) == 0 { // else culvert has held it back
			call.rest = p.raw
		}
		for len(call.rest) > 0 {
			n := min(len(call.rest), call.window, c.window, frameSize)
			if n <= 0 {
				break
			}
			_ = c.framer.WriteData(id, false, call.rest[:n])
			call.rest = call.rest[n:]
			call.window -= n
			c.window -= n
		}
	}
	return c.flush()
}

func (c *http2Conn) read() {
	for {
		frame, err := c.in.ReadFrame()
		if err != nil {
			break
		}
		if c.take(frame) != nil {
			break
		}
	}
	_ = c.conn.Close() // culvert may have
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end("cut", len(c.calls))
	clear(c.calls)
}

func (c *http2Conn) take(frame http2.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := frame.Header().StreamID
	call := c.calls[id]
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
			for _, call := range c.calls {
				call.window += int(v) - c.initial
			}
			c.initial = int(v)
		}
		_ = c.framer.WriteSettingsAck()
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = c.framer.WritePing(true, f.Data)
		}
	case *http2.WindowUpdateFrame:
		if id == 0 {
			c.window += int(f.Increment)
		} else if call != nil {
			call.window += int(f.Increment)
		}
	case *http2.RSTStreamFrame:
		if call != nil {
			c.end("reset "+f.ErrCode.String(), 1)
			delete(c.calls, id)
		}
	case *http2.DataFrame:
		if call != nil && c.transport == wire.WebH2 {
			call.body = append(call.body, f.Data()...)
			if f.StreamEnded() {
				block, _ := trailersOf(bytes.NewReader(call.body)) // nil has no status
				c.endWith(wire.ParseStatus(block))
				delete(c.calls, id)
			}
		}
	case *http2.MetaHeadersFrame:
		if call != nil && f.StreamEnded() {
			fields := http.Header{}
			for _, field := range f.Fields {
				fields[field.Name] = append(fields[field.Name], field.Value)
			}
			c.endWith(wire.StatusOf(fields))
			delete(c.calls, id)
		}
	}
	return c.flush()
}
