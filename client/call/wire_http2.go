package call

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/culvert-grpc/culvert/client/internal/frame"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

// A tap is a connection of HTTP/2 whose frames the trace tells.
type tap struct {
	net.Conn
	out, in *frames // out is nil if nobody wants to know

	mu    sync.Mutex
	first []byte // bytes that came, at most len("HTTP/1.1 400")
	ended error
}

func newTap(conn net.Conn, t *trace) *tap {
	c := &tap{Conn: conn, in: newFrames(t, received)}
	if t != nil {
		c.out = newFrames(t, sent)
		c.out.preface = []byte(http2.ClientPreface)
	}
	return c
}

func (c *tap) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	if room := len("HTTP/1.1 400") - len(c.first); room > 0 {
		c.first = append(c.first, b[:min(n, room)]...)
	}
	c.mu.Unlock()
	c.note(err)
	c.in.feed(b[:n])
	return n, err
}

func (c *tap) Write(b []byte) (int, error) {
	c.out.feed(b)
	n, err := c.Conn.Write(b)
	c.note(err)
	return n, err
}

// note keeps the first error: others are its consequences.
func (c *tap) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		c.ended = err
	}
}

// complaint says what came in place of HTTP/2.
func (c *tap) complaint() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case bytes.HasPrefix(c.first, []byte("HTTP/1.")):
		return fmt.Sprintf("it answered in HTTP/1 (%s)", terminal.Text(strings.TrimSpace(string(c.first))))
	case len(c.first) > 0:
		return "it answered with something else than HTTP/2"
	case errors.Is(c.ended, io.EOF), errors.Is(c.ended, net.ErrClosed): // it was closed here, as it had ended there
		return "it closed the connection without a frame of HTTP/2"
	case c.ended != nil:
		return "the connection broke before a frame of HTTP/2: " + c.ended.Error()
	}
	return fmt.Sprintf("no frame of HTTP/2 came within %s", http2Patience)
}

// maxTracedFrame is the largest frame of which the trace tells. It is what both sides allow by
// default. RFC 9113 §4.2.
const maxTracedFrame = 16 << 10

// frames tells of one direction's frames. It is driven by bytes, and never waits.
type frames struct {
	t       *trace
	side    string
	preface []byte // that is still expected
	buf     bytes.Buffer
	framer  *http2.Framer // reads whole frames from buf
	lost    bool          // the frames can't be followed
	fields  *hpack.Decoder
	block   []byte // of a HEADERS frame that CONTINUATION frames follow
	ended   bool   // END_STREAM of that frame
	data    map[uint32]*messages

	noStatus atomic.Bool // a stream has ended with fields, and without grpc-status
}

func newFrames(t *trace, side string) *frames {
	f := &frames{t: t, side: side, fields: hpack.NewDecoder(4096, nil), data: map[uint32]*messages{}}
	f.framer = http2.NewFramer(nil, &f.buf)
	f.framer.AllowIllegalReads = true // to judge the order of frames is up to grpc-go
	f.fields.SetAllowedMaxDynamicTableSize(1 << 20)
	f.fields.SetMaxStringLength(maxHeaderBytes)
	return f
}

// feed takes bytes of the connection.
func (f *frames) feed(b []byte) {
	if f == nil || f.lost {
		return
	}
	f.buf.Write(b)
	if n := len(f.preface); n > 0 {
		if f.buf.Len() < n {
			return
		}
		f.t.say(f.side, "HTTP/2 preface")
		f.buf.Next(n)
		f.preface = nil
	}
	for !f.lost && f.buf.Len() >= frame.HeaderBytes {
		if length := frame.Length(f.buf.Bytes()); length > maxTracedFrame {
			f.lose("a frame of %d bytes", length)
			return
		}
		if frame.First(f.buf.Bytes()) == nil {
			return
		}
		if read, err := f.framer.ReadFrame(); err != nil {
			f.lose("a malformed frame")
		} else {
			f.frame(read)
		}
	}
}

// lose gives up: what follows can't be read.
func (f *frames) lose(format string, args ...any) {
	f.t.say(f.side, format+": the frames after it aren't shown", args...)
	f.lost, f.buf = true, bytes.Buffer{}
}

