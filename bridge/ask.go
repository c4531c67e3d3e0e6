package bridge

import (
	"net/http"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/packing"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// An ask is what a client asks for, as its transport has read it.
type ask struct {
	Authority string        // the host; inside a tunnel the outer one
	Metadata  metadata.MD   // of the request, decoded; reserved and hop-by-hop names removed
	Timeout   time.Duration // 0: none; an expired one is 1 ns
	subtype   string        // content-subtype of the messages: "", "proto", "json"
	coding    string        // the client's compression: "" or "gzip"
	takesGzip bool          // the client can read compressed messages

	partial bool // Prepare completes it

	// Complete reports that exactly one message and the client's end were already read,
	// so the call needs no second goroutine.
	Complete bool
}

// readTimeout reads a time-out, if there is one. The shorter of two counts: a WebSocket
// may have one in its upgrade request and one in its first message.
func (a *ask) readTimeout(values []string, parse func(string) (time.Duration, error)) error {
	if len(values) == 0 {
		return nil
	}
	timeout, err := parse(values[0])
	if err != nil {
		return report.New(report.ReasonBadRequest, err.Error())
	}
	timeout = max(timeout, 1)
	if a.Timeout == 0 || timeout < a.Timeout {
		a.Timeout = timeout
	}
	return nil
}

// readableCodings is the value of grpc-accept-encoding.
const readableCodings = "gzip, identity"

// errCoding refuses a coding. The answer then has the readable ones.
var errCoding = report.New(report.ReasonUnsupportedEncoding, "culvert doesn't support this encoding of messages: use gzip or identity")

// readCodings reads the compression that the client uses, and those that it can read.
func (a *ask) readCodings(encoding, accepted []string) error {
	coding, ok := packing.Coding(encoding)
	if !ok {
		return errCoding
	}
	if coding != "" { // a WebSocket may name one in its upgrade request, too
		a.coding = coding
	}
	a.takesGzip = packing.Accepted(accepted)
	return nil
}

// readHeader reads the gRPC fields in the header of a request.
func (a *ask) readHeader(h http.Header) error {
	if err := a.readTimeout(h["Grpc-Timeout"], codec.ParseTimeout); err != nil {
		return err
	}
	return a.readCodings(h["Grpc-Encoding"], h["Grpc-Accept-Encoding"])
}

// readConnectHeader reads the fields that both forms have.
func (a *ask) readConnectHeader(h http.Header) error {
	if v := h["Connect-Protocol-Version"]; len(v) > 0 && v[0] != "1" {
		return report.New(report.ReasonBadRequest, "connect-protocol-version must be 1")
	}
	return a.readTimeout(h["Connect-Timeout-Ms"], codec.ParseConnectTimeout)
}
