package doctor

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/culvert-grpc/culvert/client/internal/network"
)

// connect examines what every way needs, and reports whether it is there.
func (x *examination) connect(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	if x.net.Via(x.target) == "" && net.ParseIP(x.target.Host) == nil && x.o.ConnectTo == "" {
		if f := x.probe(ctx, probeDNS, connectLimit, x.resolve); f.Result != works {
			return false
		}
	}
	if f := x.probe(ctx, probeConnect, connectLimit, x.dial); f.Result != works {
		return false
	}
	if !x.target.Secure {
		x.h2 = true
		return true
	}
	var alone sync.WaitGroup
	alone.Go(func() { x.probe(ctx, probeALPNAlone, connectLimit+handshakeLimit, x.offerH2) })
	f := x.probe(ctx, probeTLS, connectLimit+handshakeLimit, x.handshake)
	alone.Wait()
	return f.Result == works
}

func (x *examination) resolve(ctx context.Context) Finding {
	addresses, err := x.o.lookup(ctx, x.target.Host)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return found(silent, "the name server doesn't answer")
	case err != nil:
		if dns, ok := errors.AsType[*net.DNSError](err); ok {
			return found(failed, "%s", printable(dns.Err))
		}
		return found(failed, "%s", printable(err.Error()))
	}
	shown := addresses[:min(3, len(addresses))]
	text := strings.Join(shown, ", ")
	if more := len(addresses) - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return found(works, "%s", printable(text))
}

func (x *examination) dial(ctx context.Context) Finding {
	conn, err := x.net.Connect(ctx, x.target)
	if err != nil {
		return connectFinding(err)
	}
	defer func() { _ = conn.Close() }() // nothing was written
	if via := x.net.Via(x.target); via != "" {
		return found(works, "through the proxy %s", via)
	}
	return found(works, "%s", conn.RemoteAddr())
}

// connectFinding returns the finding of an error of package network.
func connectFinding(err error) Finding {
	f := found(failed, "%s", printable(err.Error()))
	if wantsCertificate(err) {
		f.Result, f.Cause = refused, causeWantsCertificate
		return f
	}
	e, ok := errors.AsType[*network.Error](err)
	if !ok {
		if errors.Is(err, context.DeadlineExceeded) {
			f.Result = silent
		}
		return f
	}
	switch {
	case e.OfProxy:
		f.Cause = causeProxyFails
	case (e.Stage == network.Connect || e.Stage == network.Resolve) && e.Via != "":
		f.Cause = causeProxyUnreachable
	case e.Stage == network.Connect && errors.Is(err, syscall.ECONNREFUSED):
		f.Result = refused
	case e.Stage == network.Proxy:
		f.Result, f.Cause = proxyResult(e)
	case e.Stage == network.TLS, e.Stage == network.ALPN:
		return tlsFinding(e)
	}
	if e.TimedOut() {
		f.Result = silent
	}
	return f
}

func proxyResult(e *network.Error) (Result, Cause) {
	switch a := e.Answer; {
	case a == nil && e.TimedOut():
		return silent, causeProxySilent
	case a == nil:
		return failed, causeProxyFails
	case a.Code == http.StatusProxyAuthRequired && a.OffersBasic():
		if e.LoggedIn {
			return refused, causeProxyLoginWrong
		}
		return refused, causeProxyLogin
	case a.Code == http.StatusProxyAuthRequired:
		return refused, causeProxyLoginForeign
	case a.Code/100 == 5:
		return refused, causeProxyFails
	}
	return refused, causeProxyRefuses
}

// handshake examines TLS as a browser offers it: h2 and http/1.1.
func (x *examination) handshake(ctx context.Context) Finding {
	state, err := x.shake(ctx, x.net.TLS.InsecureSkipVerify, "h2", "http/1.1")
	if err != nil {
		f := connectFinding(err)
		if f.Cause == causeUnknownCA || f.Cause == causeWrongCertificate { // whose is it?
			if x.state, err = x.shake(ctx, true, "h2", "http/1.1"); err == nil {
				x.judgeDecryption()
			}
		}
		return f
	}
	x.state, x.h2 = state, state.NegotiatedProtocol == "h2"
	chosen := found(works, "%s", state.NegotiatedProtocol)
	if !x.h2 {
		chosen = found(stripped, "offered h2 and http/1.1, chosen: %s", cmp.Or(state.NegotiatedProtocol, "none"))
	}
	x.note(chosen.of(probeALPN))
	f := found(works, "%s, issuer %s", tls.VersionName(state.Version), issuer(state.PeerCertificates[0]))
	if x.net.TLS.InsecureSkipVerify {
		f.Evidence += ", not verified"
		if _, err := state.PeerCertificates[0].Verify(x.verifyOptions(state)); err != nil {
			f.Evidence += " (" + printable(err.Error()) + ")"
		}
	}
	return f
}

// shake makes a handshake, and sends nothing behind it.
func (x *examination) shake(ctx context.Context, insecure bool, protocols ...string) (*tls.ConnectionState, error) {
	n := x.net
	n.Secrets = false
	n.TLS = n.TLS.Clone()
	n.TLS.InsecureSkipVerify = insecure
	if insecure && !x.net.TLS.InsecureSkipVerify {
		n.TLS.Certificates = nil
	}
	asked := false
	n.TLS.GetClientCertificate = func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		for i := range n.TLS.Certificates {
			if request.SupportsCertificate(&n.TLS.Certificates[i]) == nil {
				return &n.TLS.Certificates[i], nil
			}
		}
		return new(tls.Certificate), nil // none
	}
	conn, err := n.Dial(ctx, x.target, protocols...)
	if err != nil {
		if asked && strings.Contains(err.Error(), "remote error: tls: handshake failure") { // servers with TLS 1.2 say no more
			err = fmt.Errorf("%w: %w", errWantsCertificate, err)
		}
		return nil, err //nolint:wrapcheck // connectFinding knows it
	}
	defer func() { _ = conn.Close() }() // nothing was written
	return network.TLSState(conn), nil
}

