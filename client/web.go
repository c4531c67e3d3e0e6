package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/client/internal/network"
	"github.com/culvert-grpc/culvert/client/internal/webcall"
)

const (
	// secondProof is how long a kept connection may be silent before a new one is tried
	// beside it.
	secondProof = time.Second

	// proofPause is the time between two attempts on refused connections.
	proofPause = time.Second
)

// A webEnd has calls leave as gRPC-Web.
type webEnd struct {
	*webcall.Server
	trip *http.Transport

	echo        string          // the URL of the method that proves the path
	kept, fresh *http.Transport // for that: fresh opens a connection each time

	mu   sync.Mutex
	last net.Conn // that was opened
}

// webEnd returns the Dialer's, or nil once it is closed, or nobody waits for a connection any more.
func (d *Dialer) webEnd() *webEnd {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.pace.running == 0 {
		return nil
	}
	if d.web == nil {
		d.web = d.newWebEnd()
	}
	return d.web
}

func (d *Dialer) newWebEnd() *webEnd {
	e := &webEnd{trip: d.net.Transport(d.target), echo: d.target.URL(webcall.EchoPath).String()}
	// The name server may be slow, which says nothing about the path.
	near := d.net.Near(e.near)
	e.kept, e.fresh = near.Transport(d.target), near.Transport(d.target)
	e.kept.MaxIdleConnsPerHost = 1
	e.fresh.DisableKeepAlives = true
	whole := d.target
	whole.Prefix = "" // the paths of calls have it
	dial := e.trip.DialContext
	note := func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, wayTimeout)
		defer cancel()
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.last = c
		return e.Watch(c), nil
	}
	e.trip.DialContext, e.trip.DialTLSContext = note, note
	e.Server = webcall.New(e.trip, webcall.Options{
		URL:    func(path string) string { return whole.URL(path).String() },
		Unsent: func(err error) bool { _, ok := errors.AsType[*network.Error](err); return ok },
		Lost:   func(err error) { d.loseWeb(e, err) },
		Prove:  e.prove,
	})
	return e
}

func (e *webEnd) close() {
	e.Server.Close()
	for _, t := range [...]*http.Transport{e.trip, e.kept, e.fresh} {
		t.CloseIdleConnections()
	}
}

// state returns the TLS of the last connection.
func (e *webEnd) state() *tls.ConnectionState {
	e.mu.Lock()
	defer e.mu.Unlock()
	return network.TLSState(e.last)
}

// remote returns where the last connection leads.
func (e *webEnd) remote() net.Addr {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last == nil {
		return nil
	}
	return e.last.RemoteAddr()
}

// near returns the address and the port of the edge or of its proxy, or "".
func (e *webEnd) near() string {
	if a := e.remote(); a != nil {
		if _, err := netip.ParseAddrPort(a.String()); err == nil {
			return a.String()
		}
	}
	return ""
}

// prove returns nil once the edge answers a request, or if something refuses it. It asks on a
// connection that is kept for the next time, and a moment later also on a new one: a box may
// have forgotten the other.
func (e *webEnd) prove(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	answers := make(chan error, 2)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	asking.Go(func() { answers <- e.ask(ctx, e.kept) })
	asking.Go(func() {
		select {
		case <-ctx.Done():
			answers <- ctx.Err()
		case <-time.After(secondProof):
			answers <- e.ask(ctx, e.fresh)
		}
	})
	if err := <-answers; err == nil {
		return nil
	}
	return <-answers
}

// ask sends the request until there is an answer, or the context ends. It has no token: a
// refusal is an answer, too.
func (e *webEnd) ask(ctx context.Context, trip http.RoundTripper) error {
	for {
		_, err := webcall.Once(ctx, trip, e.echo, http.Header{"Content-Type": {"application/grpc-web+proto"}, "X-Grpc-Web": {"1"}})
		if err == nil || !isSilence(err) {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(proofPause):
		}
	}
}

// isSilence reports whether an error leaves open that nothing delivers to the edge. A refused
// connection or request isn't silence, unless a proxy refuses it that can't reach the edge.
func isSilence(err error) bool {
	if e, ok := errors.AsType[*network.Error](err); ok {
		return e.TimedOut() || e.Answer != nil && e.Answer.Code/100 == 5
	}
	_, gateway := errors.AsType[*webcall.GatewayError](err)
	return gateway || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
