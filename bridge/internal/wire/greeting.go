package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/bridge/report"
)

var hintTLS = "does it need TLS? " + report.ToSet(report.KeyBackendTLS, "")

// SaysOtherProtocol begins the cause if something answers, but not in HTTP/2.
const SaysOtherProtocol = "no HTTP/2: "

// checkGreeting checks a backend's first bytes, which in HTTP/2 are a SETTINGS frame,
// or the error in their place. It returns an error that describes anything else, or
// nil. plaintext reports that TLS wasn't used. RFC 9113 §3.4.
func checkGreeting(first []byte, err error, plaintext bool) error {
	remedy := "is it a gRPC server?"
	if plaintext {
		remedy += " " + hintTLS
	}
	switch {
	case bytes.HasPrefix(first, []byte("HTTP/")):
		line, _, _ := bytes.Cut(first, []byte("\r\n"))
		return fmt.Errorf("%sthe backend says %.60q: %s", SaysOtherProtocol, line, remedy)
	case plaintext && len(first) > 1 && first[0] == tlsAlert && first[1] == tlsMajor:
		return fmt.Errorf("%sthe backend answers in TLS: %s", SaysOtherProtocol, hintTLS)
	case len(first) > frameKindAt && first[frameKindAt] != byte(http2.FrameSettings):
		return fmt.Errorf("%sthe backend begins with %.20q: %s", SaysOtherProtocol, first, remedy)
	case len(first) == 0 && (errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)): // culvert has ended the attempt
		return fmt.Errorf("the backend takes connections and says nothing: %s", remedy)
	case len(first) > 0 || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE):
		return nil
	case plaintext:
		return fmt.Errorf("the backend closed the connection without an answer: %s", hintTLS)
	}
	return errors.New("the backend closed the connection without an answer, after TLS's handshake")
}

const (
	tlsAlert = 21 // RFC 8446 §5.1
	tlsMajor = 3
)
