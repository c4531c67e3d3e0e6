package auth

import (
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/auth/internal/check"
	"github.com/culvert-grpc/culvert/auth/internal/identity"
	"github.com/culvert-grpc/culvert/auth/internal/ratelimit"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// tooManyFailures is the refusal of a credential that nobody looked at: it may be good.
var tooManyFailures = &identity.Refusal{
	Reason: identity.Unjudged, Text: "too many invalid credentials came from this address, so this one wasn't checked",
}

// faultOf returns the fault of a refusal, with the key of the way that decided. The log has only
// the cause, so it is the refusal with both of its faces.
func faultOf(r *identity.Refusal, key string) *report.Fault {
	f := report.New(report.ReasonUnauthenticated, r.Text).Because(r)
	f.Key, f.Whole = key, true
	switch {
	case r == tooManyFailures:
		f.Reason, f.HTTP, f.Retry, f.Remedy = report.ReasonLimitExceeded, http.StatusTooManyRequests, failureRetry, "try again later, with a valid credential"
	case r.Reason == identity.NotPermitted:
		f.Reason = report.ReasonPermissionDenied
	case r.Reason == identity.Unjudged:
		f.Reason, f.Sent = report.ReasonAuthUnavailable, report.SentNo
	}
	return f
}

// keyOf returns the key of a way, "" for none of them.
func keyOf(way string) string {
	switch way {
	case "":
		return report.KeyAuth
	case WayAPIKeys:
		return report.KeyAuthAPIKeys
	case WayCertificates:
		return report.KeyAuthCertificates
	case WayExternal:
		return report.KeyAuthExternal
	default:
		return report.KeyAuthIssuers
	}
}

// faultOfService returns the fault of a call that a service refuses, with its own code and
// message. An answer with the HTTP status 401 says which credential the service wants.
func faultOfService(r *check.Refusal) *report.Fault {
	f := report.New(report.ReasonPermissionDenied, r.Message).Because(r.Cause)
	f.Key, f.Code, f.Whole, f.Header = report.KeyAuthExternal, r.Code, true, headerOf(r.Header)
	switch r.Kind {
	case check.Denied:
	case check.Unauthenticated:
		f.Reason = report.ReasonUnauthenticated
	case check.Unavailable:
		f.Reason, f.Code, f.Sent = report.ReasonAuthUnavailable, codes.OK, report.SentNo
	}
	return f
}

// overRate returns the fault of a call over a limit that replicas share.
func overRate(r *ratelimit.Refusal) *report.Fault {
	f := report.New(report.ReasonLimitExceeded, r.Message).Because(r.Cause)
	f.Key, f.Retry, f.HTTP, f.Remedy = report.KeyAuthRateLimit, r.RetryAfter, http.StatusTooManyRequests, "try again later"
	f.Header = headerOf(r.Header)
	if r.Kind == ratelimit.Unavailable {
		f.Reason, f.HTTP, f.Remedy, f.Sent = report.ReasonAuthUnavailable, 0, "", report.SentNo
	}
	return f
}

// headerOf returns what a service has for the client as the fields of a fault.
func headerOf(md metadata.MD) (fields []string) {
	for name, values := range md {
		// forward_set_cookies decides about cookies, of which a refusal knows nothing. Bytes are for gRPC.
		if name != "set-cookie" && !strings.HasSuffix(name, "-bin") {
			fields = append(fields, name, strings.Join(values, ", ")) // RFC 9110 §5.3
		}
	}
	return fields
}
