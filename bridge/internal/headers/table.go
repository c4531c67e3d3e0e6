package headers

import "slices"

// A Row is one row of the tables of headers that don't cross unchanged.
type Row struct {
	Name string // a final "*" stands for all names with that prefix
	Rule string // "drop", "vouched" or "cookie"
	Why  string
}

// RequestRows returns the table for metadata on its way to the backend.
func RequestRows() []Row { return slices.Clone(requestRows) }

// ResponseRows returns the table for metadata on its way to the client.
func ResponseRows() []Row { return slices.Clone(responseRows) }

const (
	hopByHop  = "of one connection, not of the call"
	ofBody    = "of the HTTP body, which culvert writes anew"
	ofBrowser = "for the server that the browser talks to"
	ofGRPC    = "gRPC's own; culvert sets anew what the call needs"
	vouch     = "only a trusted front proxy may set it"
	ofFront   = "an instruction to a proxy in front"
	ofCulvert = "culvert's own"
	ofOrigin  = "browser rules for culvert's origin"
)

// rows returns a row for each of the names.
func rows(rule, why string, names ...string) []Row {
	all := make([]Row, 0, len(names))
	for _, name := range names {
		all = append(all, Row{name, rule, why})
	}
	return all
}

// bothRows begin both tables.
var bothRows = slices.Concat(
	rows("drop", ofGRPC, ":*"),
	rows("drop", hopByHop, "connection", "keep-alive", "proxy-*", "upgrade", "te", "trailer", "transfer-encoding"),
)

var requestRows = slices.Concat(bothRows,
	rows("drop", hopByHop, "http2-settings"),
	rows("drop", "the authority is the backend's; the client's is in x-forwarded-host", "host"),
	rows("drop", ofBody, "content-length", "content-type", "content-encoding", "expect"),
	rows("drop", ofBrowser,
		"accept", "accept-encoding", "accept-language", "origin", "referer", "sec-*", "access-control-*",
	),
	rows("drop", "passed on as x-forwarded-user-agent", "user-agent"),
	rows("drop", ofGRPC, "x-grpc-web", "grpc-*"),
	rows("drop", "Connect's own", "connect-*"),
	rows("drop", "from a load balancer to its backend", "lb-token"),
	rows("drop", ofCulvert, "culvert-*", "x-culvert-*"),
	rows("drop", "added anew: the client's value if it is valid, else culvert's", "x-request-id"),
	rows("drop", "added anew", "x-forwarded-user-agent"),
	rows("cookie", "metadata.forward_cookies", "cookie"),
	rows("vouched", vouch+", and only with metadata.client_certificate", "x-forwarded-client-cert"),
	rows("vouched", vouch, "client-cert", "client-cert-chain", "x-forwarded-*"),
	rows("vouched", vouch+"; sent on as x-forwarded-*", "forwarded"),
	rows("vouched", vouch,
		"via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip", "fastly-client-ip",
		"x-cluster-client-ip", "x-envoy-external-address", "x-ssl-client-*", "x-amzn-mtls-*",
		"x-amzn-oidc-*", "x-goog-iap-*", "x-goog-authenticated-user-*", "x-ms-client-principal*",
		"x-auth-request-*", "x-original-*",
	),
)

var responseRows = slices.Concat(bothRows,
	rows("drop", ofBody, "content-*", "date"),
	rows("drop", ofGRPC, "grpc-status", "grpc-message", "grpc-encoding", "grpc-accept-encoding", "grpc-timeout"),
	rows("drop", ofOrigin,
		"access-control-*", "cross-origin-*", "alt-svc", "location", "refresh", "clear-site-data",
		"strict-transport-security", "public-key-pins*", "service-worker-allowed", "report-to",
		"reporting-endpoints", "nel", "accept-ch", "critical-ch", "attribution-reporting-*",
		"document-policy*", "feature-policy", "permissions-policy*", "link", "no-vary-search",
		"origin-*", "sec-*", "set-cookie2", "set-login", "speculation-rules", "supports-loading-mode",
		"use-as-dictionary",
	),
	rows("drop", ofFront, "x-accel-*", "x-sendfile"),
	rows("drop", ofCulvert, "culvert-*", "x-culvert-*"),
	rows("cookie", "metadata.forward_set_cookies", "set-cookie"),
)
