package ratelimit

import (
	"net/netip"
	"strings"

	"google.golang.org/grpc/metadata"
)

// Facts are what a call is known by. An empty one is absent.
type Facts struct {
	// Kind, Issuer and Subject are the identity's. A caller without an identity has an empty
	// Subject, and none of the three counts then.
	Kind, Issuer, Subject string

	Method string // "/shop.v1.Orders/Get"
	Route  string // its name

	// Peer is the client's address, behind trusted proxies the one that they name. It may be
	// invalid.
	Peer netip.Addr

	// Metadata is what the backend would get, with lower-case names.
	Metadata metadata.MD
}

// value returns the value of an entry before it is bounded, or "" if it is absent.
func (f *Facts) value(e *Entry) string {
	switch e.Source {
	case Literal:
		return e.Text
	case FromIdentity:
		return f.identity()
	case FromSubject:
		return f.Subject
	case FromIssuer:
		return f.ifKnown(f.Issuer)
	case FromKind:
		return f.ifKnown(f.Kind)
	case FromMethod:
		return f.Method
	case FromService:
		service, _, _ := strings.Cut(strings.TrimPrefix(f.Method, "/"), "/")
		return service
	case FromRoute:
		return f.Route
	case FromPeer:
		return peer(f.Peer)
	case FromMetadata:
		return strings.Join(f.Metadata[e.Text], ",") // RFC 9110 §5.3
	}
	return ""
}

// ifKnown returns a part of the identity, if there is one.
func (f *Facts) ifKnown(part string) string {
	if f.Subject == "" {
		return ""
	}
	return part
}

var escapeBlanks = strings.NewReplacer("%", "%25", " ", "%20")

// identity returns a value that no other identity has: subjects are unique for a kind and an
// issuer only. Blanks separate the three, so the first two have none.
func (f *Facts) identity() string {
	if f.Subject == "" {
		return ""
	}
	return escapeBlanks.Replace(f.Kind) + " " + escapeBlanks.Replace(f.Issuer) + " " + f.Subject
}

// peer returns the address that a client's limits are for. The owner of one IPv6 address has
// all of its /64, and would have a new limit with each of them.
func peer(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	if !addr.Is6() {
		if !addr.IsValid() {
			return ""
		}
		return addr.String()
	}
	return netip.PrefixFrom(addr, 64).Masked().String()
}
