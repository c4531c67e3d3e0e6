package network

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/internal/socket"
)

// maxAnswer bounds the header of a proxy's answer, and of each answer of HTTP/1.1, in bytes.
const maxAnswer = 64 << 10

// asError returns the Error in err.
func asError(err error) (*Error, bool) { return errors.AsType[*Error](err) }

// tunnel opens a tunnel to the address through the proxy.
func (n *Network) tunnel(ctx context.Context, p *url.URL, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*stageTimeout)
	defer cancel()
	host := p.Host
	if p.Port() == "" {
		host = net.JoinHostPort(p.Hostname(), proxyPorts[p.Scheme])
	}
	if strings.HasPrefix(p.Scheme, "socks5") {
		return n.socks(ctx, p, host, address)
	}
	login := ""
	if p.User != nil {
		password, _ := p.User.Password()
		login = basic(p.User.Username(), password)
	}
	conn, err := n.connectThrough(ctx, p, host, address, login)
	e, refused := asError(err)
	if !refused || e.Answer == nil || e.Answer.Code != http.StatusProxyAuthRequired || login != "" || n.Login == nil || !e.Answer.OffersBasic() {
		return conn, err
	}
	user, password, err := n.Login(ctx, p)
	if err != nil {
		return nil, &Error{Stage: Proxy, Address: address, Via: host, Err: fmt.Errorf("credentials for the proxy: %w", err)}
	}
	return n.connectThrough(ctx, p, host, address, basic(user, password))
}

