package pool

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// TCP's own watch over a backend: it notices a lost host within 30 s, without asking
// the backend's HTTP/2.
const (
	keepAliveIdle  = 10 * time.Second
	keepAliveEvery = 5 * time.Second
	keepAliveCount = 3
	userTimeout    = 20 * time.Second
)

// dialOf returns the target for grpc-go and the function that opens connections to
// the resolved addresses.
func dialOf(b *report.Backend) (string, func(context.Context, string) (net.Conn, error)) {
	if b.Dial != nil {
		return b.Target, b.Dial
	}
	timeout := userTimeout
	if b.Keepalive > 0 {
		timeout = rules.OrDefault(b.PingTimeout, rules.PingTimeout, rules.PingTimeout) // gRFC A18
	}
	d := &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveEvery, Count: keepAliveCount},
		Control:         socket.ControlUserTimeout(timeout),
	}
	direct := func(ctx context.Context, address string) (net.Conn, error) {
		if path, ok := strings.CutPrefix(address, "unix:"); ok {
			return d.DialContext(ctx, "unix", strings.TrimPrefix(path, "//"))
		}
		return d.DialContext(ctx, "tcp", address)
	}
	if !b.UseEnvProxy || strings.HasPrefix(b.Target, "unix:") {
		return b.Target, direct
	}
	// The proxy resolves names, so it gets the name.
	return "passthrough:///" + strings.TrimPrefix(b.Target, "dns:///"), func(ctx context.Context, address string) (net.Conn, error) {
		return dialThroughProxy(ctx, direct, address)
	}
}

// dialThroughProxy asks the proxy in the environment, if any, for a tunnel to the
// address. RFC 9110 §9.3.6.
func dialThroughProxy(ctx context.Context, dial func(context.Context, string) (net.Conn, error), address string) (net.Conn, error) {
	target := &http.Request{URL: &url.URL{Scheme: "https", Host: address}}
	proxy, err := http.ProxyFromEnvironment(target)
	if err != nil {
		return nil, fmt.Errorf("proxy from the environment: %w", err)
	}
	if proxy == nil {
		return dial(ctx, address)
	}
	if proxy.Scheme != "http" {
		return nil, fmt.Errorf("proxy from the environment: scheme %q, want http", proxy.Scheme)
	}
	host := proxy.Host
	if proxy.Port() == "" {
		host = net.JoinHostPort(proxy.Hostname(), "80")
	}
	conn, err := dial(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", host, err)
	}
	if err := connectThrough(ctx, conn, proxy, address); err != nil {
		_ = conn.Close() // the error before is the important one
		return nil, fmt.Errorf("proxy %s: %w", host, err)
	}
	return conn, nil
}

func connectThrough(ctx context.Context, conn net.Conn, proxy *url.URL, address string) error {
	stop := socket.WhenEnded(ctx, func() { _ = conn.SetDeadline(socket.LongAgo) })
	defer stop()
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
		req.Header["Proxy-Authorization"] = req.Header["Authorization"]
		req.Header.Del("Authorization")
	}
	if err := req.Write(conn); err != nil {
		return err
	}
	// A backend may speak first, right after the proxy's answer.
	res, err := http.ReadResponse(bufio.NewReader(byteReader{conn}), req)
	if err != nil {
		return err
	}
	_ = res.Body.Close() // a CONNECT's answer has no body
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("CONNECT %s: %s", address, res.Status)
	}
	return nil
}

// byteReader reads one byte at a time, so that a buffer over it never reads ahead.
type byteReader struct{ r io.Reader }

func (b byteReader) Read(p []byte) (int, error) { return b.r.Read(p[:min(len(p), 1)]) }
