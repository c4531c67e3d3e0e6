package wire

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// Windows towards the backend. grpc-go's own estimate grows a stream's window to 16 MiB, and
// one slow reader then holds that much. The connection's window bounds the data in flight
// for all its streams. It counts with the account for as long as the connection lasts.
const (
	StreamWindow    = 64 << 10  // of each stream at first, and so the part of a large message that comes unasked
	MaxStreamWindow = 384 << 10 // of a stream of small messages, with what waits for the client (stream_window.go)
	GRPCWindow      = 512 << 10 // of each stream for grpc-go: a quarter of it may be taken and not given back
	minConnWindow   = 64 << 10
	maxConnWindow   = 1 << 20
)

// ConnWindow returns the size of the window of each connection. It stays when the account's
// size changes: without room in the account, no window is given back (conn_window.go).
func ConnWindow(a *memory.Account) int64 {
	return min(max(a.Messages()/256, minConnWindow), maxConnWindow) // an upstream has up to 64 connections to each address
}

// A Conn keeps the data from a backend within the account, and pings a silent
// backend (silence).
//
// A stream has two windows: grpc-go's, and a smaller one that the backend knows of.
// grpc-go's WINDOW_UPDATEs therefore pass on only in part (stream_window.go). A stream of small
// messages gets the rest of grpc-go's window. For a large message, Conn gives the
// stream what the message needs, once the account has room for it; from then on nothing
// stops the upstream until the message is held in full (large_message.go). The room counts with
// the call.
//
// Data that fits a stream's window comes unasked, and grpc-go gives the connection's
// window back as soon as bytes have arrived, before anybody reads them. So the
// connection's WINDOW_UPDATEs are withheld while the account has no room for the same
// amount again (conn_window.go). Bytes of a message that has its room need no more. RFC
// 9113 §6.9.
type Conn struct {
	net.Conn
	account *memory.Account
	panics  *report.Panics
	window  *memory.Entry // the connection's window

	watch *silenceWatch     // sends a PING if the backend is silent
	calm  func()            // called when the backend complains of PINGs; may be nil
	allow func(most uint32) // learns how many streams the backend allows; may be nil

	answers   answers  // only Read uses it
	in        h2Frames // of reads; only Read uses it
	inMessage bool     // the read had HEADERS or DATA; only Read uses it
	came      struct { // DATA of reads that isn't counted yet; only Read uses it
		stream        uint32
		bytes, padded int64 // padded: with the padding
		passed        int64 // bytes of the stream's window
		messages      arriving
		whole         uint64 // messages whose last byte is in the frame that is read
		place         *Place // of the call whose messages these are; nil: of no call
		ends          *Place // the frame of DATA ends it
	}
	greeted   atomic.Bool // something was read, or nothing will be
	odd       error       // what was wrong with it; valid once greeted
	plaintext bool        // without TLS

	bounded atomic.Bool            // the backend bounds the header of a request
	failed  atomic.Pointer[error]  // why grpc-go can't use it
	goAway  []byte                 // the code and the debug data of a GOAWAY; only Read uses it
	away    atomic.Pointer[string] // of the first one

	writeMu sync.Mutex // held for a Write, and for frames that are put in between
	out     h2Frames
	ids     requestIDs // of the headers that are sent; only Write uses it
	sends   *Flow      // of the DATA that is being sent; nil: not known; only Write uses it
	begun   []byte     // ends in the middle of a header block, and waits for its rest: bind comes before the backend's answer
	began   bool       // grpc-go has raised the connection's window to the counted size

	mu       sync.Mutex
	streams  map[uint32]stream    // those that the upstream may still send on
	expected map[string]*Place    // by their ids, the first of the calls whose streams are about to begin
	leaving  bool                 // it takes no more calls
	last     uint32               // the last stream that the backend takes
	unasked  int64                // bytes that arrived, and that grpc-go hasn't asked the connection's window for
	covered  int64                // of unasked: those of messages with a grant
	credits  map[*credit]struct{} // updates of the connection's window that wait for room

	readyMu sync.Mutex  // taken under the account's mu, which is taken under mu
	ready   []ownFrame  // frames that may be sent now
	isReady atomic.Bool // there are some; readable without readyMu

	wake   chan struct{} // one element: there is something in ready
	closed context.Context
	close  context.CancelFunc
	sender sync.WaitGroup
}

