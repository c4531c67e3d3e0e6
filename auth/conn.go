package auth

import (
	"context"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
	"github.com/culvert-grpc/culvert/auth/internal/rules"
	"github.com/culvert-grpc/culvert/bridge"
)

// How long what was found of a connection holds without another look, so that withdrawn keys
// count for connections, too. Bad news hold shorter: they may be an outage's.
const (
	goodConn = 10 * time.Second
	badConn  = 5 * time.Second
)

// A connection is what was found of the request for a WebSocket or a tunnel. It doesn't
// change.
type connection struct {
	request  *bridge.ConnRequest
	findings findings
	from     *identity.Identity // that its calls have without credentials of their own and without a service; nil: none
	identity *bridge.Identity   // the same, or what it is once the service permits a call
}

// String hides the credentials in the request.
func (c *connection) String() string { return "connection" }

// GoString hides them from %#v.
func (c *connection) GoString() string { return c.String() }

// AuthenticateConn judges what came with the request for a WebSocket or a tunnel. It refuses
// nothing: a call with a credential of its own may not need the connection's. The error is the
// end of ctx.
func (a *Authenticator) AuthenticateConn(ctx context.Context, r *bridge.ConnRequest) (*bridge.ConnIdentity, error) {
	c := &connection{request: new(*r), findings: findings{of: make([]finding, len(a.requirement.Ways()))}}
	list := a.places.of(nil, &r.Credentials, false)
	if r.Peer.Client != nil {
		list = append(list, credential{place: inCertificate})
	}
	a.find(ctx, &r.Peer, list, &c.findings)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	c.identify(a)
	holds := goodConn
	if c.findings.refused() || c.findings.any(rules.Unavailable) {
		holds = badConn
	}
	return &bridge.ConnIdentity{Identity: c.identity, Value: c, Until: time.Now().Add(holds)}, nil
}

// identify finds the identity that the connection alone proves. A service that all_of names judges
// calls, not connections: the identity is that of the calls that it permits, so that a new token
// can renew them.
func (c *connection) identify(a *Authenticator) {
	if c.findings.wrong != nil || c.findings.left {
		return
	}
	said := make([]rules.Said, len(c.findings.of))
	for way := range said {
		said[way] = c.findings.of[way].Said
	}
	c.from = a.requirement.Judge("", said).Identity
	id := c.from
	if a.external != nil && a.external.inAllOf {
		said[a.external.way] = serviceWouldPermit
		id = a.requirement.Judge("", said).Identity
	}
	if id != nil && id.Subject != "" { // else only the service can name it
		c.identity = a.bridged(id)
	}
}
