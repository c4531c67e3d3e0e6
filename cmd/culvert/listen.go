package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/config"
)

// bind listens on every address, or on none: the first that can't be had
// gives back those before it.
func (p *program) bind(ctx context.Context) error {
	for i, l := range p.config.Listen {
		ln, err := listenOn(ctx, l)
		if err != nil {
			p.close() //nolint:contextcheck // nothing runs yet that a context could end
			return p.config.Errorf(config.Entry("listen", i)+".address", "%w: %s", err, listenRemedy(err, "--listen"))
		}
		p.listeners = append(p.listeners, ln)
	}
	return nil
}

func listenOn(ctx context.Context, l config.Listener) (net.Listener, error) {
	if socket := l.Socket(); socket != "" {
		return listenSocket(ctx, socket, l.SocketMode())
	}
	return listen(ctx, l.Address)
}

// listen names the address in its error, without the words of net.OpError.
func listen(ctx context.Context, address string) (net.Listener, error) {
	ln, err := bridge.ListenConfig().Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, listenCause(err))
	}
	return ln, nil
}

func listenCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return err
}

func listenRemedy(err error, flag string) string {
	switch {
	case errors.Is(err, errSocketServed), errors.Is(err, errNoSocket):
		return "choose another path with " + flag + ", or remove what is there"
	case errors.Is(err, os.ErrPermission):
		return "choose a port from 1024 up with " + flag + ", or grant CAP_NET_BIND_SERVICE"
	}
	return "choose another address with " + flag + ", or end what has this one"
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
