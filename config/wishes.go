package config

import "sync"

// wishes have keys of other proxies' configurations, as plain returns them and without a
// final s, with what culvert has in their place.
var wishes = sync.OnceValue(func() map[string]string {
	said := map[string]string{}
	for _, w := range []struct {
		words []string
		text  string
	}{
		{[]string{"jwt", "jwtauthn", "jwtauth", "jwtprovider", "jwk", "oidc", "oauth", "oauth2", "token", "authentication", "authn"}, "list the issuers of tokens in auth.issuers (docs/reference/auth.md)"},
		{[]string{"forwardauth", "extauth", "extauthz", "opa"}, "set auth.external.address, or auth.external.url for forward-auth"},
		{[]string{"apikey"}, "set auth.api_keys.file to a file with lines of \"culvert keys new\""},
		{[]string{"basicauth", "user"}, "culvert checks no passwords: auth.external asks a service that does"},
		{[]string{"rbac", "acl", "authorization", "authz", "policy", "policie"}, "write auth.rules. methods.allow lists the methods that clients can call"},
		{[]string{"tracing", "opentracing", "opentelemetry", "otel", "zipkin", "jaeger", "datadog"}, "set otlp.endpoint to a receiver of OTLP (docs/guides/otlp.md)"},
		{[]string{"metric", "prometheu", "stat", "statsd", "telemetry"}, "culvert has its metrics at /metrics of health.listen (health.metrics)"},
		{[]string{"accesslog", "logging", "logger"}, "each call has a line in the log (log)"},
		{[]string{"cor", "corspolicy", "corspolicie", "origin", "allowedorigin"}, "list the origins of pages in allow_origins"},
		{[]string{"ratelimit", "ratelimiter", "ratelimiting", "quota", "throttle", "throttling"}, "limits has all limits, such as limits.address.calls_per_second. auth.rate_limit asks a service that counts across replicas"},
		{[]string{"ipallowlist", "ipfilter", "ipfiltering", "ipwhitelist", "allowlist", "whitelist", "denylist", "blacklist", "geoip", "waf"}, "culvert has no lists of client addresses: use the firewall, or a proxy in front"},
		{[]string{"cluster", "upstream", "service", "endpoint", "loadbalancer", "loadbalancing"}, "list the gRPC servers in backends, or set backend.address"},
		{[]string{"listener", "server", "port", "bind", "entrypoint", "frontend"}, "set the address for clients in listen"},
		{[]string{"virtualhost", "vhost", "router", "location", "rule"}, "write routes, with match.hosts and match.path_prefix"},
		{[]string{"circuitbreaker", "outlierdetection", "faultinjection", "fault", "mirror", "mirroring", "shadow"}, "culvert has no such thing. limits, backend.health_check and retry of routes are near it"},
		{[]string{"cache", "caching", "compression", "compres", "compressor", "gzip", "brotli", "encode", "decompressor"}, "culvert neither caches nor compresses: it passes on what the backend has compressed"},
		{[]string{"plugin", "middleware", "filter", "httpfilter", "wasm", "lua", "script", "extension", "extproc"}, "culvert runs no plugins: package bridge embeds it in a Go program"},
		{[]string{"http3", "quic"}, "culvert has no HTTP/3"},
		{[]string{"grpcweb", "websocket", "http2", "h2c", "grpc"}, "culvert always takes all client protocols. To limit a listener, set listen[].transports"},
		{[]string{"transcoding", "transcoder", "grpcjsontranscoder", "rest", "gateway"}, "culvert converts JSON without a key (connect, and message of routes); it has no paths of google.api.http"},
		{[]string{"static", "root", "fileserver", "webroot"}, "culvert serves no files: fallback is the web server for all requests that aren't calls"},
		{[]string{"redirect", "httpsredirect"}, "tls.http_listen redirects HTTP to HTTPS"},
		{[]string{"letsencrypt", "certresolver", "certificatesresolver", "autotl", "autohttp"}, "set tls.acme"},
		{[]string{"header", "requestheader", "responseheader"}, "metadata of routes sets and removes metadata"},
	} {
		for _, word := range w.words {
			said[word] = w.text
		}
	}
	return said
})
