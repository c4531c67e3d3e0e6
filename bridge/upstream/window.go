package upstream

import (
	"cmp"
	"context"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/credentials"

	"github.com/culvert-grpc/culvert/bridge/memory"
)

// windowCredentials puts a windowConn on every connection to a backend, above
// TLS if there is any.
type windowCredentials struct {
	credentials.TransportCredentials
	budget *memory.Budget
}

func (w windowCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := w.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	c := newWindowConn(conn, w.budget)
	c.link = newBackendLink(ctx)
	c.plaintext = w.Info().SecurityProtocol == "insecure"
	return c, info, nil
}

func (w windowCredentials) Clone() credentials.TransportCredentials {
	return windowCredentials{w.TransportCredentials.Clone(), w.budget}
}

// A windowConn keeps large response messages within the budget, and asks a
// backend that is silent whether it is there (silence).
//
// grpc-go gives a stream the whole window that a message needs as soon as it
// has read the message's length; from then on nothing stops the upstream until
// the message is held in full. That permission is a WINDOW_UPDATE larger than
// the stream's fixed window, so it is withheld here, on its way out, until the
// budget has room for the message. It counts until the message's bytes have
// come or the stream ends. What fits the fixed window passes unasked.
// RFC 9113 §6.9.
type windowConn struct {
	net.Conn
	budget *memory.Budget

	watch *silenceWatch // sends a PING if the backend is silent
	link  *backendLink  // told how many streams the backend allows; nil: nobody is

	in        h2Frames    // of what is read; Read's own
	inMessage bool        // HEADERS or DATA were in what was read; Read's own
	greeted   atomic.Bool // something was read
	plaintext bool        // without TLS

	writeMu sync.Mutex // held for a Write, and for what is put between frames
	out     h2Frames

	large   atomic.Int64 // how many streams have a grant, for a look without mu
	mu      sync.Mutex
	streams map[uint32]*grant // those that the upstream may still send on; nil: without a grant

	readyMu sync.Mutex  // taken under the budget's mu, which is taken under mu
	ready   [][]byte    // frames of culvert's own that may go out now: WINDOW_UPDATE, PING
	isReady atomic.Bool // there are some, for a look without readyMu

	wake   chan struct{} // one place: there is something in ready
	closed context.Context
	close  context.CancelFunc
	sender sync.WaitGroup
}

// A grant is the room that one stream's large message has, or waits for.
type grant struct {
	waiter *memory.Waiter
	left   int64       // bytes that are to come before the rest fits the fixed window
	update []byte      // the WINDOW_UPDATE that is withheld
	sent   atomic.Bool // or no more
}

func newWindowConn(conn net.Conn, b *memory.Budget) *windowConn {
	c := &windowConn{Conn: conn, budget: b, streams: make(map[uint32]*grant), wake: make(chan struct{}, 1)}
	c.out.skip = len(http2.ClientPreface)
	c.closed, c.close = context.WithCancel(context.Background()) // ended by Close
	c.watch = newSilenceWatch(conn, func() { c.offer(silencePing) })
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
	if !f.ends() && (f.kind != http2.FrameData || c.large.Load() == 0) {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.streams[f.stream]; g != nil && f.kind == http2.FrameData {
		if g.left -= int64(f.length); g.left <= 0 {
			c.letOut(g) // if it still waits: what is left needs no room
			c.drop(f.stream)
		}
	}
	if f.ends() {
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
	case f.kind == http2.FrameWindowUpdate && f.stream != 0 && f.increment > streamWindow:
		return c.askRoom(f)
	case f.kind == http2.FrameHeaders:
		c.mu.Lock()
		defer c.mu.Unlock()
		if _, known := c.streams[f.stream]; !known { // and no trailers
			c.streams[f.stream] = nil
			c.watch.streams(len(c.streams))
		}
		c.watch.sent()
	case f.kind == http2.FrameData:
		c.watch.sent()
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
	g := &grant{left: int64(f.increment) - streamWindow, update: f.append(make([]byte, 0, windowUpdateBytes))}

	c.mu.Lock()
	if _, open := c.streams[f.stream]; !open { // grpc-go asks for a stream that it has reset
		c.mu.Unlock()
		return true
	}
	c.drop(f.stream) // of the message before, if its end was not seen
	c.streams[f.stream] = g
	c.large.Add(1)
	c.mu.Unlock()
	w, atOnce := c.budget.Ask(memory.Reply, int64(f.increment), func() { c.letOut(g) })
	c.mu.Lock()
	defer c.mu.Unlock()
	g.waiter = w
	if c.streams[f.stream] != g { // the stream ended meanwhile
		c.budget.Drop(w)
	}
	// If most of the message came meanwhile, received has let it out.
	return atOnce && !g.sent.Swap(true)
}

// letOut sends what is withheld as soon as no frame is under way.
func (c *windowConn) letOut(g *grant) {
	if !g.sent.Swap(true) {
		c.offer(g.update)
	}
}

// silencePing is a PING whose payload grpc-go never sends. The answer is passed
// on to grpc-go, which ignores it but for its own keepalive. RFC 9113 §6.7.
var silencePing = append([]byte{0, 0, 8, byte(http2.FramePing), 0, 0, 0, 0, 0}, "culvert?"...)

// offer sends a frame as soon as no other is under way.
func (c *windowConn) offer(frame []byte) {
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
		isPing := frame[frameKindAt] == byte(http2.FramePing)
		if isPing && !c.watch.wants() { // something was heard meanwhile
			continue
		}
		if _, err := c.Conn.Write(frame); err != nil {
			return err
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
	delete(c.streams, stream)
	c.watch.streams(len(c.streams))
}

// drop ends a stream's claim. mu is held.
func (c *windowConn) drop(stream uint32) {
	if g := c.streams[stream]; g != nil {
		c.streams[stream] = nil
		c.large.Add(-1)
		if g.waiter != nil {
			c.budget.Drop(g.waiter)
		}
	}
}
