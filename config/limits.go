package config

// AddressLimits are the limits of one client address: an IPv4 address, or the
// first 64 bits of an IPv6 address. The defaults are far above what one client
// needs, because many clients may share an address: a company behind a proxy
// that inspects TLS, or a carrier's network.
type AddressLimits struct {
	// Concurrent connections; 0 is no limit.
	Connections int `key:"connections"`

	// Concurrent calls; 0 is no limit.
	Calls int `key:"calls"`

	// Calls that start in a second; 0 is no limit.
	CallsPerSecond int `key:"calls_per_second"`

	// TLS handshakes and, counted separately, WebSocket handshakes in a second; 0
	// is no limit.
	HandshakesPerSecond int `key:"handshakes_per_second"`

	// Concurrent requests to the web server in fallback; 0 is no limit.
	FallbackRequests int `key:"fallback_requests"`

	// Bytes that compressed requests may expand to in a second; 0 is no limit.
	// "auto" is 16MiB for each CPU (GOMAXPROCS at the start). A message may exceed
	// the rest, at the expense of the next ones.
	DecompressedBytesPerSecond Size `key:"decompressed_bytes_per_second" is:"size, 0 or auto"`
}

// IdentityLimits are the limits of one identity.
type IdentityLimits struct {
	// Concurrent calls; 0 is no limit.
	Calls int `key:"calls"`

	// Calls that start in a second; 0 is no limit.
	CallsPerSecond int `key:"calls_per_second"`
}

// MethodLimits are the limits of the calls to some methods.
type MethodLimits struct {
	// The methods: "shop.v1.Orders/*", "shop.v1.*/Get*".
	Pattern string `key:"pattern" is:"method pattern" needed:"true"`

	// The largest message in each direction, in place of limits.message_bytes.
	MessageBytes Size `key:"message_bytes"`

	// The metadata of one call in each direction, if less than
	// limits.header_bytes.
	HeaderBytes Size `key:"header_bytes"`

	// Concurrent calls; 0 is no limit.
	Calls int `key:"calls"`

	// Calls that start in a second; 0 is no limit.
	CallsPerSecond int `key:"calls_per_second"`

	// Bytes that compressed requests may expand to in a second; 0 is no limit.
	DecompressedBytesPerSecond Size `key:"decompressed_bytes_per_second" is:"size or 0"`
}

// ListenerLimits are the limits of all clients of one listener together, in
// addition to Limits.
type ListenerLimits struct {
	// Concurrent connections; 0 is no limit.
	Connections int `key:"connections"`

	// Concurrent calls; 0 is no limit.
	Calls int `key:"calls"`

	// Calls that start in a second; 0 is no limit.
	CallsPerSecond int `key:"calls_per_second"`

	// TLS handshakes and, counted separately, WebSocket handshakes in a second; 0
	// is no limit.
	HandshakesPerSecond int `key:"handshakes_per_second"`

	// Bytes that compressed requests may expand to in a second; 0 is no limit.
	DecompressedBytesPerSecond Size `key:"decompressed_bytes_per_second" is:"size or 0"`

	// The largest message in each direction, if less than limits.message_bytes
	// and limits.methods allow.
	MessageBytes Size `key:"message_bytes"`

	// The metadata of one call in each direction, if less than
	// limits.header_bytes.
	HeaderBytes Size `key:"header_bytes"`

	// Concurrent calls on one HTTP/2 connection, or in one tunnel, if less than
	// limits.calls_per_connection.
	CallsPerConnection int `key:"calls_per_connection"`
}

// The program takes programMemory, and clients may hold clientShare of the
// rest. The other 35 % are for garbage that the collector has not found yet,
// and for errors in the estimates of calls and connections.
const (
	programMemory   = 20 << 20
	clientShare     = 0.65
	minClientMemory = 4 << 20 // for a few calls, whatever the limit is
)

// ClientMemory returns the memory that clients may hold if culvert may use
// limit.
func ClientMemory(limit Size) Size {
	return max(Size(clientShare*float64(limit-programMemory)), minClientMemory)
}

// BufferedBytes returns the limits.buffered_bytes in effect if culvert may use
// limit. Unless the operator has set the key, it is at most half of ClientMemory,
// and at least one message.
func (l *Loaded) BufferedBytes(limit Size) Size {
	if l.IsSet("limits.buffered_bytes") {
		return l.Limits.BufferedBytes
	}
	return max(min(l.Limits.BufferedBytes, ClientMemory(limit)/2), l.Limits.MessageBytes)
}
