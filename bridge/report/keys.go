package report

// The keys of the limits, as in errors and refusals.
const (
	KeyMessageBytes  = "limits.message_bytes"
	KeyHeaderBytes   = "limits.header_bytes"
	KeyBufferedBytes = "limits.buffered_bytes"
	KeyConnections   = "limits.connections"
	KeyCalls         = "limits.calls"
	KeyHandshakes    = "limits.handshakes_per_second"
	KeyMemory        = "limits.memory"
	KeySlowConsumer  = "limits.slow_consumer_timeout"
	KeyIdle          = "limits.idle_timeout"
	KeyMaxAge        = "limits.max_age"
	KeySlowSender    = "limits.slow_sender_timeout"

	KeyOrigins        = "allow_origins" // which pages may call
	KeyHosts          = "hosts"         // the names of this server
	KeyMethodsAllow   = "methods.allow" // which methods are exposed
	KeyMethodsDeny    = "methods.deny"  // which aren't
	KeyPathPrefix     = "path_prefix"   // in front of the paths of methods
	KeyFallback       = "fallback"      // the web server
	KeyCookies        = "metadata.forward_cookies"
	KeyTrustedProxies = "trusted_proxies"     // whose forwarding headers count
	KeyProxyProtocol  = "proxy_protocol"      // which peers send PROXY headers
	KeyCertificates   = "tls.certificates"    // the client certificates that a name requires
	KeyTransports     = "listen[].transports" // the protocols that a listener accepts
	KeyRoutes         = "routes"              // which calls go where
	KeyRouteTimeout   = "routes[].timeout"    // how long a call of a route may take

	KeyDoctor = "doctor" // whether culvert.v1.Path has large bounds, and Report

	KeyRouteIdle   = "routes[].idle_timeout" // in place of limits.idle_timeout
	KeyRouteMaxAge = "routes[].max_age"      // in place of limits.max_age

	KeyRouteOrigins = "routes[].allow_origins" // which pages may make the calls of a route

	KeyBackendTLS  = "backend.tls"
	KeyDescriptors = "backend.descriptors"
	KeyHealthCheck = "health_check" // of a backend
	KeyEventID     = "message.event_id"
	KeyMessagePath = "message.path"

	KeyMessageRefresh = "message.refresh" // the form of messages that renew a credential
	KeyAuth           = "auth"            // who may call
	KeyAuthCookie     = "auth.cookie"     // the cookie that has a token

	KeyMaxConnections = "backend.max_connections"
	KeyQueueTimeout   = "backend.queue_timeout"
	KeyBackendCalls   = "backend.limits.calls"
	KeyWaitingCalls   = "backend.limits.waiting_calls"
)

// The sections of the configuration that have limits of their own.
const (
	KeyLimits         = "limits."
	KeyAddressLimits  = "limits.address."
	KeyIdentityLimits = "limits.identity."
	KeyMethodLimits   = "limits.methods[]."
	KeyListenerLimits = "listen[].limits."
	KeyRouteLimits    = "routes[].limits."

	KeyMethodMessageBytes   = KeyMethodLimits + "message_bytes"
	KeyMethodHeaderBytes    = KeyMethodLimits + "header_bytes"
	KeyListenerMessageBytes = KeyListenerLimits + "message_bytes"
	KeyListenerHeaderBytes  = KeyListenerLimits + "header_bytes"
	KeyRouteMessageBytes    = KeyRouteLimits + "message_bytes"
	KeyRouteHeaderBytes     = KeyRouteLimits + "header_bytes"
)

// A SizeLimit is a number of bytes, and the key that sets it.
type SizeLimit struct {
	Bytes int
	Key   string
}

// Or returns the smaller of l and another limit. A limit that isn't positive means
// none.
func (l SizeLimit) Or(bytes int, key string) SizeLimit {
	if bytes > 0 && bytes < l.Bytes {
		return SizeLimit{bytes, key}
	}
	return l
}
