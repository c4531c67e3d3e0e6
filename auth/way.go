package auth

import (
	"context"
	"crypto/x509"
	"net/netip"
	"slices"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
	"github.com/culvert-grpc/culvert/auth/internal/jwt"
	"github.com/culvert-grpc/culvert/auth/internal/rules"
	"github.com/culvert-grpc/culvert/bridge"
)

// A way takes credentials of one kind. Each has a file, way_NAME.go. A service that judges
// calls isn't one of these: it judges what is left.
type way interface {
	// judge says what it finds of a credential, in so far as that doesn't depend on the call. It
	// returns false for a credential of another kind.
	judge(ctx context.Context, p *bridge.Peer, c *credential, f *findings) (finding, bool)
}

// addressOf returns the address of a peer or of this end, which may be invalid.
func addressOf(text string) netip.AddrPort {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at
	}
	addr, _ := netip.ParseAddr(text) // a unix socket has none
	return netip.AddrPortFrom(addr, 0)
}

// certificateOf returns the one with which a client proved itself, or nil.
func certificateOf(p *bridge.Peer) *x509.Certificate {
	if p.TLS == nil || len(p.TLS.PeerCertificates) == 0 {
		return nil
	}
	return p.TLS.PeerCertificates[0]
}

// A finding is what a way says of a credential.
type finding struct {
	rules.Said
	way    int        // its place in what Requirement.Judge wants
	token  *jwt.Token // that Said.Identity is of; nil: of no token
	issuer *issuer    // of the token
}

// invalid returns the refusal of a bad credential.
func invalid(text string) *identity.Refusal { return &identity.Refusal{Text: text} }

func refusedFinding(way int, r *identity.Refusal) finding {
	f := finding{way: way, Said: rules.Said{Finding: rules.Invalid, Refusal: r}}
	if r.Reason == identity.Unjudged {
		f.Finding = rules.Unavailable
	}
	return f
}

// findings are what the ways say of a request's credentials.
type findings struct {
	of     []finding         // by way; Absent where none was found
	some   bool              // one isn't Absent
	left   bool              // there is a credential that only a service can judge
	ofCall bool              // that one is the call's own
	wrong  *identity.Refusal // of a credential that nobody takes; nil: there is none
}

// add notes what a way says, unless it has said something of an earlier place.
func (f *findings) add(n finding) {
	if f.of[n.way].Finding == rules.Absent {
		f.of[n.way] = n
		f.some = true
	}
}

// has reports whether a way has found something.
func (f *findings) has(way int) bool { return f.of[way].Finding != rules.Absent }

// refused reports whether a credential refuses the call, whatever others are.
func (f *findings) refused() bool {
	return f.wrong != nil || f.any(rules.Invalid)
}

func (f *findings) any(n rules.Finding) bool {
	return slices.ContainsFunc(f.of, func(of finding) bool { return of.Finding == n })
}

// inherit takes over what was found of the connection, for ways that found nothing of the
// call's own. token reports that the call has an authorization of its own, which the backend
// gets in place of the connection's: then a credential of the connection that no way takes
// doesn't count. Beside an API key in its own header it does, since the backend gets both.
func (f *findings) inherit(conn *findings, token bool) {
	for way := range conn.of {
		if conn.has(way) {
			f.add(conn.of[way])
		}
	}
	if token {
		return
	}
	f.left = f.left || conn.left
	if f.wrong == nil {
		f.wrong = conn.wrong
	}
}

// find has the ways judge credentials, which are in the order of their places.
func (a *Authenticator) find(ctx context.Context, p *bridge.Peer, list []credential, f *findings) {
	bearers := false // some way took a token of an earlier place
	for i := range list {
		c := &list[i]
		if c.wrong != "" && a.takes(c) {
			f.refuse(invalid(c.wrong))
			continue
		}
		taken := false
		for _, w := range a.ways {
			n, is := w.judge(ctx, p, c, f)
			if !is {
				continue
			}
			n.OfCall = c.ofCall
			if n.Finding != rules.Absent {
				f.add(n)
			}
			taken = true
			break
		}
		switch ofToken := c.place <= inSubprotocol; {
		case taken:
			bearers = bearers || ofToken
		case bearers && ofToken, !a.takes(c):
		case a.external != nil:
			f.left, f.ofCall = true, f.ofCall || c.ofCall
			bearers = bearers || ofToken
		default:
			f.refuse(a.unknown(c))
		}
	}
}

var unknownCredential = invalid("the credential isn't one that this server accepts: send another one")

// unknown is the refusal of a credential that nobody takes.
func (a *Authenticator) unknown(c *credential) *identity.Refusal {
	if c.foreign == nil || c.opaque && a.places.keyHeader != "" {
		return unknownCredential
	}
	return c.foreign
}

// takes reports whether this server takes credentials from the place. If it knows callers by
// their certificates alone, what a call has as authorization is the backend's business. A
// certificate that is no way to authenticate is that of a proxy, or one that a token is bound to.
func (a *Authenticator) takes(c *credential) bool {
	return c.place != inCertificate && (a.external != nil || a.bearers || c.place == inKeyHeader)
}

// refuse notes a credential that nobody takes. The first one counts.
func (f *findings) refuse(r *identity.Refusal) {
	if f.wrong == nil {
		f.wrong = r
	}
}
