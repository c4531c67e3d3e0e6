package serve

import (
	"crypto/tls"
	"io"
	"net"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/files"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
	"github.com/culvert-grpc/culvert/config"
)

// maxAdminConnections bounds those of callers who may have no token. An operator's new
// connection replaces the oldest.
const maxAdminConnections = 256

// openAccess reads what decides who may use the admin address.
func (p *program) openAccess() (err error) {
	p.access.Log = p.log.Logger
	p.access.SetHosts(p.Config.Admin.Hosts)
	if p.token, err = files.OpenToken(p.Config, p.log.Logger, p.access.SetToken); err != nil {
		return err
	}
	p.adminTLS, err = p.keys.Admin(p.Config)
	return err
}

func (p *program) changeAdminHosts(_, next *config.Loaded) (commit, undo func(), err error) {
	return func() { p.access.SetHosts(next.Admin.Hosts) }, nil, nil
}

func (p *program) adminListener(ln net.Listener) net.Listener {
	ln = p.bridge.LeaveDescriptors(ln)
	if ln.Addr().Network() != "unix" {
		ln = sockets.Newest(ln, maxAdminConnections)
	}
	if p.adminTLS != nil {
		ln = tls.NewListener(ln, p.adminTLS)
	}
	return ln
}

func (p *program) aboutAdmin(ln net.Listener) []any {
	attrs := []any{"address", sockets.AddressOf(ln.Addr())}
	if p.adminTLS != nil {
		attrs = append(attrs, "tls", true)
	}
	return attrs
}

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
	return &admin.Control{
		Log: p.log.Logger, Level: &p.log.Level, Version: p.Version, Started: p.began, Configuration: p.configuration, Problems: p.problems,
		Drain: &p.draining, Data: p.data(), Access: &p.access,
	}
}

func (p *program) configuration() admin.Configuration {
	now := p.reloads.current()
	shown := admin.Configuration{Print: func(w io.Writer) error { return now.Whole().Print(w) }, File: now.File, Version: now.version, Since: now.since}
	if now.rejected != nil {
		shown.Rejected, shown.RejectedAt, shown.Difference, shown.Restart = now.rejected.cause, now.rejected.at, now.rejected.changed, now.rejected.keys
	}
	return shown
}