// An ownFrame is a frame of culvert's own: WINDOW_UPDATE, PING or RST_STREAM.
type ownFrame struct {
	bytes []byte
	first func() // called before the frame is sent, so that no answer comes before; may be nil
}

// Options are what a Conn needs beside the connection.
type Options struct {
	Account     *memory.Account
	Window      int64          // of the connection
	HeaderBytes int            // of a header block that grpc-go takes; 0: as many as a frame
	Panics      *report.Panics // may be nil
	Plaintext   bool           // without TLS
	PingTimeout time.Duration  // for the answer to a ping
	Keepalive   time.Duration  // with streams, the backend is pinged when nothing was read for so long; 0: only on suspicion
	LostPings   *atomic.Int64  // counts backends that were given up; may be nil

	Calm    func()            // called when the backend complains of the PINGs of Keepalive; may be nil
	LeftOut func(name string) // told of each value of an answer that is left out; may be nil
	Streams func(most uint32) // told how many streams the backend allows; may be nil
}

// NewConn returns the connection for grpc-go over the one to the backend.
func NewConn(conn net.Conn, o Options) *Conn {
	c := &Conn{Conn: conn, account: o.Account, panics: o.Panics, window: o.Account.NewEntry(), plaintext: o.Plaintext, allow: o.Streams, streams: make(map[uint32]stream), expected: make(map[string]*Place), credits: make(map[*credit]struct{}), ids: requestIDs{limit: firstTableBytes}, last: math.MaxUint32, wake: make(chan struct{}, 1)}
	c.window.Add(memory.Fixed, int(o.Window))
	c.answers = answers{left: o.LeftOut, pong: func() { c.watch.heard(false) }, most: cmp.Or(o.HeaderBytes, maxFrameBytes)}
	if o.LeftOut == nil {
		c.answers.left = func(string) {}
	}
	c.out.skip = len(http2.ClientPreface)
	c.out.fields = c.readFields
	c.out.data = func(part []byte) { // of what is being sent
		if c.sends != nil {
			c.sends.wrote(part)
		}
	}
	c.in.fields, c.in.data, c.in.goAway = c.readBlock, c.readData, c.readGoAway
	c.closed, c.close = context.WithCancel(context.Background()) // ended by Close
	c.watch = &silenceWatch{conn: conn, asks: func() { c.offer(ownFrame{bytes: silencePing}) }, wake: make(chan struct{}, 1), lost: o.LostPings, s: silence{timeout: rules.OrDefault(o.PingTimeout, rules.PingTimeout, rules.PingTimeout)}}
	if o.Keepalive > 0 {
		c.watch.s.every, c.watch.s.last = o.Keepalive, time.Now()
		c.calm = o.Calm
	}
	c.sender.Go(c.send)
	c.sender.Go(func() {
		defer c.Catch()
		c.watch.run(c.closed.Done())
	})
	return c
}

// NetConn returns the connection underneath.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Close also gives back the memory of the connection's streams.
func (c *Conn) Close() (err error) {
	defer c.fail(&err)
	defer c.window.Settle()
	err = c.Conn.Close()
	c.close()
	c.Leave()
	c.sender.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, s := range c.streams {
		c.drop(&s)
		c.streams[id] = s
	}
	for cr := range c.credits {
		c.account.Drop(cr.waiter)
	}
	clear(c.credits)
	return err
}

