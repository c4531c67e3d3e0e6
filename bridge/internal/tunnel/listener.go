package tunnel

import (
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/tunnel"
	"github.com/culvert-grpc/culvert/internal/websocket"
)

// Name is the WebSocket subprotocol of tunnels.
const Name = tunnel.Name

// Options are what the connections of a Listener need from their server. StandardHTTP2
// and Panics may be zero; all others are required.
type Options struct {
	Panics *report.Panics // catches those of Run

	// Goodbye returns the code that closes a WebSocket without another reason, and how
	// long its client has to answer.
	Goodbye func() (websocket.StatusCode, time.Duration)

	// Closing reports that no WebSocket waits for its client any more.
	Closing func() bool

	// StandardHTTP2 reports that net/http serves HTTP/2. It doesn't say why it ends a
	// connection.
	StandardHTTP2 bool
}

// A Listener has the tunnels of one server, which accepts them from it.
type Listener struct {
	o      Options
	conns  chan *Conn
	once   sync.Once
	closed chan struct{}

	mu   sync.Mutex
	open map[*Conn]struct{}
}

// NewListener returns a Listener without tunnels.
func NewListener(o Options) *Listener {
	return &Listener{o: o, conns: make(chan *Conn), closed: make(chan struct{}), open: make(map[*Conn]struct{})}
}

// NewConn returns a WebSocket as a tunnel, which on describes. pool lends buffers for data on
// its way to the client. The owner of the Conn runs Run on a goroutine before it offers it.
func (l *Listener) NewConn(ws *websocket.Conn, on *edge.Conn, pool mem.BufferPool) *Conn {
	c := &Conn{of: l, ws: ws, in: tunnel.NewReader(ws), on: on, pool: pool, code: websocket.StatusGoingAway}
	c.cond.L = &c.mu
	return c
}

// Offer hands a tunnel to the server, or closes it if the server has ended.
func (l *Listener) Offer(c *Conn) {
	if c.SendsPreface() {
		c.told = http2.ClientPreface
	}
	l.mu.Lock()
	l.open[c] = struct{}{}
	l.mu.Unlock()
	select {
	case l.conns <- c:
	case <-l.closed:
		_ = c.Close() // the close code tells the client
	}
}

// Tally returns how many tunnels are open, by the name of the listener that they came in on.
func (l *Listener) Tally() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	open := make(map[string]int)
	for c := range l.open {
		open[c.on.Listener().Name]++
	}
	return open
}

func (l *Listener) forget(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

// CloseConns closes the remaining tunnels, including those that the server accepted while
// it ended.
func (l *Listener) CloseConns() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		_ = c.Close() // the close code tells the client
	}
}

// Cut closes the remaining tunnels at once.
func (l *Listener) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		c.ws.Drop()
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. The tunnels stay.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return addr(Name) }

type addr string

func (addr) Network() string  { return "websocket" }
func (a addr) String() string { return string(a) }
