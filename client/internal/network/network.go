package network

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/proxy"

	"github.com/culvert-grpc/culvert/internal/socket"
)

// stageTimeout bounds each stage of a connection, if the context doesn't end earlier.
const stageTimeout = 10 * time.Second

// TCP's own watch: it notices within 14 s that the other end of an idle connection has gone,
// and in 20 s if data waits for it.
const userTimeout = 20 * time.Second

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 8 * time.Second, Interval: 2 * time.Second, Count: 3}

// A Network is the way from this machine to edges.
type Network struct {
	// Proxy returns the proxy for a URL; nil: none. A nil Proxy stands for no proxy at all.
	// Through has the usual ones.
	Proxy func(*url.URL) (*url.URL, error)

	// Login returns the user and the password for a proxy that asks for them, if its URL has
	// none. It may be nil.
	Login func(ctx context.Context, proxy *url.URL) (user, password string, err error)

	// ConnectTo is the host and the port to connect to in place of the target's; "": the
	// target's. Names in TLS and in requests stay the target's.
	ConnectTo string

	// TLS has the CAs and the client's certificates; nil: the system's CAs.
	TLS *tls.Config

	// Turns bound how often a proxy is asked that refuses. nil: they don't.
	Turns *Turns

	// Secrets has Dial refuse connections that may not carry credentials: see Carries.
	Secrets bool

	// Dialer opens TCP to a host and a port; nil: this machine's own.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)

	patient bool // the other end may be slow to take data
}

// CheckConnectTo returns an error if ConnectTo is no address.
func (n *Network) CheckConnectTo() error {
	if n.ConnectTo == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(n.ConnectTo)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || host == "" {
		return fmt.Errorf("%q is no address to connect to: write HOST:PORT", n.ConnectTo)
	}
	return nil
}

// ProxyFor returns the proxy for the target, or nil.
func (n *Network) ProxyFor(t Target) (*url.URL, error) {
	if n.Proxy == nil {
		return nil, nil
	}
	p, err := n.Proxy(t.URL("/"))
	if err != nil {
		return nil, &Error{Stage: Proxy, Address: t.Address(), Err: err}
	}
	if p == nil {
		return nil, nil
	}
	return asciiProxy(p), nil
}

// address returns what to connect to.
func (n *Network) address(t Target) string {
	if n.ConnectTo != "" {
		return asciiAddress(n.ConnectTo)
	}
	return t.Address()
}

// Connect opens TCP to the target, or a tunnel through the proxy.
func (n *Network) Connect(ctx context.Context, t Target) (net.Conn, error) {
	p, err := n.ProxyFor(t)
	if err != nil {
		return nil, err
	}
	address := n.address(t)
	if p == nil {
		return n.dialTCP(ctx, address, address, "")
	}
	if n.Turns == nil {
		return n.tunnel(ctx, p, address)
	}
	conn, err := n.Turns.take(ctx, func() (net.Conn, error) { return n.tunnel(ctx, p, address) })
	if _, ok := asError(err); err != nil && !ok { // it had no turn in time
		err = &Error{Stage: Proxy, Address: address, Via: p.Host, Err: err}
	}
	return conn, err
}

func (n *Network) dialTCP(ctx context.Context, address, wanted, via string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, stageTimeout)
	defer cancel()
	conn, err := n.dialer()(ctx, "tcp", address)
	if err != nil {
		return nil, connectError(wanted, via, err)
	}
	return conn, nil
}

func (n *Network) dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	if n.Dialer != nil {
		return n.Dialer
	}
	d := net.Dialer{KeepAliveConfig: keepAlive}
	if !n.patient {
		d.Control = socket.ControlUserTimeout(userTimeout)
	}
	return d.DialContext
}

// Near returns the network with TCP to the address that the function returns, unless that is
// "", in place of that of the edge or the proxy: no name server is asked.
func (n *Network) Near(address func() string) *Network {
	near := *n
	dial := n.dialer()
	near.Dialer = func(ctx context.Context, network, usual string) (net.Conn, error) {
		return dial(ctx, network, cmp.Or(address(), usual))
	}
	return &near
}

