package upstream

import (
	"cmp"
	"context"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/credentials"

	"github.com/culvert-grpc/culvert/bridge/memory"
)

// windowCredentials puts a windowConn on every connection to a backend, above
// TLS if there is any.
type windowCredentials struct {
	credentials.TransportCredentials
	account *memory.Account
}

func (w windowCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := w.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	c := newWindowConn(conn, w.account)
	c.link = newBackendLink(ctx, c)
	c.plaintext = w.Info().SecurityProtocol == "insecure"
	return c, info, nil
}

func (w windowCredentials) Clone() credentials.TransportCredentials {
	return windowCredentials{w.TransportCredentials.Clone(), w.account}
}

// A windowConn keeps what a backend sends within the account, and asks a
// backend that is silent whether it is there (silence).
//
// grpc-go gives a stream the whole window that a message needs as soon as it
// has read the message's length; from then on nothing stops the upstream until
// the message is held in full. That permission is a WINDOW_UPDATE larger than
// the stream's fixed window, so it is withheld here, on its way out, until the
// account has room for the message. It counts until the message's bytes have
// come or the stream ends.
//
// What fits the fixed window comes unasked, and grpc-go gives the connection's
// window back as soon as bytes have arrived, whoever reads them. So the
// connection's WINDOW_UPDATEs are withheld while the account has no room for as
// much again. Bytes of a message that has its room need no more.
// RFC 9113 §6.9.
type windowConn struct {
	net.Conn
	account *memory.Account
	window  *memory.Entry // the connection's window

	watch *silenceWatch // sends a PING if the backend is silent
	link  *backendLink  // told how many streams the backend allows; nil: nobody is

	in        h2Frames // of what is read; Read's own
	inMessage bool     // HEADERS or DATA were in what was read; Read's own
	came      struct { // of what was read, DATA that isn't counted yet; Read's own
		stream uint32
		bytes  int64
	}
	greeted   atomic.Bool // something was read
	plaintext bool        // without TLS

	writeMu sync.Mutex // held for a Write, and for what is put between frames
	out     h2Frames
	fields  *hpack.Decoder // of request headers; Write's own
	id      string         // in the header that is being read; Write's own
	lost    bool           // the headers can't be read; Write's own
	began   bool           // grpc-go has raised the connection's window to what it counts as

	mu        sync.Mutex
	streams   map[uint32]streamState // those that the upstream may still send on
	expected  map[string][]*flow     // of calls whose streams are about to begin, by their ids
	expecting int                    // how many
	purgeAt   int                    // so many are worth a look for those that have ended
	covered   int64                  // bytes that came of messages with a grant, and are not given back to the connection's window
	credits   map[*credit]struct{}   // updates of the connection's window that wait for room

	readyMu sync.Mutex  // taken under the account's mu, which is taken under mu
	ready   []ownFrame  // those that may go out now
	isReady atomic.Bool // there are some, for a look without readyMu

	wake   chan struct{} // one place: there is something in ready
	closed context.Context
	close  context.CancelFunc
	sender sync.WaitGroup
}

// A grant is the room that one stream's large message has, or waits for. Once it has
// it, the room counts with the connection, and from there the bytes with their call as
// they come.
type grant struct {
	waiter *memory.Waiter // until it has its room
	waits  *flow          // whose call waits; nil: not known
	open   bool           // it has its room
	left   int64          // bytes that are to come before the rest fits the fixed window
	owed   uint32         // what the WINDOW_UPDATE that is withheld gives
}

// An ownFrame is a frame of culvert's own: WINDOW_UPDATE or PING.
type ownFrame struct {
	bytes []byte
	then  func() // once the frame is out; nil: nothing
}

// A credit is an update of the connection's window that waits for room. The room is
// given back once the update is out: the window counts for as long as the
// connection lasts.
type credit struct {
	waiter *memory.Waiter
	left   atomic.Int64 // bytes that wait
}

func newWindowConn(conn net.Conn, a *memory.Account) *windowConn {
	c := &windowConn{Conn: conn, account: a, window: a.NewEntry(), streams: make(map[uint32]streamState), expected: make(map[string][]*flow), purgeAt: minExpected, credits: make(map[*credit]struct{}), wake: make(chan struct{}, 1)}
	c.window.Add(memory.Fixed, connWindow(a))
	c.out.skip = len(http2.ClientPreface)
	c.out.fields = c.readFields
	c.closed, c.close = context.WithCancel(context.Background()) // ended by Close
	c.watch = newSilenceWatch(conn, func() { c.offer(ownFrame{bytes: silencePing}) })
	c.sender.Go(c.send)
	c.sender.Go(func() { c.watch.run(c.closed.Done()) })
	return c
}

