package headers

// A Row is one row of the tables of headers that don't cross unchanged.
type Row struct {
	Name string // a final "*" stands for all names with that prefix
	Rule string // "drop", "vouched" or "cookie"
	Why  string
}

// RequestRows returns the table for metadata on its way to the backend.
func RequestRows() []Row { return append([]Row(nil), requestRows...) }

// ResponseRows returns the table for metadata on its way to the client.
func ResponseRows() []Row { return append([]Row(nil), responseRows...) }

const (
	hopByHop  = "of one connection, not of the call"
	ofBody    = "describes the HTTP body, which culvert writes anew"
	ofBrowser = "meant for the server that the browser talks to"
	ofGRPC    = "gRPC's own; culvert sets it anew"
	vouch     = "only a trusted front proxy may set it"
	ofFront   = "an instruction to a proxy in front"
	ofCulvert = "culvert's own"
	ofOrigin  = "would set browser rules for culvert's origin"
)

var requestRows = []Row{
	{":*", "drop", ofGRPC},
	{"connection", "drop", hopByHop},
	{"keep-alive", "drop", hopByHop},
	{"proxy-*", "drop", hopByHop},
	{"upgrade", "drop", hopByHop},
	{"te", "drop", hopByHop},
	{"trailer", "drop", hopByHop},
	{"transfer-encoding", "drop", hopByHop},
	{"http2-settings", "drop", hopByHop},
	{"host", "drop", "the authority is the backend's; the client's is in x-forwarded-host"},
	{"content-length", "drop", ofBody},
	{"content-type", "drop", ofBody},
	{"content-encoding", "drop", ofBody},
	{"expect", "drop", ofBody},
	{"accept", "drop", ofBrowser},
	{"accept-encoding", "drop", ofBrowser},
	{"accept-language", "drop", ofBrowser},
	{"origin", "drop", ofBrowser},
	{"referer", "drop", ofBrowser},
	{"sec-*", "drop", ofBrowser},
	{"access-control-*", "drop", ofBrowser},
	{"user-agent", "drop", "passed on as x-forwarded-user-agent"},
	{"x-grpc-web", "drop", ofGRPC},
	{"grpc-*", "drop", ofGRPC},
	{"connect-*", "drop", "Connect's own"},
	{"lb-token", "drop", "from a load balancer to its backend"},
	{"culvert-*", "drop", ofCulvert},
	{"x-culvert-*", "drop", ofCulvert},
	{"x-request-id", "drop", "culvert adds it anew: the client's value if it is valid, else an id of its own"},
	{"x-forwarded-user-agent", "drop", "added anew"},
	{"cookie", "cookie", "metadata.forward_cookies"},
	{"x-forwarded-client-cert", "vouched", vouch + ", and culvert forwards it only with metadata.client_certificate"},
	{"client-cert", "vouched", vouch},
	{"client-cert-chain", "vouched", vouch},
	{"x-forwarded-*", "vouched", vouch},
	{"forwarded", "vouched", vouch + "; sent on as x-forwarded-*"},
	{"via", "vouched", vouch},
	{"x-real-ip", "vouched", vouch},
	{"x-client-ip", "vouched", vouch},
	{"true-client-ip", "vouched", vouch},
	{"cf-connecting-ip", "vouched", vouch},
	{"fastly-client-ip", "vouched", vouch},
	{"x-cluster-client-ip", "vouched", vouch},
	{"x-envoy-external-address", "vouched", vouch},
	{"x-ssl-client-*", "vouched", vouch},
	{"x-amzn-mtls-*", "vouched", vouch},
	{"x-amzn-oidc-*", "vouched", vouch},
	{"x-goog-iap-*", "vouched", vouch},
	{"x-goog-authenticated-user-*", "vouched", vouch},
	{"x-ms-client-principal*", "vouched", vouch},
	{"x-auth-request-*", "vouched", vouch},
	{"x-original-*", "vouched", vouch},
}

var responseRows = []Row{
	{":*", "drop", ofGRPC},
	{"connection", "drop", hopByHop},
	{"keep-alive", "drop", hopByHop},
	{"proxy-*", "drop", hopByHop},
	{"upgrade", "drop", hopByHop},
	{"te", "drop", hopByHop},
	{"trailer", "drop", hopByHop},
	{"transfer-encoding", "drop", hopByHop},
	{"content-*", "drop", ofBody},
	{"date", "drop", ofBody},
	{"grpc-status", "drop", ofGRPC},
	{"grpc-message", "drop", ofGRPC},
	{"grpc-encoding", "drop", ofGRPC},
	{"grpc-accept-encoding", "drop", ofGRPC},
	{"grpc-timeout", "drop", ofGRPC},
	{"access-control-*", "drop", ofOrigin},
	{"cross-origin-*", "drop", ofOrigin},
	{"alt-svc", "drop", ofOrigin},
	{"location", "drop", ofOrigin},
	{"refresh", "drop", ofOrigin},
	{"clear-site-data", "drop", ofOrigin},
	{"strict-transport-security", "drop", ofOrigin},
	{"public-key-pins*", "drop", ofOrigin},
	{"service-worker-allowed", "drop", ofOrigin},
	{"report-to", "drop", ofOrigin},
	{"reporting-endpoints", "drop", ofOrigin},
	{"nel", "drop", ofOrigin},
	{"accept-ch", "drop", ofOrigin},
	{"critical-ch", "drop", ofOrigin},
	{"attribution-reporting-*", "drop", ofOrigin},
	{"document-policy*", "drop", ofOrigin},
	{"feature-policy", "drop", ofOrigin},
	{"permissions-policy*", "drop", ofOrigin},
	{"link", "drop", ofOrigin},
	{"no-vary-search", "drop", ofOrigin},
	{"origin-*", "drop", ofOrigin},
	{"sec-*", "drop", ofOrigin},
	{"set-cookie2", "drop", ofOrigin},
	{"set-login", "drop", ofOrigin},
	{"speculation-rules", "drop", ofOrigin},
	{"supports-loading-mode", "drop", ofOrigin},
	{"use-as-dictionary", "drop", ofOrigin},
	{"x-accel-*", "drop", ofFront},
	{"x-sendfile", "drop", ofFront},
	{"culvert-*", "drop", ofCulvert},
	{"x-culvert-*", "drop", ofCulvert},
	{"set-cookie", "cookie", "metadata.forward_set_cookies"},
}
