package network

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/culvert-grpc/culvert/internal/socket"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

// A Stage is how far a connection has come.
type Stage string

// The stages, in order.
const (
	Resolve Stage = "resolve" // the name, to addresses
	Connect Stage = "connect" // TCP, to the edge or to the proxy
	Proxy   Stage = "proxy"   // a tunnel through the proxy
	TLS     Stage = "tls"     // the handshake
	ALPN    Stage = "alpn"    // the choice of a protocol in the handshake. RFC 7301
)

// An Error is why there is no connection.
type Error struct {
	Stage   Stage
	Address string  // that was asked for
	Via     string  // the proxy's host and port; "": none
	Answer  *Answer // of the proxy; nil: none
	Err     error
	Remedy  string // what to do; "": the error says it

	OfProxy  bool // the handshake was the proxy's
	LoggedIn bool // the proxy has refused credentials that it was sent
}

// TimedOut reports whether there was no answer in time.
func (e *Error) TimedOut() bool { return socket.TimedOut(e.Err) }

// An Answer is what a proxy has answered to CONNECT.
type Answer struct {
	Status string      // "407 Proxy Authentication Required"
	Code   int         // 407
	Header http.Header // may have secrets: show names, not values
}

// maxCause bounds what others have a part in, in bytes.
const maxCause = 300

// Error is printable: proxies and certificates have a part in it.
func (e *Error) Error() string { return terminal.Text(e.text()) }

func (e *Error) text() string {
	text := "connect to " + e.Address
	switch {
	case e.OfProxy:
		text = "connect to the proxy " + e.Via
	case e.Via != "":
		text += " through the proxy " + e.Via
	}
	text += ": " + terminal.Short(e.cause(), maxCause)
	if e.Remedy != "" {
		text += ": " + e.Remedy
	}
	return text
}

func (e *Error) cause() string {
	if e.Answer != nil && e.Stage == Proxy && e.Err == nil {
		return "it answered " + e.Answer.Status
	}
	if late, ok := lateAt[e.Stage]; ok && e.TimedOut() {
		return late
	}
	return e.Err.Error()
}

// lateAt is why there is no connection if a stage takes too long.
var lateAt = map[Stage]string{
	Resolve: "no answer from the name server in time",
	Connect: "no answer to the connection in time",
	Proxy:   "no answer from the proxy in time",
	TLS:     "no answer to the TLS handshake in time",
}

func (e *Error) Unwrap() error { return e.Err }

// endOf returns why a context has ended. That a time is over is told at its stage, whoever has
// set the time.
func endOf(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return context.Cause(ctx)
}

// connectError returns the error of a TCP connection.
func connectError(address, via string, err error) *Error {
	e := &Error{Stage: Connect, Address: address, Via: via, Err: err}
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		e.Stage, e.Err = Resolve, dns
		e.Remedy = "check the name"
		if via == "" {
			e.Remedy += "; if this network resolves only its own names, it has a proxy for others: set HTTPS_PROXY"
		}
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Remedy = "nothing listens there, or a firewall refuses it"
	case socket.TimedOut(err):
		e.Remedy = "a firewall may drop it"
		if via == "" {
			e.Remedy += ": if this network has a proxy, set HTTPS_PROXY"
		}
	}
	return e
}

// tlsError returns the error of a handshake.
func tlsError(address, via string, err error) *Error {
	e := &Error{Stage: TLS, Address: address, Via: via, Err: err}
	var unknown x509.UnknownAuthorityError
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		e.Remedy = "if a box of your company inspects TLS, trust its CA"
		if c := unknown.Cert; c != nil && c.Issuer.String() != "" {
			e.Remedy = fmt.Sprintf("the certificate's issuer is %q: %s", terminal.Short(c.Issuer.String(), maxCause), e.Remedy)
		}
		e.Remedy += " (SSL_CERT_FILE, or the system's store)"
	case errors.As(err, &verification):
		e.Remedy = certificateRemedy(err)
	case strings.Contains(err.Error(), "tls: no application protocol"): // the alert has no exported type over TCP. RFC 7301 §3.2
		e.Stage, e.Remedy = ALPN, "the edge, or a box on the way, doesn't speak the protocol"
	case strings.Contains(err.Error(), "unadvertised ALPN protocol"): // crypto/tls has no type for it
		e.Stage, e.Remedy = ALPN, "the edge, or a box on the way, answers with a protocol that this program didn't offer"
	case errors.As(err, &record):
		e.Remedy = "the other side doesn't speak TLS: check the port, or use http://"
		if strings.HasPrefix(string(record.RecordHeader[:]), "HTTP/") {
			e.Remedy = "it answered in plaintext HTTP: check the port, or use http://"
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		e.Remedy = "the connection was cut during the handshake: a firewall may refuse this host by its name"
	}
	return e
}

// certificateRemedy says what to do about a certificate of a known CA that doesn't hold.
func certificateRemedy(err error) string {
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the certificate is another host's: check the address, and whether a box on the way answers in the edge's place"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "compare this machine's clock with the certificate's dates"
	}
	return ""
}
