package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"net/url"
	"time"

	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/client/internal/network"
)

// An Option changes what NewClient, DialOptions and NewDialer do.
type Option func(*Dialer) error

type options struct {
	way          Way     // "": whichever works
	tokens       *tokens // nil: calls have none
	grpc         []grpc.DialOption
	improveAfter time.Duration
	pingAfter    time.Duration
}

// WithWay pins the way: no other is tried. "auto" and "" pin none.
func WithWay(w Way) Option {
	return func(d *Dialer) (err error) {
		d.o.way, err = ParseWay(cmp.Or(string(w), string(auto)))
		return err
	}
}

// WithProxy connects through a proxy: "http://user:password@proxy.example.com:3128", https or
// socks5. "none" connects directly, whatever the environment says. Otherwise, or with "", the proxy
// is that of HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
func WithProxy(address string) Option {
	return func(d *Dialer) (err error) {
		d.net.Proxy, err = network.Through(address)
		return err
	}
}

// WithProxyLogin returns the user and the password for a proxy that asks for them, unless its
// address has them. Only Basic is spoken.
func WithProxyLogin(login func(ctx context.Context, proxy *url.URL) (user, password string, err error)) Option {
	return func(d *Dialer) error { d.net.Login = login; return nil }
}

// WithTLS has the CAs to trust and the client's certificates. Otherwise the CAs are the
// system's, or those in SSL_CERT_FILE.
func WithTLS(config *tls.Config) Option {
	return func(d *Dialer) error { d.net.TLS = config; return nil }
}

// WithConnectTo connects to "host:port" in place of the target's. TLS and calls keep the
// target's name.
func WithConnectTo(address string) Option {
	return func(d *Dialer) error { d.net.ConnectTo = address; return d.net.CheckConnectTo() }
}

// WithToken has the source of a bearer token. It is asked for each call, and for each
// connection that is opened with a request. It must return when its context ends.
//
// In a WebSocket the source is also asked before the token of running calls expires, if it is a
// JWT that says when. culvert gets the new one, and the calls go on. By other ways they end
// with the token that they began with.
func WithToken(source func(context.Context) (string, error)) Option {
	return WithTokenSource(func(ctx context.Context) (string, time.Time, error) {
		token, err := source(ctx)
		return token, time.Time{}, err
	})
}

// WithTokenSource is WithToken with a source that says when the token expires. If the time is
// zero, a JWT says it.
func WithTokenSource(source func(context.Context) (token string, expires time.Time, err error)) Option {
	return func(d *Dialer) error { d.o.tokens = &tokens{source: source}; return nil }
}

// WithOnChange tells each change of the Status, one after another. The function may take its
// time and call methods such as Status: nothing waits for it but Close, for at most a second, so
// that it may call Close only on a goroutine of its own. While it is told a change, the last 100
// others wait. After Close it is told nothing.
func WithOnChange(changed func(Status)) Option {
	return func(d *Dialer) error { d.changes.changed = changed; return nil }
}

// WithGRPC adds options for grpc-go, such as interceptors. A Dialer alone doesn't use them.
func WithGRPC(opts ...grpc.DialOption) Option {
	return func(d *Dialer) error { d.o.grpc = append(d.o.grpc, opts...); return nil }
}
