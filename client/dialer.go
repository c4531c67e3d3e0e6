package client

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/culvert-grpc/culvert/client/internal/network"
	"github.com/culvert-grpc/culvert/client/internal/webcall"
)

const (
	findTimeout  = 15 * time.Second       // for all ways together
	wayTimeout   = 10 * time.Second       // for one
	headStart    = 300 * time.Millisecond // before the next way begins beside one. RFC 8305 §5 has 250 ms
	halfPatience = 3 * time.Second        // for a way that streams in both directions, where one does in one
)

var errClosed = errors.New("the client is closed")

// A Dialer finds ways to one edge, and opens connections by them: it is the part of a Client
// for programs that speak HTTP/2 themselves. Its methods may be called concurrently.
type Dialer struct {
	target network.Target
	net    network.Network
	o      options

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	watches bool          // connections are grpc-go's of dialOptions: nobody else pings
	calls   atomic.Int64  // that run
	called  atomic.Int64  // when the last call came, in nanoseconds of Unix time
	wants   atomic.Int64  // calls that have come
	wanted  chan struct{} // has a value after one has come

	mu     sync.Mutex
	pace   pace
	rests  int64 // until there are so many wants; see DialWanted
	closed bool
	conns  map[*conn]Status // the Status by each
	status Status
	web    *webEnd // nil: gRPC-Web isn't used

	changes  changes
	renewals renewals
	invoke   atomic.Pointer[invoke] // makes calls past the program's interceptors; nil: there has been none
}

// NewDialer returns a Dialer of the edge at the target, as NewClient has it. The caller closes
// it.
func NewDialer(target string, opts ...Option) (*Dialer, error) {
	t, err := network.ParseTarget(target)
	if err != nil {
		return nil, err
	}
	d := &Dialer{target: t, conns: make(map[*conn]Status), wanted: make(chan struct{}, 1), o: options{improveAfter: time.Minute, pingAfter: pingAfter}}
	d.renewals.all = make(map[*renewal]struct{})
	d.net.Turns = new(network.Turns)
	for _, o := range append([]Option{WithProxy("")}, opts...) {
		if err := o(d); err != nil {
			return nil, err
		}
	}
	if d.net.Secrets = d.o.tokens != nil; d.net.Secrets {
		err = d.net.MayCarrySecrets(t)
	} else {
		_, err = d.net.ProxyFor(t)
	}
	if err != nil {
		return nil, err
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d, nil
}

// Close closes all connections, ends everything that the Dialer has begun, and waits for it. It
// leaves a function of WithOnChange behind that is stuck.
func (d *Dialer) Close() {
	d.cancel()
	d.mu.Lock()
	d.closed = true
	open := d.conns
	d.conns = make(map[*conn]Status)
	web := d.web
	d.mu.Unlock()
	for c := range open {
		_ = c.Close() // it is over either way
	}
	if web != nil {
		web.close()
	}
	d.work.Wait()
	d.note(Status{State: connectivity.Shutdown})
	d.changes.close()
}

// begin runs a function beside the caller, until Close waits for it. It returns false once Close was
// called.
func (d *Dialer) begin(run func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.work.Go(run)
	return true
}

// Dial returns an HTTP/2 connection by the first way that delivers: way.go has their order, and
// race.go tries them. With TLS it has the ConnectionState method of a tls.Conn. The connection
// outlives ctx.
//
// After a failure it returns the same error again, without an attempt, until a pause is over:
// see pace.
func (d *Dialer) Dial(ctx context.Context) (net.Conn, error) {
	attempt, err := d.mayTry()
	if err != nil {
		return nil, err
	}
	d.note(Status{State: connectivity.Connecting})
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)() //nolint:contextcheck // the end of the Dialer is another one
	found := d.race(ctx)
	kept := found.err == nil && d.keep(found) //nolint:contextcheck // what improves it later ends with the connection
	givenUp := found.err != nil && errors.Is(caller.Err(), context.Canceled)
	d.tried(attempt, found.err, givenUp)
	switch {
	case d.ctx.Err() != nil, found.err == nil && !kept:
		closeConn(&found) // nobody has it
		return nil, errClosed
	case givenUp:
		d.note(Status{State: connectivity.Idle})
		return nil, context.Cause(caller)
	case found.err != nil:
		d.note(Status{State: connectivity.TransientFailure, Err: found.err})
		return nil, found.err
	}
	if found.conn.state == nil {
		return found.conn, nil
	}
	return &secureConn{found.conn}, nil
}

// Authority is the :authority of calls to the edge.
func (d *Dialer) Authority() string { return d.target.Authority() }

// Secure reports whether connections have TLS.
func (d *Dialer) Secure() bool { return d.target.Secure }

// Exposed reports whether calls cross a network in plaintext.
func (d *Dialer) Exposed() bool { return !d.target.Secure && d.net.MayCarrySecrets(d.target) != nil }

// PathPrefix is what stands before the path of each method; "": nothing.
func (d *Dialer) PathPrefix() string { return d.target.Prefix }

