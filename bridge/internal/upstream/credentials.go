package upstream

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// windowCredentials puts a Conn on every connection to a backend, above
// TLS if there is any.
type windowCredentials struct {
	credentials.TransportCredentials
	account *memory.Account
	pool    *pool // the upstream's (poolBuilder)
}

func (w windowCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (made net.Conn, info credentials.AuthInfo, err error) {
	var c *wire.Conn
	defer func() {
		if err != nil {
			connOf(ctx).noteFailure(err)
		}
	}()
	defer w.pool.panics.Catch("a handshake with a backend", func(f *report.Fault) {
		made, err = nil, f
		if c != nil {
			_ = c.Close() // it is over either way
		}
	})
	conn, info, err := w.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	var l *backendLink
	every := w.pool.keepalive.Load()
	c = wire.NewConn(conn, wire.Options{
		Account: w.account, Window: w.pool.window, HeaderBytes: w.pool.headerBytes, Panics: w.pool.panics,
		Plaintext: w.Info().SecurityProtocol == "insecure",
		Keepalive: time.Duration(every), LostPings: &w.pool.lostPings,
		Calm:    func() { w.pool.pingSeldomer(2 * every) },
		LeftOut: w.pool.noteLeftOut,
		Streams: func(most uint32) {
			if l != nil {
				l.allow(most)
			}
		},
	})
	l = newBackendLink(ctx, c)
	return c, info, nil
}

func (w windowCredentials) Clone() credentials.TransportCredentials {
	return windowCredentials{w.TransportCredentials.Clone(), w.account, w.pool}
}