// NetConn is the connection under it.
func (c *windowConn) NetConn() net.Conn { return c.Conn }

// Close also gives back what the connection's streams had.
func (c *windowConn) Close() error {
	err := c.Conn.Close()
	c.close()
	c.sender.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.streams {
		c.drop(id)
	}
	for cr := range c.credits {
		c.account.Drop(cr.waiter)
	}
	clear(c.credits)
	c.window.Settle()
	return err
}

func (c *windowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.greeted.Load() && (n > 0 || err != nil) {
		c.greeted.Store(n > 0)
		if odd := checkGreeting(p[:n], err, c.plaintext); odd != nil {
			return 0, odd
		}
	}
	if n > 0 {
		c.inMessage = false
		c.in.scan(p[:n], c.received)
		c.countArrived()
		c.watch.heard(c.inMessage)
		if c.inMessage && c.link != nil {
			c.link.arrivals.Add(1) // before grpc-go hands out what has come
		}
	}
	if err != nil && c.watch.silent.Load() {
		err = errBackendSilent
	}
	return n, err
}

// received follows the streams to their end.
func (c *windowConn) received(f h2Frame) bool {
	c.inMessage = c.inMessage || f.kind == http2.FrameHeaders || f.kind == http2.FrameData
	if f.settings && c.link != nil {
		c.link.allow(f.streams)
	}
	if f.kind == http2.FrameData {
		if f.stream != c.came.stream {
			c.countArrived()
			c.came.stream = f.stream
		}
		c.came.bytes += int64(f.length)
	}
	if f.ends() {
		c.countArrived()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.forget(f.stream)
	}
	return true
}

func (c *windowConn) Write(p []byte) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	for _, part := range c.out.scan(p, c.sending) {
		if _, err := c.Conn.Write(part); err != nil {
			if !c.greeted.Load() {
				err = cmp.Or(checkGreeting(nil, err, c.plaintext), err)
			}
			return 0, err
		}
	}
	if !c.isReady.Load() {
		return len(p), nil
	}
	return len(p), c.sendReady()
}

// sending says whether a frame may go out.
func (c *windowConn) sending(f h2Frame) bool {
	switch {
	case f.kind == http2.FrameWindowUpdate && f.stream == 0:
		return c.askCredit(f)
	case f.kind == http2.FrameWindowUpdate && f.increment > streamWindow:
		return c.askRoom(f)
	case f.kind == http2.FrameHeaders:
		c.mu.Lock()
		defer c.mu.Unlock()
		if _, known := c.streams[f.stream]; !known { // and no trailers
			c.streams[f.stream] = streamState{}
			c.watch.streams(len(c.streams))
		}
		c.watch.sent()
	case f.kind == http2.FrameData:
		c.watch.sent()
		c.wrote(f)
	case f.kind == http2.FramePing && !f.flags.Has(http2.FlagPingAck):
		c.watch.grpcPinged()
	case f.kind == http2.FrameRSTStream:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.forget(f.stream)
	}
	return true
}

// askRoom reserves what a message needs, and returns whether it has it.
func (c *windowConn) askRoom(f h2Frame) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, open := c.streams[f.stream]; !open || c.closed.Err() != nil { // grpc-go asks for a stream that it has reset
		return true
	}
	s := c.streams[f.stream]
	g := &grant{left: int64(f.increment) - streamWindow, owed: f.increment}
	if s.grant != nil { // of the message before, which has come
		if !s.grant.open {
			g.owed += s.grant.owed // grpc-go counts with it
		}
		c.drop(f.stream)
	}
	update := h2Frame{stream: f.stream, increment: g.owed}.append(make([]byte, 0, windowUpdateBytes))
	s.grant = g
	c.streams[f.stream] = s
	var owner *memory.Entry
	if s.flow != nil {
		owner = s.flow.entry
	}
	w, atOnce := c.account.Ask(owner, memory.Reply, int64(f.increment), func() {
		c.offer(ownFrame{update, func() { c.letIn(f.stream, g) }})
	})
	g.waiter = w
	if atOnce {
		c.open(g)
		if g.owed == f.increment {
			return true
		}
		c.offer(ownFrame{bytes: update})
		return false
	}
	g.waits = s.flow
	g.waits.wait(1)
	return false
}

// letIn opens a grant whose update is out.
func (c *windowConn) letIn(stream uint32, g *grant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[stream].grant == g {
		c.open(g)
	}
}

// open has the message's bytes count as they come. Those that fit the fixed window may
// have come. mu is held.
func (c *windowConn) open(g *grant) {
	g.open = true
	c.window.Add(memory.Reply, int(g.left))
	c.stopWaiting(g)
	c.cover(streamWindow)
}

