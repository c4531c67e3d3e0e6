package edge

import (
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// noteEnd is called once the connection is closed. as is the connection that the server
// had.
func (c *Conn) noteEnd(as net.Conn) {
	if c.tunnel == nil {
		c.edge.open.Add(-1)
		c.listening.open[c.kind.Swap(uint32(kindGone))].Add(-1)
		c.edge.files.free()
	}
	if c.unheardOf() {
		return
	}
	info := c.info(as)
	info.Ended, info.Cause = c.why()
	c.edge.o.Observer.ConnEnded(info)
}

// unheardOf reports whether the Observer doesn't know the connection yet, because the
// connection waits for its PROXY header.
func (c *Conn) unheardOf() bool {
	return c.tunnel == nil && c.client != nil && c.client.proxied != nil && !c.client.proxied.announced
}

func (c *Conn) info(as net.Conn) report.ConnInfo {
	return report.ConnInfo{Peer: as.RemoteAddr().String(), Listener: c.listening.Name, Tunnel: c.tunnel != nil}
}

// bound gives each connection TCP's own watch over silent peers, and refuses
// connections over the limit.
func (e *Edge) bound(ln net.Listener, l *Listening) *boundedListener {
	_, alike := ln.(*net.TCPListener)
	return &boundedListener{closable: newClosable(ln), edge: e, of: l, alike: alike}
}

type boundedListener struct {
	*closable
	edge  *Edge
	of    *Listening
	ended bool // nothing more is accepted; Edge.mu is held

	alike   bool // connections inherit the options of one socket
	probing bool // they begin with the probes; servers call Accept one after the other
}

func (l *boundedListener) Accept() (net.Conn, error) {
	refuse := func(c net.Conn) {
		defer l.edge.catch(c)
		wrapped := l.wrap(c, l.edge.o.Bounds(l.of))
		if client, ok := wrapped.(*clientConn); ok {
			client.scarce = true
		}
		refuseConn(wrapped, errNoDescriptor)
	}
	for {
		c, err := l.edge.files.accept(l.Listener, l.closed, l.edge.files.reserve, refuse)
		if err != nil {
			return nil, err
		}
		if c = l.begin(c); c != nil {
			return c, nil
		}
	}
}

// begin prepares a connection that was accepted. It returns nil if it has refused it.
func (l *boundedListener) begin(c net.Conn) (begun net.Conn) {
	defer l.edge.catch(c)
	l.probing = socket.Probe(c, probes, l.probing) && l.alike
	b := l.edge.o.Bounds(l.of)
	client := l.wrap(c, b)
	if err := l.admit(client, b); err != nil {
		l.edge.refused(err, addressOf(client).String())
		refuseConn(client, err)
		return nil
	}
	return client
}

// wrap lets a socket linger, and makes errors of the panics of an embedder's connection.
// net/http must see a tls.Conn unwrapped.
func (l *boundedListener) wrap(c net.Conn, b Bounds) net.Conn {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
		client := l.edge.newClient(c, l.of, b)
		if b.Listener.expectsHeader(client) {
			client.proxied = new(proxied)
		}
		client.linger.Store(l.of.TLS != nil) // until greet
		return client
	case *tls.Conn:
		return c
	default:
		return socket.Safe(c, func(v any) error { return l.edge.o.Panics.Note("a connection of the listener", v) })
	}
}

var errNoDescriptor = report.OverLimit(report.KeyConnections, connectionRetry, "too many connections: out of file descriptors")

// admit counts a connection, or returns why there are too many.
func (l *boundedListener) admit(c net.Conn, b Bounds) error {
	if l.edge.open.Load() >= int64(b.Connections) {
		f := report.OverLimit(report.KeyConnections, connectionRetry, "too many connections")
		f.Hint = "raise " + report.Named(report.KeyConnections)
		return f
	}
	if c, ok := c.(*clientConn); ok && c.proxied == nil {
		return c.admit(b)
	}
	return nil
}

// admit counts a connection with its address, which must be known, and its listener.
func (c *clientConn) admit(b Bounds) error {
	overTLS := c.on.listening.TLS != nil
	if err := c.use.Begin(b.Quotas, c.address().String(), b.Listener.Scope(), overTLS); err != nil {
		return err
	}
	cost := int64(memory.ConnBytes)
	if overTLS {
		cost += memory.TLSBytes
	}
	held := c.use.Hold(c.on.edge.o.Memory, cost)
	if held == nil {
		c.use.End()
		return report.NoMemory("connections", "")
	}
	c.on.edge.clients.add(c, held)
	return nil
}

// connectionRetry is the delay after which a client may connect again.
const connectionRetry = 5 * time.Second

// ListenConfig returns a configuration with which an accepted connection costs few
// system calls: on Linux the connection begins with the probes of silent peers that
// Serve would set.
func ListenConfig() *net.ListenConfig {
	return &net.ListenConfig{KeepAlive: -1, Control: socket.ControlProbes(probes)}
}

// probes configures TCP's own keep-alive of clients' connections. It notices within 20
// s that an idle peer has vanished; Go's defaults take 150 s. While data is under way,
// the look at each call and the pings watch the peer. Once the connection is closed,
// boundRest does.
var probes = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 3 * time.Second, Count: 3}

func (e *Edge) refused(err error, peer string) {
	if f, ok := errors.AsType[*report.Fault](err); ok {
		e.o.Refusals.Note(f, peer)
	}
}

// refuseConn ends a connection before reading from it.
func refuseConn(c net.Conn, why error) {
	if c, ok := c.(*clientConn); ok {
		c.tellRefusal(why)
	}
	_ = c.Close() // all of this is for a client that may be gone
}

// tellRefusal tells a client of HTTP/1.1 why its connection will be closed.
func (c *clientConn) tellRefusal(why error) {
	if c.on.listening.TLS == nil {
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n" +
			"culvert: " + c.on.edge.o.Words.Say(why.Error()) + "\n"))
	}
	c.linger.Store(c.on.listening.TLS == nil) // else nothing can be told
}
