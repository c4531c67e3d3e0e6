package config

import (
	"net/netip"
	"time"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// Config is the whole configuration. The tags of a field are:
//
//   - key: the name in the file; the variable is CULVERT_ and the path in upper
//     case, with "_" for "."
//   - flag: the flag for the key, if there is one
//   - is: the row in the table of kinds, unless the type of the field names it
//   - one: the accepted words
//   - short: for a list of structs, the key of an entry that a single value sets
//   - needed: an entry must set it; it means nothing outside of lists
//   - like: the key or section of the file that an entry inherits, so that the
//     entry needs no default
//   - unset: the value in an entry that doesn't set it, if not the zero value
//   - as: on a section, the section of the file whose keys mean the same, so that
//     the reference need not repeat them
//   - same: on an embedded struct of an entry, the section of the file that has
//     the same keys, with the same meanings and defaults
//   - restart: "yes" if a change needs a restart, of each key in the case of a
//     section; "entries" if only the number of entries of a list does
//   - group: the keys that an entry inherits together; an entry that sets one of
//     them inherits none
//
// The comments of the fields are for people who write the file. go generate
// copies them to the reference, the schema and the file of defaults.
type Config struct {
	// The address for clients, or a list of listeners:
	//
	//   - ":8080": a port on all addresses of the host.
	//   - "127.0.0.1:8080": a port on this host only.
	//   - ":0": a free port.
	//   - "unix:/run/culvert.sock": a unix socket.
	//
	// The number of listeners needs a restart. On a loopback address, the Host of a
	// request must be an IP address, localhost, a name in hosts, or a name of a
	// certificate.
	Listen []Listener `key:"listen" flag:"listen" short:"address" restart:"entries"`

	// TLS for clients. Without a certificate, culvert speaks plaintext.
	TLS TLS `key:"tls"`

	// The gRPC server behind culvert. serve requires its address, unless there are
	// backends.
	Backend Backend `key:"backend"`

	// Several gRPC servers, in place of backend, whose name is default. Without
	// routes, calls go to the only entry, or to default.
	Backends []NamedBackend `key:"backends"`

	// Which calls go to which backend. The most specific route wins
	// (docs/reference/routes.md). Other calls end with UNIMPLEMENTED.
	Routes []Route `key:"routes"`

	// Origins of pages that may call:
	//
	//   - "https://app.example.com": one origin.
	//   - "https://*.example.com": all names below a domain.
	//   - "http://localhost:*": any port.
	//   - "~https://pr-[0-9]+\.example\.com": a regular expression for the whole
	//     origin, starting with the scheme.
	//   - "null": sandboxed pages of all sites.
	//   - "*": every origin except "null".
	//
	// culvert's own pages, also those at hosts, and programs need no entry.
	// metadata.forward_cookies applies to its own pages and to origins without a
	// pattern, except "null".
	AllowOrigins []string `key:"allow_origins" flag:"allow-origin" is:"origin"`

	// Refuse pages of other origins, and calls by GET over plaintext whose host
	// isn't in hosts. With false, culvert only logs and counts them, and they call
	// without cookies.
	EnforceOrigins bool `key:"enforce_origins"`

	// Names of this server, such as "grpc.example.com". Their pages may call,
	// loopback addresses answer to them, and tls.http_listen redirects them to
	// HTTPS. Calls by GET over plaintext for other names are refused, except for IP
	// addresses, localhost and names of certificates. A name without a port matches
	// pages on the scheme's default port and on the port in the request's Host. If a
	// proxy drops another port from Host, name it: "grpc.example.com:8443".
	Hosts []string `key:"hosts" flag:"host" is:"host"`

	// A prefix, such as "/grpc", that culvert removes from each path.
	PathPrefix string `key:"path_prefix" flag:"path-prefix" is:"path prefix"`

	// The web server for requests that aren't calls, and their WebSockets
	// (docs/guides/one-origin.md):
	//
	//   - "http://localhost:3000": over plaintext.
	//   - "https://app.internal": over TLS, verified with the system's CAs.
	//   - "unix:/run/app.sock": a unix socket.
	Fallback string `key:"fallback" flag:"fallback" is:"web server"`

	// The methods that clients can call.
	Methods Methods `key:"methods"`

	// The Connect protocol (docs/reference/connect.md).
	Connect Connect `key:"connect"`

	// Addresses of proxies in front of culvert, such as "10.0.0.5", or networks.
	// culvert trusts their x-forwarded-for and similar headers, so each can claim
	// any client address, and removes those of all others. Clients on a unix socket
	// count as 127.0.0.1.
	TrustedProxies []netip.Prefix `key:"trusted_proxies"`

	// The header in which trusted proxies name the client: "x-forwarded-for", with
	// x-forwarded-proto and x-forwarded-host, or "forwarded" (RFC 7239). culvert
	// ignores the other one, which may be the client's.
	TrustedHeader string `key:"trusted_header" one:"x-forwarded-for,forwarded"`

	// Addresses or networks of proxies that start each connection with a PROXY
	// header, version 1 or 2. Only they must, and can, send it.
	ProxyProtocol []netip.Prefix `key:"proxy_protocol"`

	// Authentication of callers, and rules for their calls (docs/reference/auth.md).
	// Without this section, culvert authenticates nobody.
	Auth Auth `key:"auth"`

	// Sensitive metadata.
	Metadata Metadata `key:"metadata"`

	// How much clients learn of culvert's own errors. "concise": the reason, the
	// remedy and a call ID, under which the log has the rest. "detailed": also
	// addresses and causes, for development.
	Errors string `key:"errors" flag:"errors" one:"concise,detailed"`

	// Limits. Where a key accepts 0, it is no limit, unless its text says
	// otherwise. An error or a log line about a limit names its key.
	Limits Limits `key:"limits"`

	// Let clients test their network in detail (docs/reference/path.md), browsers by
	// a page at /_culvert/doctor.
	Doctor bool `key:"doctor" flag:"doctor"`

	// The implementation of HTTP/2: "culvert", or "standard" (Go's) while an attack
	// on culvert's own is known and not fixed (docs/guides/http2-server.md).
	HTTP2Server string `key:"http2_server" one:"culvert,standard" restart:"yes"`

	// How long culvert may take to end after SIGTERM or SIGINT: at least 2s less
	// than the supervisor's time-out (Kubernetes: 30s). Calls that still run end
	// with UNAVAILABLE.
	DrainTimeout time.Duration `key:"drain_timeout" flag:"drain-timeout"`

	// The last part of drain_timeout, in which the remaining calls end in random
	// order, evenly spread (docs/guides/health-and-signals.md#drain). Unless set, it
	// is at most half of drain_timeout.
	DrainSpread time.Duration `key:"drain_spread"`

	// Health checks.
	Health Health `key:"health"`

	// The address for operators.
	Admin Admin `key:"admin"`

	// The log, on standard error.
	Log Log `key:"log"`

	// The export of traces, metrics and the log by OTLP (docs/guides/otlp.md).
	OTLP OTLP `key:"otlp"`

	// Distributed traces (docs/guides/otlp.md#traces).
	Traces Traces `key:"traces"`
}

// Methods configures the methods that clients can call.
type Methods struct {
	// Patterns of the only methods that clients can call: "shop.v1.Orders/*",
	// "shop.v1.*/Get*". "*" matches any part of a name. Empty: all except those in
	// deny. Some services (docs/reference/metadata.md#methods-that-need-a-rule) need
	// a pattern here, which can be "*/*".
	Allow []string `key:"allow" flag:"allow-method" is:"method pattern"`

	// Patterns of methods that clients can't call. deny wins over allow.
	Deny []string `key:"deny" flag:"deny-method" is:"method pattern"`

	// With false, culvert only logs and counts calls that these patterns exclude,
	// except of services that it denies by default.
	Enforce bool `key:"enforce"`
}

// Connect configures the Connect protocol. culvert serves it with protobuf messages
// without configuration.
type Connect struct {
	// Messages in JSON, also of gRPC-Web. "convert": to protobuf and back, by the
	// backend's descriptors. "pass": unchanged, as application/grpc+json, which most
	// backends can't read.
	JSON string `key:"json" one:"convert,pass"`

	// Patterns of methods that clients can call by GET, besides those whose
	// descriptors say NO_SIDE_EFFECTS. They must have no side effects: browsers and
	// caches repeat a GET.
	Get []string `key:"get" is:"method pattern"`
}

// Metadata configures which sensitive metadata passes.
type Metadata struct {
	// Forward cookies from browsers to the backend.
	ForwardCookies bool `key:"forward_cookies"`

	// Forward set-cookie from the backend to browsers.
	ForwardSetCookies bool `key:"forward_set_cookies"`

	// Send the names in the client's verified certificate to the backend, in
	// x-forwarded-client-cert as Envoy writes it. This header also crosses from
	// trusted proxies, which must not accept it from their clients.
	ClientCertificate bool `key:"client_certificate"`

	// More metadata that only trusted proxies may set, besides that in
	// docs/reference/metadata.md: x-authenticated-user. Names that differ from these
	// only in "-" and "_" never cross.
	Vouched []string `key:"vouched" is:"metadata name"`
}

// Limits bounds messages, calls, connections, memory and times.
type Limits struct {
	// The largest message in each direction, before and after decompression.
	MessageBytes Size `key:"message_bytes"`

	// The metadata of one call in each direction. Each field counts as its name,
	// its value and 32 bytes. A reload can't raise it above its value at the
	// start.
	HeaderBytes Size `key:"header_bytes"`

	// Memory for the messages of all calls on their way. Unless set, it is at most
	// half of what limits.memory leaves for clients. When it is full, messages wait
	// for up to 10s; then their call ends
	// (docs/how-it-works/memory.md#when-memory-is-scarce).
	BufferedBytes Size `key:"buffered_bytes"`

	// Concurrent calls on one HTTP/2 connection, or in one tunnel (h2ts).
	CallsPerConnection int `key:"calls_per_connection" is:"count"`

	// Concurrent connections. 0: as many as the limit of open files allows.
	Connections int `key:"connections"`

	// Concurrent calls; 0 is no limit.
	Calls int `key:"calls"`

	// Calls that start in a second; 0 is no limit.
	CallsPerSecond int `key:"calls_per_second"`

	// TLS handshakes and, counted separately, WebSocket handshakes in a second; 0
	// is no limit.
	HandshakesPerSecond int `key:"handshakes_per_second"`

	// Concurrent requests to the web server in fallback, WebSockets included,
	// which don't count as calls; 0 is no limit.
	FallbackRequests int `key:"fallback_requests"`

	// Bytes that compressed requests may expand to in a second; 0 is no limit.
	// "auto" is 32MiB for each CPU (GOMAXPROCS at the start).
	DecompressedBytesPerSecond Size `key:"decompressed_bytes_per_second" is:"size, 0 or auto"`

	// Memory that culvert may use. 0: GOMEMLIMIT if the environment sets it, else
	// nine tenths of the container's limit, else no limit. Without GOMEMLIMIT, this
	// is also the limit of Go's garbage collector. 20MiB are for culvert itself;
	// clients may hold 65 % of the rest
	// (docs/how-it-works/memory.md#when-memory-is-scarce).
	Memory Size `key:"memory" is:"size or 0"`

	// Limits for each client address: an IPv4 address, or the first 64 bits of an
	// IPv6 address. Connections and TLS handshakes behind trusted_proxies count for
	// the proxy (docs/guides/limits.md#limits-by-scope). Many clients may share an
	// address. Here 0 is no limit of connections either. The "auto" of
	// decompressed_bytes_per_second is 16MiB for each CPU. A message may exceed what
	// is left of it, at the expense of the next ones.
	Address AddressLimits `key:"address" as:"limits"`

	// Limits for each identity that auth finds: a subject of one issuer and one
	// kind. They add to those of its addresses.
	Identity IdentityLimits `key:"identity" as:"limits"`

	// Limits for the calls of some methods together. The first entry that matches
	// applies.
	Methods []MethodLimits `key:"methods"`

	// With false, culvert only logs and counts calls, handshakes and connections
	// over a limit. limits.connections, limits.memory, sizes and times always apply.
	Enforce bool `key:"enforce"`

	// How long a client may read nothing while data waits for it, before culvert
	// ends the call; 0s is no limit.
	SlowConsumerTimeout time.Duration `key:"slow_consumer_timeout"`

	// The time without a message after which culvert ends a call, give or take a
	// tenth and 2s; 0s is no limit.
	IdleTimeout time.Duration `key:"idle_timeout"`

	// The age at which culvert ends a call, give or take a tenth and 2s; 0s is no
	// limit.
	MaxAge time.Duration `key:"max_age"`

	// How long a client may take for the next KiB, or for the end, of a message
	// that it has started, before culvert ends the call; 0s is no limit.
	SlowSenderTimeout time.Duration `key:"slow_sender_timeout"`

	// The time without a call after which culvert closes a connection, over HTTP/2
	// with a GOAWAY, give or take a tenth; 0s is no limit. While memory is scarce,
	// it closes earlier.
	ConnectionIdleTimeout time.Duration `key:"connection_idle_timeout"`

	// The age at which a connection takes no new calls, give or take a tenth; 0s is
	// no limit. It closes when its calls have ended.
	ConnectionMaxAge time.Duration `key:"connection_max_age"`
}

// Health configures health checks.
type Health struct {
	// The address of /livez, /readyz, /metrics and grpc.health.v1
	// (docs/guides/health-and-signals.md); "" or "off" for none. If it is taken,
	// culvert doesn't start; if the default is, it starts without, and warns.
	Listen string `key:"listen" flag:"health-listen" is:"optional address" restart:"yes"`

	// Names of backends, "default" for the section backend. /readyz answers 503
	// while one of them has no connection that takes calls.
	DependsOn []string `key:"depends_on" is:"backend name"`

	// Serve metrics for Prometheus at /metrics, with names of methods. With false,
	// culvert counts nothing.
	Metrics bool `key:"metrics" restart:"yes"`
}

// Log configures the log.
type Log struct {
	// The lowest level in the log. info: a line for each call; debug: details of
	// connections.
	Level string `key:"level" flag:"log-level" one:"debug,info,warn,error"`

	// The form of the log. "auto" is text on a terminal, and JSON elsewhere.
	Format string `key:"format" flag:"log-format" one:"auto,text,json" restart:"yes"`

	// Attributes to add to the lines of calls: host, user_agent, or metadata by
	// name, such as metadata.x-tenant, except secrets
	// (docs/reference/log.md#more-fields).
	Fields []string `key:"fields" is:"log field"`

	// Also write a line when a call begins, unless sample leaves out lines of its
	// method.
	Begin bool `key:"begin"`

	// Methods with too many calls for a line each
	// (docs/reference/log.md#fewer-lines-for-chatty-methods). The first entry that
	// matches applies.
	Sample []LogSample `key:"sample"`
}

// LogSample is a rule for the lines of calls to some methods.
type LogSample struct {
	// The methods: "shop.v1.Prices/*", "shop.v1.*/Get*".
	Pattern string `key:"pattern" is:"method pattern" needed:"true"`

	// Calls that succeed for each line: 100 logs the first and then each
	// hundredth; 1 logs all.
	OneIn int `key:"one_in" is:"count" needed:"true"`
}

// Defaults returns the configuration without file, variables and flags.
func Defaults() Config {
	tls, trustedHeader := ServerTLS{MinVersion: "1.2"}, "x-forwarded-for" // of the listener, too
	return Config{
		Listen:         []Listener{{Address: ":8080", TLS: ListenerTLS{ServerTLS: tls}, TrustedHeader: trustedHeader}},
		TLS:            TLS{ServerTLS: tls},
		EnforceOrigins: true,
		Methods:        Methods{Enforce: true},
		Connect:        Connect{JSON: "convert"},
		Errors:         "concise",
		TrustedHeader:  trustedHeader,
		Auth: Auth{
			Enforce: true, TokenExpiry: "close", APIKeys: AuthAPIKeys{Header: "x-api-key"},
			External:  AuthExternal{Timeout: rules.CheckTimeout, Concurrent: rules.CheckConcurrent, Bytes: rules.CheckBytes, Cache: AuthCache{Entries: rules.CheckEntries}},
			RateLimit: AuthRateLimit{Timeout: rules.RateLimitTimeout},
		},
		HTTP2Server: "culvert",
		Limits: Limits{
			MessageBytes:          rules.MessageBytes,
			HeaderBytes:           rules.HeaderBytes,
			BufferedBytes:         rules.BufferedBytes,
			CallsPerConnection:    rules.CallsPerConnection,
			SlowConsumerTimeout:   rules.SlowConsumerTimeout,
			SlowSenderTimeout:     rules.SlowSenderTimeout,
			ConnectionIdleTimeout: rules.ConnectionIdleTimeout,
			FallbackRequests:      rules.WebRequests,
			Enforce:               true,

			DecompressedBytesPerSecond: Auto,
			Address: AddressLimits{
				Connections:                rules.AddressConnections,
				Calls:                      rules.AddressCalls,
				CallsPerSecond:             rules.AddressCallsPerSecond,
				HandshakesPerSecond:        rules.AddressHandshakesPerSecond,
				FallbackRequests:           rules.AddressWebRequests,
				DecompressedBytesPerSecond: Auto,
			},
		},
		Backend:      Backend{Balance: rules.RoundRobin, MaxConnections: rules.MaxConnections, Limits: BackendLimits{WaitingCalls: rules.MaxWaiting}, QueueTimeout: rules.QueueTimeout, ResolveInterval: rules.ResolveInterval},
		DrainTimeout: 20 * time.Second,
		DrainSpread:  5 * time.Second,
		Health:       Health{Listen: "127.0.0.1:9901", Metrics: true},
		Admin:        Admin{Listen: "127.0.0.1:9902"},
		Log:          Log{Level: "info", Format: "auto"},
		OTLP:         OTLP{Protocol: "http/protobuf", Compression: "none", Timeout: 10 * time.Second, MetricsInterval: time.Minute, Service: "culvert"},
		Traces:       Traces{Ratio: 1},
	}
}
