package serve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
	"github.com/culvert-grpc/culvert/config"
)

type port struct {
	net.Listener
	rules bridge.Listener // what it accepts
}

// ports are the addresses that a program listens on.
type ports struct {
	passed                  sockets.Passed // by the supervisor
	public                  []port         // of each of listen, in its order
	redirect, health, admin net.Listener   // nil: off
}

// bind listens on the public addresses, whose rules are there. serves reports whether there
// is a certificate for a host.
func (p *ports) bind(ctx context.Context, c *config.Loaded, log *slog.Logger, serves func(host string) bool) (err error) {
	if p.passed, err = sockets.Take(ctx, log, endpoints(c)); err != nil {
		return err
	}
	for i, l := range c.Listen {
		at := &p.public[i]
		if at.Listener, err = p.passed.Listen(ctx, listenKey(i), l.Address, l.SocketMode()); err != nil {
			return c.Errorf(listenKey(i), "%w: %s", err, bindRemedy(c, err, l))
		}
		at.rules.LoopbackOnly = sockets.IsLoopback(at.Addr())
		if at.rules.TLS != nil || !at.rules.LoopbackOnly { // else only the names in hosts count, which wiring.Warnings knows
			at.rules.Serves = serves
		}
	}
	return nil
}

// bindRemedy names the flag only if the flag stands for all of listen.
func bindRemedy(c *config.Loaded, err error, l config.Listener) string {
	key := "listen"
	if len(c.Listen) == 1 {
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

// adminMode lets only culvert's user connect to a unix socket.
const adminMode = 0o600

// Why the admin address can't be used.
var (
	errNotLoopback  = errors.New("the address is not on loopback, so other hosts may reach it: write 127.0.0.1 or [::1], or set admin.tls, admin.hosts and admin.token")
	errSharedSocket = errors.New("other users of this host can connect to the supervisor's socket: set its mode to 0600 (SocketMode=) and its owner to root or culvert's user (SocketUser=)")
)

// bindOthers listens on the addresses that aren't for calls.
func (p *ports) bindOthers(ctx context.Context, c *config.Loaded, log *slog.Logger) (err error) {
	p.health, err = p.unlessTaken(ctx, c, log, healthKey, "--health-listen", c.Health.Listen, "no health checks: the default address is taken")
	if err != nil {
		return err
	}
	if address := c.TLS.HTTPListen; address != "" {
		if p.redirect, err = p.passed.Listen(ctx, redirectKey, address, 0); err != nil {
			return c.Errorf(redirectKey, "%w: %s", err, sockets.Remedy(err, redirectKey))
		}
	}
	// After all others, because a taken default is no error here.
	p.admin, err = p.unlessTaken(ctx, c, log, adminKey, "--admin", c.Admin.Listen, "no admin address: the default one is taken")
	switch {
	case p.admin == nil:
		return err
	case p.admin.Addr().Network() != "unix" && !sockets.IsLoopback(p.admin.Addr()) && !c.Admin.Guarded():
		return c.Errorf(adminKey, "%w", errNotLoopback)
	case p.passed[adminKey] != nil && p.passed[adminKey].IsShared():
		return c.Errorf(adminKey, "%w", errSharedSocket)
	}
	return nil
}

// unlessTaken listens on an address, unless it is off. It ignores a default address that is
// taken, and only logs so, so that a second culvert can run on a machine. An address that
// the operator set must be free.
func (p *ports) unlessTaken(ctx context.Context, c *config.Loaded, log *slog.Logger, key, flag, address, taken string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	ln, err := p.passed.Listen(ctx, key, address, adminMode)
	if err == nil {
		return ln, nil
	}
	if !c.IsSet(key) {
		log.Warn(taken, "address", address, "hint", "set "+flag+" ("+key+")") //nolint:sloglint // the callers' messages are constants
		return nil, nil
	}
	remedy := sockets.Remedy(err, flag)
	if errors.Is(err, os.ErrNotExist) {
		remedy = "create the directory, or choose another path with " + flag
	}
	return nil, c.Errorf(key, "%w: %s, or turn it off with %s off", err, remedy, flag)
}

func (p *ports) close() {
	all := []net.Listener{p.redirect, p.health, p.admin}
	for _, l := range p.public {
		all = append(all, l.Listener)
	}
	for _, ln := range all {
		if ln != nil {
			_ = ln.Close() // the error that counts is the one that led here
		}
	}
}

// leave closes the supervisor's sockets that aren't for calls: the next culvert answers, as on
// the others, which the bridge leaves.
func (p *ports) leave() {
	for key, ln := range map[string]net.Listener{redirectKey: p.redirect, healthKey: p.health, adminKey: p.admin} {
		if p.passed[key] != nil {
			_ = ln.Close() // nobody needs it here
		}
	}
}

func endpoints(c *config.Loaded) []sockets.Endpoint {
	var all []sockets.Endpoint
	for i, l := range c.Listen {
		all = append(all, sockets.Endpoint{Key: listenKey(i), Name: l.Name, Address: l.Address})
	}
	all = append(
		all,
		sockets.Endpoint{Key: healthKey, Name: "health", Address: c.Health.Listen},
		sockets.Endpoint{Key: redirectKey, Name: "http", Address: c.TLS.HTTPListen},
		sockets.Endpoint{Key: adminKey, Name: "admin", Address: c.Admin.Listen},
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