func (c *Conn) Read(p []byte) (n int, err error) {
	defer c.fail(&err)
	n, err = c.answers.read(p, c.receive)
	if n > 0 {
		c.inMessage = false
		c.in.scan(p[:n], c.received)
		c.countArrived()
		c.watch.heard(c.inMessage)
	}
	if err != nil {
		err = cmp.Or(c.watch.gaveUp(), err)
		c.noteLoss(err)
	}
	return n, err
}

// receive reads what the backend has sent.
func (c *Conn) receive(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.greeted.Load() && (n > 0 || err != nil) {
		c.odd = checkGreeting(p[:n], err, c.plaintext)
		c.greeted.Store(n > 0 || c.odd != nil)
		if c.odd != nil {
			return 0, c.odd
		}
	}
	return n, err
}

// readGoAway reads a part of the code and the debug data of a GOAWAY. It passes over one for
// which grpc-go ends the connection: a backend may have seen the streams that it leaves out.
func (c *Conn) readGoAway(part []byte, ends bool) {
	f := c.in.header
	ofClient := f.increment%2 == 1 || f.increment == 0 // the streams that a client begins
	if f.stream != 0 || f.length < 8 || f.length > maxFrameBytes || !ofClient {
		return
	}
	c.goAway = append(c.goAway, part...)
	if ends {
		c.leaveOut(f.increment)
		c.noteGoAway(c.goAway)
		c.goAway = nil
	}
}

// noteGoAway notes the code and the debug data of a GOAWAY. The first one counts.
func (c *Conn) noteGoAway(says []byte) {
	if c.away.Load() != nil {
		return
	}
	code, data := http2.ErrCode(binary.BigEndian.Uint32(says)), says[4:]
	text := "code: " + code.String()
	if len(data) > 0 {
		text += fmt.Sprintf(", debug data: %q", data)
	}
	c.away.Store(&text)
	if c.calm != nil && code == http2.ErrCodeEnhanceYourCalm && string(data) == "too_many_pings" { // gRFC A8
		c.calm()
	}
}

// received follows the streams to their end.
func (c *Conn) received(f h2Frame) bool {
	c.inMessage = c.inMessage || f.kind == http2.FrameHeaders || f.kind == http2.FrameData
	if f.streams.named && c.allow != nil {
		c.allow(f.streams.value)
	}
	if f.fields.named {
		c.bounded.Store(true)
	}
	if f.kind == http2.FrameData {
		if f.stream != c.came.stream {
			c.countArrived()
			c.followMessages(f.stream)
		}
		c.came.passed += int64(f.padding)
		c.came.bytes += int64(f.length - f.padding) // grpc-go drops padding at once
		c.came.padded += int64(f.length)
	}
	switch {
	case f.kind == http2.FrameHeaders: // readBlock ends the stream
	case f.ends(), f.kind == http2.FrameWindowUpdate && f.stream > 0 && f.increment == 0: // RFC 9113 §6.9
		c.countArrived()
		c.came.stream = 0 // more DATA of the stream is no call's
		c.mu.Lock()
		defer c.mu.Unlock()
		c.noteEnd(f)
		c.forget(f.stream)
	}
	return true
}

// noteEnd notes how the frame ends a call, if it ends its stream. mu is held.
func (c *Conn) noteEnd(f h2Frame) {
	s := c.streams[f.stream]
	switch {
	case s.place == nil:
	case f.kind == http2.FrameWindowUpdate:
		s.place.ends(endMalformed)
	case f.kind == http2.FrameRSTStream && f.length != 4: // it ends the connection
	case f.kind == http2.FrameRSTStream && http2.ErrCode(f.increment) == http2.ErrCodeRefusedStream:
		s.place.ends(endRefused)
	case f.kind == http2.FrameRSTStream:
		s.place.ends(endReset)
	case s.answer != isOver:
		c.came.ends = s.place // behind its bytes
	}
}

