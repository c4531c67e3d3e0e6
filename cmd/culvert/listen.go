package main

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
	"github.com/culvert-grpc/culvert/config"
)

// bind listens on all addresses. If one fails, it closes the others.
func (p *program) bind(ctx context.Context) error {
	var err error
	if p.passed, err = sockets.Take(ctx, p.log, p.endpoints()); err != nil {
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
		return sockets.Remedy(err, key)
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
		return sockets.ListenUnix(ctx, socket, l.SocketMode())
	}
	return p.passed.Listen(ctx, key, l.Address)
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

// endpoints returns all addresses that the program listens on.
func (p *program) endpoints() []sockets.Endpoint {
	var all []sockets.Endpoint
	for i, l := range p.config.Listen {
		all = append(all, sockets.Endpoint{Key: listenKey(i), Name: l.Name, Address: l.Address})
	}
	all = append(
		all,
		sockets.Endpoint{Key: healthKey, Name: "health", Address: p.config.Health.Listen},
		sockets.Endpoint{Key: redirectKey, Name: "http", Address: p.config.TLS.HTTPListen},
		sockets.Endpoint{Key: adminKey, Name: "admin", Address: p.config.Admin.Listen},
	)
	return slices.DeleteFunc(all, func(e sockets.Endpoint) bool { return e.Address == "" })
}

// Keys of single addresses.
const (
	healthKey   = "health.listen"
	redirectKey = "tls.http_listen"
	adminKey    = "admin.listen"
)

func listenKey(i int) string { return config.Entry("listen", i) + ".address" }
