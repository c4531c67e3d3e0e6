package bridge

import (
	"net/http"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// challenge adds to the header of an HTTP answer what culvert's fault has for it, and with the
// status 401 which credential the call needs. Fields that are there win. It comes before the list
// of fields that a page may read.
func (c *call) challenge(h http.Header, code int) {
	if c.fault != nil {
		for i := 0; i+1 < len(c.fault.Header); i += 2 {
			if name := http.CanonicalHeaderKey(c.fault.Header[i]); h[name] == nil {
				h[name] = []string{c.fault.Header[i+1]}
			}
		}
	}
	if code != http.StatusUnauthorized || c.ending != report.ReasonUnauthenticated && c.ending != report.ReasonTokenExpired {
		return
	}
	switch {
	case h["Www-Authenticate"] != nil:
	case c.auth != nil && c.auth.sent: // RFC 6750 §3.1
		h["Www-Authenticate"] = []string{`Bearer error="invalid_token"`}
	default: // without an error: nothing is wrong with what wasn't sent
		h["Www-Authenticate"] = []string{"Bearer"}
	}
}

// hasBearer reports whether one of the values of authorization is a bearer token.
func hasBearer(values []string) bool {
	return slices.ContainsFunc(values, func(v string) bool {
		scheme, _, _ := strings.Cut(v, " ")
		return strings.EqualFold(scheme, "Bearer")
	})
}
