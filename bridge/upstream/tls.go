package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"reflect"

	"google.golang.org/grpc/credentials"
)

// A TLSSource has the configuration for the next connection to a backend. Its methods
// are called concurrently.
type TLSSource interface{ Config() *tls.Config }

// Same reports whether two backends have the same settings. It compares TLS and
// TLSSource by identity, of Dial only whether it is nil, and Logger not at all.
func (b Backend) Same(other Backend) bool {
	if b.TLS != other.TLS || !sameSource(b.TLSSource, other.TLSSource) || (b.Dial == nil) != (other.Dial == nil) {
		return false
	}
	b.TLS, b.TLSSource, b.Dial, b.Logger = nil, nil, nil, nil
	other.TLS, other.TLSSource, other.Dial, other.Logger = nil, nil, nil, nil
	return reflect.DeepEqual(b, other)
}

func sameSource(a, b TLSSource) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

// currentCredentials use TLS with the configuration that a function returns at each
// handshake. When grpc-go asks them at the start, for example for the server's name,
// they answer by the current configuration.
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