// leaveOut notes that the backend takes no stream behind the last one. RFC 9113 §6.8.
func (c *Conn) leaveOut(last uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = min(c.last, last)
	for stream, s := range c.streams {
		if stream > c.last && s.place != nil {
			s.place.ends(endLeftOut)
		}
	}
}

func (c *Conn) Write(p []byte) (n int, err error) {
	defer c.fail(&err)
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	// In one piece: a backend that isn't gRPC may close the connection in between.
	out := c.out.scan(p, c.sending)
	if len(c.begun) > 0 {
		out = append(c.begun, out...)
		c.begun = nil
	}
	if c.out.inBlock() { // grpc-go writes the rest next
		c.begun = bytes.Clone(out)
		return len(p), nil
	}
	if len(out) > 0 {
		if _, err := c.Conn.Write(out); err != nil {
			return 0, c.writeError(err)
		}
	}
	if !c.isReady.Load() {
		return len(p), nil
	}
	return len(p), c.sendReady()
}

// writeError returns why a write failed: what was read says more.
func (c *Conn) writeError(err error) error {
	if c.greeted.Load() {
		return cmp.Or(c.odd, err)
	}
	err = cmp.Or(checkGreeting(nil, err, c.plaintext), err)
	c.failed.CompareAndSwap(nil, &err)
	return err
}

// Failure returns why grpc-go can't use the connection, or nil.
func (c *Conn) Failure() error {
	if why := c.failed.Load(); why != nil {
		return *why
	}
	return nil
}

// Silence returns why the backend was given up, if it answered no ping, or nil.
func (c *Conn) Silence() error { return c.watch.gaveUp() }

// IsBounded reports whether the backend bounds the header of a request.
func (c *Conn) IsBounded() bool { return c.bounded.Load() }

// Cut ends the connection at once.
func (c *Conn) Cut() { socket.Cut(c.Conn) }

// Lost returns why a connection of calls was lost, or nil.
func (c *Conn) Lost() error {
	why := c.failed.Load()
	if why == nil {
		return nil
	}
	text := (*why).Error()
	if !errors.Is(*why, errNotAlive) {
		text = "error reading from server: " + text
	}
	if away := c.away.Load(); away != nil {
		text += ", received prior goaway: " + *away
	}
	return errors.New(text)
}

// noteLoss notes why grpc-go can't read any more. Before there was anything to read, a write
// that failed says as much.
func (c *Conn) noteLoss(why error) {
	if errors.Is(why, io.EOF) && (c.in.skip > 0 || len(c.in.carry) > 0) {
		why = io.ErrUnexpectedEOF
	}
	c.failed.CompareAndSwap(nil, &why)
}

// sending reports whether a frame may be sent.
func (c *Conn) sending(f h2Frame) bool {
	switch {
	case f.table.named:
		c.answers.table.Store(new(f.table.value))
	case f.kind == http2.FrameWindowUpdate && f.stream == 0:
		return c.askCredit(f)
	case f.kind == http2.FrameWindowUpdate:
		return c.askMore(f)
	case f.kind == http2.FrameHeaders:
		c.mu.Lock()
		defer c.mu.Unlock()
		if _, known := c.streams[f.stream]; !known { // and no trailers
			c.out.before = c.takeResets() // the stream may have the place of one that is to be reset
			c.streams[f.stream] = stream{window: StreamWindow, withheld: GRPCWindow - StreamWindow}
			c.watch.streams(len(c.streams))
		}
		c.watch.sent()
	case f.kind == http2.FrameData:
		c.watch.sent()
		c.sends = c.flowOf(f.stream)
	case f.kind == http2.FrameRSTStream:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.forget(f.stream)
	}
	return true
}

// silencePing is a PING whose payload grpc-go never sends, and silencePong its answer. RFC
// 9113 §6.7.
var (
	silencePing = pingFrame(0)
	silencePong = pingFrame(http2.FlagPingAck)
)

