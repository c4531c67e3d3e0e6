package bridge

import (
	"net/http"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/codec"
)

// newHTTPCall makes the call of an HTTP request, as far as HTTP and not the
// client's protocol says it: id, metadata, what culvert vouches for. An error is
// told in the call's own protocol, so the call is good for that either way.
func (s *Server) newHTTPCall(r *http.Request, a *arrival) (*Call, error) {
	c := s.newCall(a, r.Header.Get("X-Request-Id"))
	if a.refused != nil {
		return c, a.refused
	}
	md, err := requestMetadata(r.Header, a.trusted, a.policy.forwardCookies && a.origin.Credentials, c.headers)
	if err != nil {
		return c, err
	}
	a.policy.vouched.strike(md, a.trusted)
	if ua := r.Header.Get("User-Agent"); codec.ValidValue(ua) && ua != "" {
		md["x-forwarded-user-agent"] = []string{ua}
	}
	c.Metadata = md
	a.vouch(md)
	return c, a.vouchCertificate(md, r.Header, a.policy.forwardClientCert, c.headers)
}

// vouch adds what culvert itself says of the client.
func (a *arrival) vouch(md metadata.MD) {
	delete(md, "forwarded") // a trusted proxy's: said anew
	f := a.forward
	for _, field := range [...]struct{ name, value string }{
		{"x-forwarded-for", f.For},
		{"x-forwarded-proto", f.Proto},
		{"x-forwarded-host", f.Host},
		{"via", f.Via},
	} {
		if codec.ValidValue(field.value) && field.value != "" {
			md[field.name] = []string{field.value}
		} else {
			delete(md, field.name)
		}
	}
}
