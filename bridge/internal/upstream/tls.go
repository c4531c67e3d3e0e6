package upstream

import (
	"context"
	"crypto/tls"
	"net"

	"google.golang.org/grpc/credentials"
)

// currentCredentials use TLS with the configuration that a function returns at each
// handshake. When grpc-go asks them at the start, for example for the server's name,
// they answer by the current configuration.
type currentCredentials struct {
	credentials.TransportCredentials
	current func() *tls.Config
}

func (c currentCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return credentials.NewTLS(c.current()).ClientHandshake(ctx, authority, raw)
}

func (c currentCredentials) Clone() credentials.TransportCredentials {
	return currentCredentials{c.TransportCredentials.Clone(), c.current}
}
