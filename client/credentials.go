package client

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
)

// wayCredentials take connections of a Dialer, which have their TLS already.
type wayCredentials struct {
	credentials.TransportCredentials // for plaintext
	secure                           bool
}

func (w wayCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	switch c := raw.(type) {
	case *secureConn:
		return c, credentials.TLSInfo{State: *c.state, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
	case *conn:
		return w.TransportCredentials.ClientHandshake(ctx, authority, c)
	}
	return nil, nil, errors.New("a connection that the client's dialer hasn't opened: use all of DialOptions, and no dialer beside it")
}

func (w wayCredentials) Info() credentials.ProtocolInfo {
	if w.secure {
		return credentials.ProtocolInfo{SecurityProtocol: "tls"} // so :scheme is https
	}
	return w.TransportCredentials.Info()
}

func (w wayCredentials) Clone() credentials.TransportCredentials { return w }
