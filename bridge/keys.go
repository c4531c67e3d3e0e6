package bridge

// The keys that set the limits, as errors and refusals name them.
const (
	keyMessageBytes  = "limits.message_bytes"
	keyHeaderBytes   = "limits.header_bytes"
	keyBufferedBytes = "limits.buffered_bytes"
	keyConnections   = "limits.connections"
	keyCalls         = "limits.calls"
	keyHandshakes    = "limits.handshakes_per_second"
	keyMemory        = "limits.memory"
	keySlowConsumer  = "limits.slow_consumer_timeout"
	keyIdle          = "limits.idle_timeout"
	keyMaxAge        = "limits.max_age"
	keySlowSender    = "limits.slow_sender_timeout"

	keyTrustedProxies = "trusted_proxies"     // whose word on clients counts
	keyProxyProtocol  = "proxy_protocol"      // who sends PROXY headers
	keyCertificates   = "tls.certificates"    // what clients have to show for a name
	keyTransports     = "listen[].transports" // which protocols a listener takes

	keyMaxConnections = "backend.max_connections"
	keyQueueTimeout   = "backend.queue_timeout"
)

// What the keys of further limits begin with.
const (
	keyLimits         = "limits."
	keyAddressLimits  = "limits.address."
	keyMethodLimits   = "limits.methods[]."
	keyListenerLimits = "listen[].limits."

	keyMethodMessageBytes   = keyMethodLimits + "message_bytes"
	keyMethodHeaderBytes    = keyMethodLimits + "header_bytes"
	keyListenerMessageBytes = keyListenerLimits + "message_bytes"
	keyListenerHeaderBytes  = keyListenerLimits + "header_bytes"
)