func pingFrame(flags http2.Flags) []byte {
	return append([]byte{0, 0, 8, byte(http2.FramePing), byte(flags), 0, 0, 0, 0}, "culvert?"...)
}

// reset ends a stream at the backend that has ended for grpc-go, which resets only streams
// that it still sends on. RFC 9113 §6.4.
func (c *Conn) reset(stream uint32) {
	frame := append([]byte{0, 0, 4, byte(http2.FrameRSTStream), 0}, binary.BigEndian.AppendUint32(nil, stream)...)
	c.offer(ownFrame{bytes: binary.BigEndian.AppendUint32(frame, uint32(http2.ErrCodeCancel))})
}

// Catch ends a panic beside the connection, and ends the connection. It must be deferred
// itself.
func (c *Conn) Catch() {
	if v := recover(); v != nil {
		_ = c.caught(v) // the log has it
	}
}

// fail is Catch in a method that returns an error.
func (c *Conn) fail(err *error) {
	if v := recover(); v != nil {
		*err = c.caught(v)
	}
}

func (c *Conn) caught(v any) *report.Fault {
	f := c.panics.Note("a connection to a backend", v, slog.String("peer", c.RemoteAddr().String()))
	c.Cut()
	return f
}

// offer sends a frame as soon as no other is being written.
func (c *Conn) offer(frame ownFrame) {
	c.addReady(frame)
	select {
	case c.wake <- struct{}{}:
	default: // it is awake already
	}
}

func (c *Conn) addReady(frame ownFrame) {
	c.readyMu.Lock()
	defer c.readyMu.Unlock()
	c.ready = append(c.ready, frame)
	c.isReady.Store(true)
}

func (c *Conn) takeReady() []ownFrame {
	c.readyMu.Lock()
	defer c.readyMu.Unlock()
	ready := c.ready
	c.ready = nil
	c.isReady.Store(false)
	return ready
}

// takeResets takes the RST_STREAMs out of ready. It returns nil if there is none.
func (c *Conn) takeResets() (frames []byte) {
	if !c.isReady.Load() {
		return nil
	}
	c.readyMu.Lock()
	defer c.readyMu.Unlock()
	c.ready = slices.DeleteFunc(c.ready, func(f ownFrame) bool {
		reset := f.bytes[frameKindAt] == byte(http2.FrameRSTStream)
		if reset {
			frames = append(frames, f.bytes...)
		}
		return reset
	})
	c.isReady.Store(len(c.ready) > 0)
	return frames
}

// send is the connection's goroutine: it writes frames that became ready while
// grpc-go had nothing to write.
func (c *Conn) send() {
	defer c.Catch()
	for {
		select {
		case <-c.wake:
		case <-c.closed.Done():
			return
		}
		c.sendNow()
	}
}

func (c *Conn) sendNow() {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	_ = c.sendReady() // grpc-go meets the same error
}

// sendReady writes the ready frames, unless it would do so inside a frame; then the
// Write that ends that frame does. writeMu is held.
func (c *Conn) sendReady() error {
	if !c.out.between() {
		return nil
	}
	for _, frame := range c.takeReady() {
		isPing := frame.bytes[frameKindAt] == byte(http2.FramePing)
		if isPing && !c.watch.wants() { // something was heard meanwhile
			continue
		}
		if frame.first != nil {
			frame.first()
		}
		if _, err := c.Conn.Write(frame.bytes); err != nil {
			return err
		}
		if isPing {
			c.watch.pinged()
		}
	}
	return nil
}

// forget forgets a stream. mu is held.
func (c *Conn) forget(stream uint32) {
	s := c.streams[stream]
	c.drop(&s)
	if s.small > 0 {
		c.window.Sub(memory.Small, int(s.small))
		c.window.Trim()
	}
	c.window.Sub(memory.Reply, int(s.large))
	delete(c.streams, stream)
	c.watch.streams(len(c.streams))
}
