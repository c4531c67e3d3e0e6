package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/config"
)

// bind listens on all addresses. If one fails, it closes the others.
func (p *program) bind(ctx context.Context) error {
	if err := p.takePassed(ctx); err != nil {
		p.close() //nolint:contextcheck // nothing runs yet that a context could end
		return err
	}
	for i, l := range p.config.Listen {
		ln, err := p.listenOn(ctx, listenKey(i), l)
		if err != nil {
			p.close() //nolint:contextcheck // nothing runs yet that a context could end
			return p.config.Errorf(listenKey(i), "%w: %s", err, p.bindRemedy(err, l))
		}
		p.listeners = append(p.listeners, ln)
	}
	return nil
}

// bindRemedy names the flag only if the flag stands for all of listen.
func (p *program) bindRemedy(err error, l config.Listener) string {
	key := "listen"
	if len(p.config.Listen) == 1 {
		key = "--listen"
	}
	switch {
	case l.Socket() == "":
		return listenRemedy(err, key)
	case errors.Is(err, os.ErrNotExist):
		return "create the directory, or choose another path with " + key
	case errors.Is(err, os.ErrPermission):
		return "allow this user to write to the directory, or choose another path with " + key
	default:
		return "choose another path with " + key + ", or remove the file that is there"
	}
}

func (p *program) listenOn(ctx context.Context, key string, l config.Listener) (net.Listener, error) {
	if socket := l.Socket(); socket != "" && p.passed[key] == nil {
		return listenSocket(ctx, socket, l.SocketMode())
	}
	return p.listenAt(ctx, key, l.Address)
}

// aboutListener returns the log attributes of a listener with a name or with
// selected protocols.
func aboutListener(l bridge.Listener) (attrs []any) {
	if l.Name != "" {
		attrs = append(attrs, "listener", l.Name)
	}
	if len(l.Transports) > 0 {
		attrs = append(attrs, "transports", strings.Join(l.Transports, " "))
	}
	return attrs
}

// listen returns errors that begin with the address, without the text of
// net.OpError.
func listen(ctx context.Context, address string) (net.Listener, error) {
	ln, err := bridge.ListenConfig().Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, listenCause(err))
	}
	return ln, nil
}

func listenCause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		err = call.Err
	}
	return err
}

// listenRemedy returns the remedy for a port, which key names as a flag or a
// key.
func listenRemedy(err error, key string) string {
	if errors.Is(err, os.ErrPermission) {
		return "choose a port of 1024 or more with " + key + ", or grant CAP_NET_BIND_SERVICE"
	}
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return "this host doesn't have the address: choose one of its addresses with " + key + ", or write only the port for all of its addresses, as in :8080"
	}
	return "choose another address with " + key + ", or stop the program that uses this one"
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