// try opens a connection by a way.
func (d *Dialer) try(ctx context.Context, way Way) opened {
	ctx, cancel := context.WithTimeoutCause(ctx, wayTimeout, errSilent)
	defer cancel()
	var r opened
	switch way {
	case GRPC:
		r = d.openGRPC(ctx)
	case WebSocket:
		r = d.openWebSocket(ctx)
	default:
		r = d.openWeb(ctx)
	}
	if r.err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errSilent) && !errors.As(r.err, new(*network.Error)) {
			r.err = cause
		}
		closeConn(&r)
		return opened{err: &wayError{way, r.err}}
	}
	r.lesson.way = way
	return r
}

var errSilent = errors.New("a connection opens, but nothing comes back in time: a box on the way may hold or drop it")

// keep takes a connection over. It returns false once Close was called.
func (d *Dialer) keep(o opened) bool {
	c := o.conn
	c.dialer = d
	c.watched = d.watches && c.way != GRPCWeb
	if d.o.tokens != nil && c.way == WebSocket {
		c.renewal = d.renewals.add()
	}
	if !d.own(o) {
		return false
	}
	learn(d.where(), c, o.lesson, time.Now())
	return true
}

// own begins what a connection needs.
func (d *Dialer) own(o opened) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	c := o.conn
	if d.o.way == "" && c.way != GRPC {
		d.work.Go(func() { d.improve(c) })
	}
	if c.watched {
		d.work.Go(func() { d.watch(c) })
		if c.renewal != nil {
			d.work.Go(func() { d.renew(d.ctx, c, d.call) })
		}
	}
	d.conns[c] = Status{State: connectivity.Ready, Way: c.way, TwoWay: !o.half(), Latency: o.rtt}
	d.setStatus(d.conns[c])
	return true
}

// lose notes that a connection has ended.
func (d *Dialer) lose(c *conn) {
	d.renewals.remove(c.renewal)
	d.net.Turns.Doubt()
	if d.disown(c) && c.silent() {
		distrust(d.where(), c, time.Now())
	}
}

// disown forgets a connection. It returns false once Close was called.
func (d *Dialer) disown(c *conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	by := d.conns[c]
	delete(d.conns, c)
	if until := c.unused.Load(); until > 0 && len(d.conns) == 0 {
		d.rests = until
	}
	d.dropWeb()
	if d.status != by {
		return true // it is that of another one, or there hasn't been one since
	}
	left := Status{State: connectivity.Idle}
	for other, s := range d.conns {
		if !other.retired.Load() {
			left = s
		}
	}
	d.setStatus(left)
	return true
}

// dropWeb ends gRPC-Web when nothing can use it, so that nothing is left behind, also without a
// Close. mu is held.
func (d *Dialer) dropWeb() {
	if web := d.web; web != nil && len(d.conns) == 0 && d.pace.running == 0 && !d.closed {
		d.web = nil
		d.work.Go(web.close)
	}
}

// loseWeb has further calls of gRPC-Web look for a way anew: a connection in memory doesn't
// notice by itself that there is none to the edge.
func (d *Dialer) loseWeb(web *webEnd, err error) {
	silent := errors.Is(err, webcall.ErrSilent)
	if silent || errors.Is(err, webcall.ErrNoBeat) {
		web.trip.CloseIdleConnections() // they may be as silent
	}
	for _, c := range d.those(func(c *conn) bool { return c.way == GRPCWeb }) {
		if silent {
			distrust(d.where(), c, time.Now())
		}
		c.retire()
	}
}

// those returns the connections for which is returns true.
func (d *Dialer) those(is func(*conn) bool) (conns []*conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		if is(c) {
			conns = append(conns, c)
		}
	}
	return conns
}

// judge distrusts the ways of connections that are given up for their silence and still open:
// grpc-go asks for a new connection before it closes such a one.
func (d *Dialer) judge() {
	for _, c := range d.those(func(c *conn) bool { return c.gone.Load() }) {
		distrust(d.where(), c, time.Now())
	}
}

// improve tries better ways while a connection lasts, and retires it once one delivers.
func (d *Dialer) improve(c *conn) {
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	defer context.AfterFunc(c.doomed, cancel)()
	better := ways[:slices.Index(ways, c.way)]
	for pause := d.o.improveAfter; ; pause = min(2*pause, time.Hour) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if d.needs(c.renewal) {
			continue
		}
		known := recall(d.where(), time.Now())
		for _, way := range better {
			if way == known.silent {
				continue // it would prove itself again, and go silent again
			}
			r := d.try(ctx, way)
			if r.err != nil {
				continue
			}
			learn(d.where(), r.conn, r.lesson, time.Now())
			closeConn(&r)
			if d.needs(c.renewal) {
				break // a call has begun meanwhile
			}
			c.retire()
			return
		}
	}
}

// where names the edge for the memory, and what connections go to in its place: the proxy, or the
// address of WithConnectTo.
func (d *Dialer) where() string {
	return d.target.String() + " " + cmp.Or(d.net.Via(d.target), d.net.ConnectTo)
}

// authorize adds the token to the header of a request.
func (d *Dialer) authorize(ctx context.Context, h http.Header) error {
	if d.o.tokens == nil {
		return nil
	}
	c, err := d.o.tokens.ask(ctx)
	if err != nil {
		return err
	}
	h.Set("Authorization", c.authorization)
	return nil
}
