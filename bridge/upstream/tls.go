package upstream

import (
	"context"
	"crypto/tls"
	"net"

	"google.golang.org/grpc/credentials"
)

// currentCredentials are TLS with what a function says at each handshake. What
// grpc-go asks of them at the start, such as the server's name, they say of
// what is current then.
type currentCredentials struct {
	credentials.TransportCredentials
	current func() *tls.Config
}

func newCurrentCredentials(current func() *tls.Config) currentCredentials {
	return currentCredentials{credentials.NewTLS(current()), current}
}

func (c currentCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return credentials.NewTLS(c.current()).ClientHandshake(ctx, authority, raw)
}

func (c currentCredentials) Clone() credentials.TransportCredentials {
	return currentCredentials{c.TransportCredentials.Clone(), c.current}
}
