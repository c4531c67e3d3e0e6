package check

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/codec"
)

// A Request describes a call to the service. Strings are sent as they are: the caller has
// checked them, since they come from parsed requests.
type Request struct {
	Method    string // "/shop.v1.Orders/Get", also the path
	Authority string // what the client calls: host or host:port
	Scheme    string // "https" or "http"

	// Metadata is what the backend would get: lower-case names, raw bytes in the values of
	// -bin names. Options.Names selects what the service gets of it.
	Metadata metadata.MD

	Peer  netip.AddrPort // the client's, behind trusted proxies the one that they name; may be invalid
	Local netip.AddrPort // that the client connected to; may be invalid
	SNI   string         // of the client's TLS connection; may be empty

	// Principals are the names in the client's verified certificate, the best one first: URIs,
	// DNS names, then the subject. CertificateHash is the SHA-256 of that certificate. Both
	// are zero without one.
	Principals      []string
	CertificateHash [32]byte

	ID    string    // of the call
	Start time.Time // of the call
	Route string    // its name
}

// size returns how much a question for r would hold of it, with the selected metadata, as
// HTTP/2 counts fields.
func (r *Request) size(names []string) int {
	n := len(r.Method) + len(r.Authority) + len(r.Scheme) + len(r.SNI) + len(r.ID) + len(r.Route)
	for name, values := range r.selected(names) {
		for _, v := range values {
			n += codec.FieldBytes(name, v)
		}
	}
	if len(r.Principals) > 0 {
		n += len(r.Principals[0])
	}
	return n
}

// selected yields the metadata that the service gets: all of it if names is nil.
func (r *Request) selected(names []string) func(yield func(string, []string) bool) {
	return func(yield func(string, []string) bool) {
		if names == nil {
			for name, values := range r.Metadata {
				if !yield(name, values) {
					return
				}
			}
			return
		}
		for _, name := range names {
			if values := r.Metadata[name]; len(values) > 0 && !yield(name, values) {
				return
			}
		}
	}
}

// fields returns the selected metadata as it would be on the wire: -bin values as unpadded
// base64. It leaves out what codec.Fields does.
func (r *Request) fields(names []string) func(yield func(string, string) bool) {
	if names == nil {
		return codec.Fields(r.Metadata)
	}
	md := make(metadata.MD, len(names))
	for name, values := range r.selected(names) {
		md[name] = values
	}
	return codec.Fields(md)
}

// joined returns the values that a field has on the wire as one. RFC 9110 §5.3, and for the
// parts of cookies RFC 9113 §8.2.3.
func joined(name string, values []string) string {
	if name == "cookie" {
		return strings.Join(values, "; ")
	}
	return strings.Join(values, ",")
}

// tooLarge returns the refusal of a request that is larger than the service may be sent.
// The client made it so, which is why it is no case for fail-open.
func tooLarge(size, limit int) *Refusal {
	return &Refusal{
		Kind:    Denied,
		Code:    deniedCode,
		Message: "the call's metadata is larger than the authorization service accepts",
		Cause:   fmt.Errorf("the question is %d bytes with the call's metadata, over the limit of %d", size, limit),
	}
}
