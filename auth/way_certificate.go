package auth

import (
	"context"
	"strings"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
	"github.com/culvert-grpc/culvert/auth/internal/rules"
	"github.com/culvert-grpc/culvert/bridge"
)

// certificates are the way of client certificates, which TLS has verified. One counts as long
// as its connection, also if it expires meanwhile: TLS itself asks for it once.
type certificates struct{ way int }

func (w certificates) judge(_ context.Context, p *bridge.Peer, c *credential, _ *findings) (finding, bool) {
	if c.place != inCertificate {
		return finding{}, false
	}
	name := p.Client.String()
	switch {
	case name == "":
		return refusedFinding(w.way, namelessCertificate), true
	case p.Client.SPIFFE == "" && looksLikeURI(name):
		return refusedFinding(w.way, forgedCertificate), true
	}
	return finding{Said: rules.Said{Finding: rules.Valid, Identity: &identity.Identity{Subject: name, Kind: identity.MTLS}}, way: w.way}, true
}

func looksLikeURI(name string) bool { return strings.Contains(name, "://") }

var (
	namelessCertificate = invalid("the client's certificate has no name: get one with a SPIFFE ID, a DNS name or a common name")
	forgedCertificate   = invalid("the name in the client's certificate looks like a URI, and isn't its SPIFFE ID: get one with that")
)
