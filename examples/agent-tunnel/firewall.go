package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// A firewall passes TCP connections to an address, and closes those that begin with
// HTTP/2, as some networks do. It lets WebSockets through.
type firewall struct {
	listener net.Listener
	to       string
	cut      atomic.Int64 // connections
	relays   sync.WaitGroup
}

func startFirewall(ctx context.Context, to string) (*firewall, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &firewall{listener: listener, to: to}
	f.relays.Go(func() { f.accept(ctx) })
	return f, nil
}

func (f *firewall) address() string { return f.listener.Addr().String() }

// stop waits until the last connection has ended.
func (f *firewall) stop() {
	_ = f.listener.Close() // no more connections
	f.relays.Wait()
}

func (f *firewall) accept(ctx context.Context) {
	for {
		client, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.relays.Go(func() { f.relay(ctx, client) })
	}
}

func (f *firewall) relay(ctx context.Context, client net.Conn) {
	defer func() { _ = client.Close() }() // both ends know by now
	preface := make([]byte, len("PRI"))   // HTTP/2 begins with this method. RFC 9113 §3.4
	if _, err := io.ReadFull(client, preface); err != nil {
		return
	}
	if string(preface) == "PRI" {
		f.cut.Add(1)
		return
	}
	server, err := new(net.Dialer).DialContext(ctx, "tcp", f.to)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }() // as above
	if _, err := server.Write(preface); err != nil {
		return
	}
	var up sync.WaitGroup
	up.Go(func() { pass(server, client) })
	pass(client, server)
	up.Wait()
}

// pass copies to the end, and passes the end on. An error ends both directions.
func pass(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if tcp, ok := to.(*net.TCPConn); ok {
		err = errors.Join(err, tcp.CloseWrite())
	}
	if err != nil {
		_ = to.Close()
		_ = from.Close()
	}
}
