package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/culvert-grpc/culvert/client/internal/network"
	"github.com/culvert-grpc/culvert/client/internal/tunnel"
	"github.com/culvert-grpc/culvert/client/internal/webcall"
)

// openGRPC opens an HTTP/2 connection. A second connection shows that gRPC passes in both
// directions: boxes let HTTP/2 pass and refuse or hold gRPC.
func (d *Dialer) openGRPC(ctx context.Context) opened {
	shown := make(chan error, 1)
	culvert := false
	show := func() {
		var err error
		culvert, err = d.showGRPC(ctx)
		shown <- err
	}
	if !d.begin(show) {
		return opened{err: errClosed}
	}
	r := d.openHTTP2(ctx)
	if r.err == nil {
		if r.err = <-shown; errors.Is(r.err, webcall.ErrNotFound) {
			r.err = nil // it may have gRPC at the paths of its services only
		}
	}
	if r.err == nil {
		r.conn.culvert = culvert
	}
	return r
}

func (d *Dialer) openHTTP2(ctx context.Context) opened {
	raw, err := d.dialHTTP2(ctx)
	if err != nil {
		return opened{err: err}
	}
	c := newConn(raw, GRPC, network.TLSState(raw))
	rtt, err := c.prove(ctx, 1)
	return opened{conn: c, err: err, rtt: rtt}
}

// dialHTTP2 connects to an edge that speaks HTTP/2, as far as TLS can tell.
func (d *Dialer) dialHTTP2(ctx context.Context) (net.Conn, error) {
	raw, err := d.net.Dial(ctx, d.target, "h2", "http/1.1")
	if err != nil {
		return nil, err
	}
	if !network.MayBeHTTP2(raw) {
		_ = raw.Close() // nothing has crossed it
		return nil, errors.New("the edge, or a box on the way, doesn't speak HTTP/2: TLS agreed on HTTP/1.1 (ALPN)")
	}
	return raw, nil
}

// showGRPC calls the edge on a connection of its own. It closes that itself: net/http spares one
// whose call hasn't ended, and an edge that holds it may never end it.
func (d *Dialer) showGRPC(ctx context.Context) (culvert bool, err error) {
	raw, err := d.dialHTTP2(ctx)
	if err != nil {
		return false, err
	}
	defer raw.Close()
	calls, err := network.HTTP2(ctx, raw, d.target, maxReplay)
	if err != nil {
		return false, err
	}
	h := http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	if err := d.authorize(ctx, h); err != nil {
		return false, err
	}
	return webcall.Echo(ctx, calls, d.target.URL(webcall.EchoPath).String(), h)
}

// openWebSocket opens HTTP/2 inside a WebSocket.
func (d *Dialer) openWebSocket(ctx context.Context) opened {
	raw, err := d.net.Dial(ctx, d.target, "http/1.1")
	if err != nil {
		return opened{err: err}
	}
	h := make(http.Header)
	if err := d.authorize(ctx, h); err != nil {
		_ = raw.Close() // nothing has crossed it
		return opened{err: err}
	}
	state := network.TLSState(raw)
	inner, err := tunnel.Open(ctx, raw, d.target.URL("/"), h)
	if err != nil {
		return opened{err: err}
	}
	if !d.begin(inner.Run) {
		_ = inner.Close() // it can't fail
		inner.Run()
		return opened{err: errClosed}
	}
	c := newConn(inner, WebSocket, state)
	c.remote = raw.RemoteAddr()
	rtt, err := c.prove(ctx, 2) // boxes let one frame pass, and no other
	if err != nil {
		err = fmt.Errorf("a WebSocket opens, but HTTP/2 inside it doesn't answer: %w", err)
	}
	return opened{conn: c, err: err, rtt: rtt}
}

// openWeb opens a connection in memory, after calls of gRPC-Web have shown what passes.
func (d *Dialer) openWeb(ctx context.Context) opened {
	web := d.webEnd() //nolint:contextcheck // it outlives this connection
	if web == nil {
		return opened{err: errClosed}
	}
	h := http.Header{"Content-Type": {"application/grpc-web+proto"}, "X-Grpc-Web": {"1"}}
	if err := d.authorize(ctx, h); err != nil {
		return opened{err: err}
	}
	url := d.target.URL(webcall.EchoPath).String()
	begun := time.Now()
	short, cancel := context.WithTimeout(ctx, halfPatience)
	defer cancel()
	twoWay := make(chan error, 1)
	echo := func() {
		_, err := webcall.Echo(short, web.trip, url, h.Clone())
		twoWay <- err
	}
	if !d.begin(echo) {
		return opened{err: errClosed}
	}
	beats, err := webcall.Once(ctx, web.trip, url, h)
	rtt := time.Since(begun)
	if err != nil && ctx.Err() != nil && web.remote() == nil { // net/http doesn't wait for its dial
		err = &network.Error{Stage: network.Connect, Address: d.target.Address(), Err: errors.New("no connection opened in time")}
	}
	if err != nil && !errors.Is(err, webcall.ErrNotFound) {
		return opened{err: err}
	}
	streams := <-twoWay == nil
	web.SetTwoWay(streams)
	web.SetBeats(beats)
	inner, err := web.Dial(ctx)
	if err != nil {
		return opened{err: err}
	}
	c := newConn(inner, GRPCWeb, web.state())
	c.remote = web.remote()
	return opened{conn: c, rtt: rtt, lesson: lesson{twoWay: streams}}
}
