package fallback

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// Fault returns the fault of an exchange whose web server gave no answer, or not a whole
// one. Its text is for the client: the cause is for the log only.
func Fault(err error) *report.Fault {
	var op *net.OpError
	var timeout net.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errDescriptors), errors.As(err, &op) && op.Op == "dial", errors.As(err, &certificate), errors.As(err, new(tls.RecordHeaderError)), strings.Contains(err.Error(), "TLS handshake"):
		return report.New(report.ReasonUpstreamUnreachable, "the web server can't be reached").Because(err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return report.New(report.ReasonUpstreamSilent, "the web server doesn't answer").Because(err)
	case errors.Is(err, io.EOF):
		return report.New(report.ReasonUpstreamReset, "the web server closed the connection without a whole answer").Because(err)
	default:
		return report.New(report.ReasonUpstreamReset, "the web server's answer can't be read").Because(err)
	}
}
