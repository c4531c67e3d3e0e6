package pool

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// wireCredentials puts a wire.Conn on every connection to a backend, above
// TLS if there is any.
type wireCredentials struct {
	credentials.TransportCredentials
	account *memory.Account
	pool    *Pool // builder takes it from here
}

func (w wireCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (made net.Conn, info credentials.AuthInfo, err error) {
	var wired *wire.Conn
	defer func() {
		if err != nil {
			slotOf(ctx).noteFailure(err)
		}
	}()
	defer w.pool.panics.Catch("a handshake with a backend", func(f *report.Fault) {
		made, err = nil, f
		if wired != nil {
			_ = wired.Close() // it is over either way
		}
	})
	secured, info, err := w.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	var c *conn
	every := w.pool.keepalive.Load()
	if c, ok := raw.(interface{ Pings() bool }); ok && !c.Pings() {
		every = 0
	}
	wired = wire.NewConn(secured, wire.Options{
		Account: w.account, Window: w.pool.window, HeaderBytes: w.pool.headerBytes, Panics: w.pool.panics,
		Plaintext: w.Info().SecurityProtocol == "insecure",
		Keepalive: time.Duration(every), PingTimeout: w.pool.config.pingTimeout, LostPings: &w.pool.lostPings,
		Calm:    func() { w.pool.pingSeldomer(2 * every) },
		LeftOut: w.pool.noteLeftOut,
		Streams: func(most uint32) { //nolint:contextcheck // a connection outlives its handshake
			if c != nil {
				c.allow(most)
			}
		},
	})
	c = newConn(ctx, wired)
	if of, ok := socket.Original(raw).(interface {
		Companion() func(context.Context, grpc.ClientConnInterface)
	}); ok && c != nil {
		c.companion = of.Companion()
	}
	return wired, info, nil
}

func (w wireCredentials) Clone() credentials.TransportCredentials {
	return wireCredentials{w.TransportCredentials.Clone(), w.account, w.pool}
}
