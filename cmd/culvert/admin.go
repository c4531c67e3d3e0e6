package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
)

// adminMode lets only culvert's user connect to a unix socket.
const adminMode = 0o600

// Why the admin address can't be used.
var (
	errNotLoopback  = errors.New("the address is not on loopback, so other hosts may reach it: write 127.0.0.1 or [::1] in place of a name")
	errSharedSocket = errors.New("other users of this host can connect to the supervisor's socket: set its mode to 0600 (SocketMode=) and its owner to root or culvert's user (SocketUser=)")
)

// openAdmin ignores a default address that is taken, so that a second culvert
// can run on a machine. An address that the operator set must be free.
func (p *program) openAdmin(ctx context.Context) (err error) {
	switch address, socket := p.config.Admin.Listen, p.config.Admin.Socket(); {
	case address == "":
		return nil
	case socket != "" && p.passed[adminKey] == nil:
		p.adminListener, err = sockets.ListenUnix(ctx, socket, adminMode)
	default:
		p.adminListener, err = p.passed.Listen(ctx, adminKey, address)
	}
	switch {
	case err == nil && p.adminListener.Addr().Network() != "unix" && !sockets.IsLoopback(p.adminListener.Addr()):
		return p.config.Errorf(adminKey, "%w", errNotLoopback)
	case err == nil && p.passed[adminKey] != nil && p.passed[adminKey].IsShared():
		return p.config.Errorf(adminKey, "%w", errSharedSocket)
	case err == nil:
		return nil
	case p.config.IsSet(adminKey):
		return p.config.Errorf(adminKey, "%w: %s, or turn it off with --admin off", err, adminRemedy(err))
	}
	p.log.Warn("no admin address: the default one is taken", "address", p.config.Admin.Listen, "hint", "set --admin (admin.listen)")
	return nil
}

func adminRemedy(err error) string {
	if errors.Is(err, os.ErrNotExist) {
		return "create the directory, or choose another path with --admin"
	}
	return sockets.Remedy(err, "--admin")
}

// control returns the pages of the admin address.
func (p *program) control() *admin.Control {
	p.draining = admin.Drain{
		NotReady: func() { p.health.SetReady(false) },
		Refuse: func() {
			p.bridge.RefuseCalls()
			p.log.Info("culvert refuses new calls", "calls", p.bridge.RunningCalls())
		},
		Refuses: p.bridge.RefusesCalls,
		Calls:   p.bridge.RunningCalls,
		Gone:    p.backendsGone,
	}
	return &admin.Control{Log: p.log, Level: &p.logs.Level, Version: thisBuild().Version, Configuration: p.configuration, Drain: &p.draining}
}

// configuration returns what the admin address shows of the configuration.
func (p *program) configuration() admin.Configuration {
	now := p.reloads.current()
	shown := admin.Configuration{Print: func(w io.Writer) error { return now.Whole().Print(w) }, Version: now.version, Since: now.since}
	if now.rejected != nil {
		shown.Rejected, shown.RejectedAt = now.rejected.cause, now.rejected.at
	}
	return shown
}