func (f *frames) frame(frame http2.Frame) {
	stream := frame.Header().StreamID
	switch frame := frame.(type) {
	case *http2.DataFrame:
		f.t.say(f.side, "DATA%s%s%s", on(stream), f.dataIn(stream, frame.Data()), f.end(frame.StreamEnded()))
	case *http2.HeadersFrame:
		f.block, f.ended = bytes.Clone(frame.HeaderBlockFragment()), frame.StreamEnded()
		f.headers(stream, frame.HeadersEnded())
	case *http2.ContinuationFrame:
		f.block = append(f.block, frame.HeaderBlockFragment()...)
		f.headers(stream, frame.HeadersEnded())
	case *http2.SettingsFrame:
		if frame.IsAck() {
			f.t.say(f.side, "SETTINGS acknowledged")
			return
		}
		f.t.say(f.side, "SETTINGS%s", settings(frame))
	case *http2.PingFrame:
		f.t.say(f.side, "PING%s", map[bool]string{true: " answered"}[frame.IsAck()])
	case *http2.WindowUpdateFrame:
		f.t.say(f.side, "WINDOW_UPDATE%s: %d more bytes may come", on(stream), frame.Increment)
	case *http2.RSTStreamFrame:
		f.t.say(f.side, "RST_STREAM%s: %s", on(stream), frame.ErrCode)
	case *http2.GoAwayFrame:
		f.t.say(f.side, "GOAWAY after stream %d: %s %s", frame.LastStreamID, frame.ErrCode, frame.DebugData())
	default:
		f.t.say(f.side, "%s%s, %s", frame.Header().Type, on(stream), bytesOf(int(frame.Header().Length)))
	}
}

func on(stream uint32) string {
	if stream == 0 {
		return ""
	}
	return fmt.Sprintf(" on stream %d", stream)
}

// end says what the last frame of a stream means.
func (f *frames) end(last bool) string {
	switch {
	case !last:
		return ""
	case f.side == sent:
		return " (half-close)"
	}
	return " (the end)"
}

// headers tells of a block of fields once it is whole.
func (f *frames) headers(stream uint32, whole bool) {
	if len(f.block) > 4*maxHeaderBytes {
		f.lose("a block of fields of %d bytes", len(f.block))
		return
	}
	if !whole {
		return
	}
	fields, err := f.fields.DecodeFull(f.block)
	f.block = nil
	if err != nil {
		f.lose("a malformed block of fields")
		return
	}
	f.t.say(f.side, "HEADERS%s%s", on(stream), f.end(f.ended))
	told := !f.ended
	for _, field := range fields {
		f.t.say(f.side, "  %s: %s", field.Name, shown(field.Name, field.Value))
		told = told || field.Name == "grpc-status"
	}
	if !told {
		f.noStatus.Store(true)
	}
}

// dataIn says which messages begin in the bytes of a stream.
func (f *frames) dataIn(stream uint32, b []byte) string {
	m := f.data[stream]
	if m == nil {
		if len(f.data) > 1000 {
			return ", " + bytesOf(len(b))
		}
		m = new(messages)
		f.data[stream] = m
	}
	return ", " + bytesOf(len(b)) + m.begunIn(b)
}

// messages follows the messages in a stream of bytes. protocols.md, "Frames".
type messages struct {
	prefix []byte
	left   int // of the message that has begun
}

// begunIn says which messages begin in the next bytes.
func (m *messages) begunIn(b []byte) string {
	var text strings.Builder
	for len(b) > 0 {
		if m.left > 0 {
			n := min(m.left, len(b))
			m.left -= n
			b = b[n:]
			continue
		}
		n := min(codec.FrameHeaderBytes-len(m.prefix), len(b))
		m.prefix = append(m.prefix, b[:n]...)
		b = b[n:]
		if len(m.prefix) < codec.FrameHeaderBytes {
			break
		}
		m.left = int(binary.BigEndian.Uint32(m.prefix[1:]))
		compressed := ""
		if m.prefix[0]&codec.FlagCompressed != 0 {
			compressed = ", compressed"
		}
		if text.Len() < 200 {
			fmt.Fprintf(&text, ": a message of %s%s", bytesOf(m.left), compressed)
		}
		m.prefix = m.prefix[:0]
	}
	return text.String()
}

// settings says what is in a SETTINGS frame. RFC 9113 §6.5.
func settings(frame *http2.SettingsFrame) string {
	var all []string
	_ = frame.ForeachSetting(func(s http2.Setting) error { // it has the function's error
		all = append(all, fmt.Sprintf("%s %d", strings.ToLower(strings.ReplaceAll(s.ID.String(), "_", " ")), s.Val))
		return nil
	})
	if all == nil {
		return ", none"
	}
	return ": " + strings.Join(all, ", ")
}
