package pool

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"

	"google.golang.org/grpc/credentials"
)

// A noALPNError is the error of a handshake in which the backend chose no protocol.
type noALPNError struct{ error }

// currentCredentials use TLS with the configuration that a function returns at each
// handshake. When grpc-go asks them at the start, for example for the server's name,
// they answer by the current configuration.
type currentCredentials struct {
	credentials.TransportCredentials
	current func() *tls.Config
}

func (c currentCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if secured, ok := raw.(interface{ ConnectionState() tls.ConnectionState }); ok { // report.Backend.Dial
		return raw, credentials.TLSInfo{State: secured.ConnectionState(), CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
	}
	config := c.current().Clone()
	own := config.VerifyConnection
	var unnamed atomic.Bool // a handshake that was given up goes on
	config.VerifyConnection = func(s tls.ConnectionState) error {
		if own != nil {
			if err := own(s); err != nil {
				return err
			}
		}
		unnamed.Store(s.NegotiatedProtocol == "")
		return nil
	}
	conn, info, err := credentials.NewTLS(config).ClientHandshake(ctx, authority, raw)
	if err != nil && unnamed.Load() {
		err = noALPNError{err}
	}
	return conn, info, err
}

func (c currentCredentials) Clone() credentials.TransportCredentials {
	return currentCredentials{c.TransportCredentials.Clone(), c.current}
}