// basic returns the value of Proxy-Authorization. RFC 7617 §2.
func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// connectThrough asks a proxy for a tunnel. RFC 9110 §9.3.6.
func (n *Network) connectThrough(ctx context.Context, p *url.URL, host, address, login string) (net.Conn, error) {
	conn, err := n.dialTCP(ctx, host, address, host)
	if err != nil {
		return nil, err
	}
	if p.Scheme == "https" {
		_, port, _ := net.SplitHostPort(host) // tunnel has made it one
		of := Target{Secure: true, Host: p.Hostname(), Port: port}
		// The proxy isn't the edge: whatever the edge's certificate may be, the proxy's is
		// verified before it gets a password, and it gets no certificate of the client.
		to := Network{TLS: &tls.Config{MinVersion: tls.VersionTLS12}}
		if n.TLS != nil {
			to.TLS.RootCAs, to.TLS.Time = n.TLS.RootCAs, n.TLS.Time
		}
		if conn, err = to.Secure(ctx, conn, of, "http/1.1"); err != nil {
			if e, ok := asError(err); ok {
				e.Via, e.OfProxy = host, true
			}
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, stageTimeout)
	defer cancel()
	answer, err := ask(ctx, conn, address, login)
	if err == nil && answer.Code/100 == 2 {
		return tunnelled{conn}, nil
	}
	_ = conn.Close() // it is over either way
	e := &Error{Stage: Proxy, Address: address, Via: host, Answer: answer, Err: err}
	if answer != nil {
		e.LoggedIn = login != "" && answer.Code == http.StatusProxyAuthRequired
		e.Remedy = answer.remedy(login != "")
	} else if ctx.Err() != nil {
		e.Err = endOf(ctx)
	}
	return nil, e
}

// A tunnelled connection leads through a proxy. TLS with the proxy isn't TLS with the edge.
type tunnelled struct{ net.Conn }

// NetConn returns the connection to the proxy, for those that ask the kernel about it.
func (t tunnelled) NetConn() net.Conn { return t.Conn }

// ask writes a CONNECT, and reads the answer.
func ask(ctx context.Context, conn net.Conn, address, login string) (*Answer, error) {
	stop := socket.WhenEnded(ctx, func() { _ = conn.SetDeadline(socket.LongAgo) }) // it fails only on a closed connection
	req := "CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\nUser-Agent: culvert\r\n"
	if login != "" {
		req += "Proxy-Authorization: " + login + "\r\n"
	}
	_, err := io.WriteString(conn, req+"\r\n")
	var answer *Answer
	if err == nil {
		answer, err = readAnswer(conn)
	}
	stop()
	if err == nil && ctx.Err() != nil {
		return nil, endOf(ctx) // the deadline is set
	}
	return answer, err
}

// readAnswer reads the header of an answer to CONNECT, and not a byte more: the other side
// may speak first.
func readAnswer(r io.Reader) (*Answer, error) {
	limited := &io.LimitedReader{R: r, N: maxAnswer}
	from := bufio.NewReader(byteReader{limited})
	res, err := http.ReadResponse(from, &http.Request{Method: http.MethodConnect})                 //nolint:bodyclose // see below
	for err == nil && res.StatusCode/100 == 1 && res.StatusCode != http.StatusSwitchingProtocols { // interim ones, RFC 9110 §15.2
		res, err = http.ReadResponse(from, &http.Request{Method: http.MethodConnect}) //nolint:bodyclose // see below
	}
	_, ofNetwork := errors.AsType[*net.OpError](err)
	switch {
	case err == nil:
	case limited.N == 0:
		return nil, fmt.Errorf("the header of its answer to CONNECT is over %d bytes", maxAnswer)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errors.New("it closed the connection before the end of its answer to CONNECT")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, err //nolint:wrapcheck // of the connection, as other errors of it
	case limited.N < maxAnswer && !ofNetwork:
		return nil, fmt.Errorf("its answer to CONNECT isn't HTTP/1.1: %w", err)
	default:
		return nil, fmt.Errorf("the answer to CONNECT: %w", err)
	}
	// The body isn't closed: that would read bytes of the tunnel as long as a Content-Length says,
	// which doesn't count here. RFC 9110 §9.3.6.
	return &Answer{Status: res.Status, Code: res.StatusCode, Header: res.Header}, nil
}

// byteReader reads one byte at a time, so that a buffer over it never reads ahead.
type byteReader struct{ r io.Reader }

func (b byteReader) Read(p []byte) (int, error) { return b.r.Read(p[:min(len(p), 1)]) }

// remedy says what to do about a refused CONNECT.
func (a *Answer) remedy(loggedIn bool) string {
	switch {
	case a.Code == http.StatusProxyAuthRequired && a.OffersBasic():
		if loggedIn {
			return "the user or the password is wrong"
		}
		return "it wants a user and a password: write them into the proxy's address, as http://user:password@host:port"
	case a.Code == http.StatusProxyAuthRequired:
		return "it wants " + strings.Join(a.schemes(), " or ") + ", which this program doesn't speak: run a local proxy that does, such as px or cntlm, and use it as the proxy"
	case a.Code == http.StatusForbidden:
		return "it doesn't allow this host or port: ask the network team to allow CONNECT to it"
	case a.Code/100 == 5:
		return "it can't reach the host: check the name, or ask the network team"
	}
	return ""
}

// OffersBasic reports whether the proxy takes a user and a password as they are.
func (a *Answer) OffersBasic() bool {
	return slices.ContainsFunc(a.schemes(), func(s string) bool { return strings.EqualFold(s, "basic") })
}

// schemes returns the authentication schemes that a proxy offers, none twice. Several may be in
// one field. RFC 9110 §11.6.1.
func (a *Answer) schemes() []string {
	var all []string
	for _, v := range a.Header.Values("Proxy-Authenticate") {
		for part := range strings.SplitSeq(v, ",") {
			scheme, rest, _ := strings.Cut(strings.TrimSpace(part), " ")
			isScheme := scheme != "" && !strings.ContainsFunc(scheme, notInToken) && !strings.HasPrefix(strings.TrimSpace(rest), "=")
			if isScheme && !slices.Contains(all, scheme) && len(all) < mostSchemes {
				all = append(all, scheme)
			}
		}
	}
	if all == nil {
		all = []string{"an unknown scheme"}
	}
	return all
}

// mostSchemes bounds the schemes in an error.
const mostSchemes = 8

// notInToken reports whether a character can't be in the name of a scheme: "=" and quotes
// stand in parameters. RFC 9110 §5.6.2.
func notInToken(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
}