// Secure begins TLS on a connection to the target, and offers the protocols: it returns a
// *tls.Conn. If it fails, it closes the connection.
func (n *Network) Secure(ctx context.Context, conn net.Conn, t Target, protocols ...string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, stageTimeout)
	defer cancel()
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if n.TLS != nil {
		config = n.TLS.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = t.Host
	}
	config.NextProtos = protocols
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the error before is the important one
		if ctx.Err() != nil {
			err = endOf(ctx)
		}
		return nil, tlsError(t.Address(), n.Via(t), err)
	}
	return secured, nil
}

// Via returns the host of the proxy for the target, with its port if it has one, or "".
func (n *Network) Via(t Target) string {
	if p, err := n.ProxyFor(t); err == nil && p != nil {
		return p.Host
	}
	return ""
}

// Dial connects to the target, and begins TLS if it is secure: then the connection is a
// *tls.Conn, and offered the protocols.
func (n *Network) Dial(ctx context.Context, t Target, protocols ...string) (net.Conn, error) {
	conn, err := n.Connect(ctx, t)
	if err == nil && t.Secure {
		conn, err = n.Secure(ctx, conn, t, protocols...)
	}
	if err != nil {
		return nil, err
	}
	if n.Secrets {
		if err := n.Carries(conn, t); err != nil {
			_ = conn.Close() // nothing has crossed it
			return nil, &Error{Stage: Connect, Address: t.Address(), Via: n.Via(t), Err: err}
		}
	}
	return conn, nil
}

// TLSState returns the state of a connection's TLS, or nil.
func TLSState(c net.Conn) *tls.ConnectionState {
	if secured, ok := c.(*tls.Conn); ok {
		s := secured.ConnectionState()
		return &s
	}
	return nil
}

// MayBeHTTP2 reports whether TLS has agreed on HTTP/2, or there is none.
func MayBeHTTP2(c net.Conn) bool {
	s := TLSState(c)
	return s == nil || s.NegotiatedProtocol == "h2"
}

// Transport returns one for HTTP/1.1 requests to the target. The caller closes its idle
// connections.
func (n *Network) Transport(t Target) *http.Transport {
	// HTTP/1.1 has no flow control but TCP's. A backend that reads late leaves the window closed,
	// and Linux's user time-out would end the connection for that.
	patient := *n
	patient.patient = true
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return patient.Dial(ctx, t, "http/1.1") }
	return &http.Transport{
		DialContext: dial, DialTLSContext: dial, DisableCompression: true,
		MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: false,
		MaxResponseHeaderBytes: maxAnswer,
	}
}

// HTTP2 begins HTTP/2 on a connection, with prior knowledge: TLS has begun already, where there is
// any. The caller closes the connection, also after an error. maxHeader bounds an answer's header,
// in bytes.
func HTTP2(ctx context.Context, conn net.Conn, t Target, maxHeader int64) (*http.ClientConn, error) {
	transport := &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableCompression: true, Protocols: new(http.Protocols), MaxResponseHeaderBytes: maxHeader,
	}
	transport.Protocols.SetUnencryptedHTTP2(true)
	return transport.NewClientConn(ctx, "http", t.Address())
}

// socks opens a tunnel through a SOCKS5 proxy. RFC 1928.
func (n *Network) socks(ctx context.Context, p *url.URL, host, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, stageTimeout)
	defer cancel()
	var auth *proxy.Auth
	if p.User != nil {
		password, _ := p.User.Password()
		auth = &proxy.Auth{User: p.User.Username(), Password: password}
	}
	forward := proxyDialer(func(ctx context.Context) (net.Conn, error) { return n.dialTCP(ctx, host, address, host) })
	d, err := proxy.SOCKS5("tcp", host, auth, forward)
	if err != nil {
		return nil, &Error{Stage: Proxy, Address: address, Via: host, Err: err}
	}
	conn, err := d.(proxy.ContextDialer).DialContext(ctx, "tcp", address)
	if err != nil {
		if e, ok := asError(err); ok {
			return nil, e
		}
		e := &Error{Stage: Proxy, Address: address, Via: host, Err: err}
		if strings.Contains(err.Error(), "authentication failed") { // x/net has no type for it
			e.LoggedIn, e.Remedy = true, "the user or the password is wrong"
		}
		return nil, e
	}
	return conn, nil
}

type proxyDialer func(context.Context) (net.Conn, error)

func (d proxyDialer) Dial(string, string) (net.Conn, error) { return d(context.Background()) }

func (d proxyDialer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) { return d(ctx) }