// stopWaiting ends a grant's claim of the account. mu is held.
func (c *windowConn) stopWaiting(g *grant) {
	c.account.Drop(g.waiter)
	g.waits.wait(-1)
	g.waits = nil
}

// askCredit returns whether the backend may have the increment of the connection's
// window now. What it may not have yet is withheld until there is room for it.
func (c *windowConn) askCredit(f h2Frame) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Err() != nil || !c.began {
		c.began = true // the first one gives what newWindowConn has counted
		return true
	}
	paid := min(c.covered, int64(f.increment))
	c.covered -= paid
	rest := int64(f.increment) - paid
	if rest == 0 {
		return true
	}
	cr := new(credit)
	cr.left.Store(rest)
	w, atOnce := c.account.Ask(nil, memory.Small, rest, func() { c.pay(cr) })
	if atOnce {
		c.account.Drop(w)
		return true
	}
	cr.waiter = w
	c.credits[cr] = struct{}{}
	if paid > 0 {
		c.offer(ownFrame{bytes: connUpdate(paid)})
	}
	return false
}

// connUpdate is a WINDOW_UPDATE of the connection.
func connUpdate(n int64) []byte {
	return h2Frame{increment: uint32(n)}.append(make([]byte, 0, windowUpdateBytes))
}

// pay sends what of an update still waits.
func (c *windowConn) pay(cr *credit) {
	if n := cr.left.Swap(0); n > 0 {
		c.offer(ownFrame{connUpdate(n), func() { c.giveBack(cr) }})
	}
}

// cover notes bytes of a message that has its room: the connection's window gets as
// much back without any. mu is held.
func (c *windowConn) cover(n int64) {
	c.covered += n
	for cr := range c.credits {
		left := cr.left.Load()
		part := min(c.covered, left)
		if part == 0 || !cr.left.CompareAndSwap(left, left-part) {
			continue // there is room for it now
		}
		c.covered -= part
		c.offer(ownFrame{bytes: connUpdate(part)})
		if part == left {
			delete(c.credits, cr)
			c.account.Drop(cr.waiter)
		}
	}
}

// giveBack ends the wait of a credit.
func (c *windowConn) giveBack(cr *credit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, waits := c.credits[cr]; waits {
		delete(c.credits, cr)
		c.account.Drop(cr.waiter)
	}
}

// silencePing is a PING whose payload grpc-go never sends. The answer is passed
// on to grpc-go, which ignores it but for its own keepalive. RFC 9113 §6.7.
var silencePing = append([]byte{0, 0, 8, byte(http2.FramePing), 0, 0, 0, 0, 0}, "culvert?"...)

// offer sends a frame as soon as no other is under way.
func (c *windowConn) offer(frame ownFrame) {
	c.readyMu.Lock()
	c.ready = append(c.ready, frame)
	c.isReady.Store(true)
	c.readyMu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default: // it is awake already
	}
}

// send is the connection's goroutine: it writes what became ready while
// grpc-go had nothing to write.
func (c *windowConn) send() {
	for {
		select {
		case <-c.wake:
		case <-c.closed.Done():
			return
		}
		c.writeMu.Lock()
		_ = c.sendReady() // grpc-go meets the same error
		c.writeMu.Unlock()
	}
}

// sendReady writes what is ready, unless that would be inside a frame; then
// the Write that ends it does. writeMu is held.
func (c *windowConn) sendReady() error {
	if !c.out.between() {
		return nil
	}
	c.readyMu.Lock()
	ready := c.ready
	c.ready = nil
	c.isReady.Store(false)
	c.readyMu.Unlock()
	for _, frame := range ready {
		isPing := frame.bytes[frameKindAt] == byte(http2.FramePing)
		if isPing && !c.watch.wants() { // something was heard meanwhile
			continue
		}
		if _, err := c.Conn.Write(frame.bytes); err != nil {
			return err
		}
		if frame.then != nil {
			frame.then()
		}
		if isPing {
			c.watch.pinged()
		}
	}
	return nil
}

// forget ends what is known of a stream. mu is held.
func (c *windowConn) forget(stream uint32) {
	c.drop(stream)
	if n := c.streams[stream].ofAll; n > 0 {
		c.window.Sub(memory.Small, int(n))
	}
	delete(c.streams, stream)
	c.watch.streams(len(c.streams))
}

// drop ends a stream's claim. mu is held.
func (c *windowConn) drop(stream uint32) {
	s := c.streams[stream]
	if s.grant == nil {
		return
	}
	if s.grant.open {
		c.window.Sub(memory.Reply, int(s.grant.left))
	} else {
		c.stopWaiting(s.grant)
	}
	s.grant = nil
	c.streams[stream] = s
}