func (x *examination) verifyOptions(state *tls.ConnectionState) x509.VerifyOptions {
	o := x509.VerifyOptions{Roots: x.net.TLS.RootCAs, DNSName: x.target.Host, Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	return o
}

func tlsFinding(e *network.Error) Finding {
	f := found(failed, "%s", printable(e.Error()))
	var unknown x509.UnknownAuthorityError
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case e.Stage == network.ALPN:
		f.Result = refused
	case errors.As(e, &unknown):
		f.Cause = causeUnknownCA
	case errors.As(e, &verification):
		f.Cause = causeWrongCertificate
	case errors.As(e, &record):
		f.Cause = causeNotTLS
	case e.TimedOut():
		f.Result = silent
	case isCut(e):
		f.Result = cut
	}
	return f
}

var errWantsCertificate = errors.New("the edge asked for a certificate of the client")

// wantsCertificate reports whether the other side has refused the client's certificate, or that
// there is none. With TLS 1.3 it does so behind the handshake. RFC 8446 §6.2; crypto/tls has no
// type for alerts over TCP.
func wantsCertificate(err error) bool {
	if errors.Is(err, errWantsCertificate) {
		return true
	}
	text := err.Error()
	return slices.ContainsFunc([]string{"certificate required", "bad certificate", "unknown certificate authority", "expired certificate"}, func(alert string) bool {
		return strings.Contains(text, "remote error: tls: "+alert)
	})
}

// offerH2 offers h2 alone, as grpc-go does.
func (x *examination) offerH2(ctx context.Context) Finding {
	// The edge's certificate is TLS's matter. Only an edge with a valid one gets the client's.
	state, err := x.shake(ctx, x.net.TLS.InsecureSkipVerify || len(x.net.TLS.Certificates) == 0, "h2")
	switch {
	case err != nil:
		f := connectFinding(err)
		if f.Result == refused && f.Cause == "" {
			f.Evidence = "the handshake is refused: no application protocol"
		}
		return f
	case state.NegotiatedProtocol != "h2":
		return found(stripped, "offered h2, chosen: none")
	}
	return found(works, "h2")
}

// judgeDecryption says whether somebody on the way decrypts TLS, by the evidence.
func (x *examination) judgeDecryption() {
	if x.state != nil {
		x.note(decryption(x.state, x.facts(), x.whoIsNamed()).of(probeDecryption))
	}
}

// whoIsNamed returns a product that decrypts TLS and that names itself in an answer, or "".
func (x *examination) whoIsNamed() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range x.found {
		if f.Answer != nil && decrypts(f.Answer.Product) {
			return f.Answer.Product
		}
	}
	return x.named
}

// hear notes who names itself in the header of an answer.
func (x *examination) hear(h http.Header) {
	if product := firstIn(h.Get("Server")+"\n"+strings.Join(h.Values("Via"), ", "), decrypters); product != "" {
		x.mu.Lock()
		x.named = product
		x.mu.Unlock()
	}
}

// decryption judges a certificate, beside what the service says that it shows itself. A
// private CA alone proves nothing, and a CDN terminates TLS with a certificate of its own.
func decryption(state *tls.ConnectionState, facts *serviceFacts, named string) Finding {
	leaf := state.PeerCertificates[0]
	fingerprint := fmt.Sprintf("%x", sha256.Sum256(leaf.Raw))
	by, scts := issuer(leaf), hasSCTs(state)
	product := firstIn(leaf.Issuer.String(), decrypters)
	switch {
	case facts != nil && slices.Contains(facts.certificates, fingerprint):
		return found(works, "nobody: the service has shown this certificate itself")
	case product != "":
		return found(present, "the issuer names %s: %s", product, by).because(causeDecrypted)
	case facts != nil && len(facts.certificates) > 0 && !scts:
		return found(present, "the service shows another certificate; this one is of %s and has no SCTs", by).because(causeDecrypted)
	case named != "" && !scts:
		return found(present, "answers inside TLS name %s; the certificate is of %s and has no SCTs", named, by).because(causeDecrypted)
	case facts != nil && (len(facts.certificates) > 0 || !facts.tls) && scts:
		return found(unknown, "TLS ends before the service, with a public certificate of %s: a CDN or a load balancer, probably the service's own", by).because(causeEndsBefore)
	case scts:
		return found(unknown, "no sign of it: the certificate has SCTs, as public ones have; issuer %s", by)
	}
	return found(unknown, "the certificate has no SCTs: its CA is private, the company's or the service's own; issuer %s", by).because(causeNoSCT)
}

// issuer returns the issuer's names that people know.
func issuer(c *x509.Certificate) string {
	name := c.Issuer
	parts := append(slices.Clone(name.Organization), name.CommonName)
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	if len(parts) == 0 {
		return `""`
	}
	return fmt.Sprintf("%q", printable(strings.Join(parts, ", ")))
}

var sctExtension = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2} // RFC 6962 §3.3

func hasSCTs(state *tls.ConnectionState) bool {
	return len(state.SignedCertificateTimestamps) > 0 ||
		slices.ContainsFunc(state.PeerCertificates[0].Extensions, func(e pkix.Extension) bool { return e.Id.Equal(sctExtension) })
}
