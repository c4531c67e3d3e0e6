package config

import (
	"net/netip"
	"time"
)

// Config is the whole configuration. A field's tags say:
//
//   - key: its name in the file; in the environment CULVERT_ and the key's path
//     in upper case, "." as "_"
//   - flag: the flag of the same meaning, if there is one
//   - is: the row of the table of kinds, if the field's type doesn't say it
//   - one: the only words it can be
//   - short: what of an entry a single value stands for, in a list of structs
//   - needed: an entry without it is an error
//   - like: the key or section of the file whose values an entry has that
//     doesn't set its own; needs no default then
//   - unset: what holds where an entry doesn't set it, if that isn't its zero
//     value
//   - group: keys that belong together: an entry that sets one inherits none
//     of the others
//
// The comments of fields are text for the file's readers, not for Go's: they
// become the reference, the schema and the example by go generate.
type Config struct {
	// Where clients connect to, for every protocol: one address, or a list of
	// listeners with rules of their own. ":8080" is port 8080 of all
	// interfaces, "127.0.0.1:8080" this host alone, port 0 any free one,
	// "unix:/run/culvert.sock" a socket in the file system. On a loopback
	// address a request must name an IP address, localhost, one of hosts or a
	// name of a certificate.
	Listen []Listener `key:"listen" flag:"listen" short:"address"`

	// The certificates that clients are shown, and what they have to show.
	// Without any the port speaks plaintext.
	TLS TLS `key:"tls"`

	// The gRPC server that calls are carried to.
	Backend Backend `key:"backend"`

	// Origins of the pages that may call, besides those of hosts and of
	// culvert's own address: exact with scheme and port
	// ("https://app.example.com"), all names below one
	// ("https://*.example.com"), any port ("http://localhost:*"), "~" and a
	// regular expression for the whole origin, which begins with its scheme
	// ("~https://pr-[0-9]+\.example\.com"), "null" for sandboxed pages of
	// anybody, or "*" for every other page. Cookies pass only for origins that
	// are listed as they are and for hosts. Clients that are no browsers send
	// no origin and need none.
	AllowOrigins []string `key:"allow_origins" flag:"allow-origin" is:"origin"`

	// Refuse pages of other origins. With false they are only logged and
	// counted, and call without cookies: to find out what a stricter list
	// would refuse.
	EnforceOrigins bool `key:"enforce_origins"`

	// Names that this server is known by, with or without a port
	// ("grpc.example.com"): a page from such a host may call, a loopback
	// address answers to it, and tls.http_listen sends it to HTTPS. A name
	// without a port stands for pages of the scheme's own port (443 or 80) and
	// of the port in the request's Host. Behind a proxy that serves another
	// port and drops it from Host, name the port ("grpc.example.com:8443").
	Hosts []string `key:"hosts" flag:"host" is:"host"`

	// Removed from the front of a request's path before the method is read:
	// with "/grpc", "/grpc/pkg.Service/Method" calls "/pkg.Service/Method".
	PathPrefix string `key:"path_prefix" flag:"path-prefix" is:"path prefix"`

	// Which methods can be called.
	Methods Methods `key:"methods"`

	// Addresses or networks of the proxies in front of culvert ("10.0.0.0/8").
	// What they say about a client (x-forwarded-for and the like) is believed;
	// from anybody else it is removed. Whoever comes in on a unix socket counts
	// as 127.0.0.1.
	TrustedProxies []netip.Prefix `key:"trusted_proxies"`

	// Where trusted proxies say who their client is: "x-forwarded-for", with
	// x-forwarded-proto and x-forwarded-host beside it, or "forwarded" (RFC
	// 7239). The other isn't looked at: a proxy that sets one of them passes
	// on what its client says in the other.
	TrustedHeader string `key:"trusted_header" one:"x-forwarded-for,forwarded"`

	// Addresses or networks of the proxies that begin each connection with a
	// PROXY header (version 1 or 2): HAProxy's send-proxy, nginx's
	// proxy_protocol, a network load balancer. From these it is required, from
	// anybody else it is not understood.
	ProxyProtocol []netip.Prefix `key:"proxy_protocol"`

	// What crosses beside the messages.
	Metadata Metadata `key:"metadata"`

	// What a client is told of an error that culvert made: "concise" gives
	// reason, remedy and a call id that finds the rest in the log, "detailed"
	// adds addresses and causes. Detailed is for development.
	Errors string `key:"errors" flag:"errors" one:"concise,detailed"`

	// What is bounded. An error or a log line about a limit names its key.
	Limits Limits `key:"limits"`

	// Which implementation serves HTTP/2, also inside tunnels: "culvert" is its
	// own, "standard" that of Go's standard library. Change it to "standard" if
	// an attack on culvert's own becomes known, until a fixed version is there.
	// Calls then cost more CPU, and some limits don't hold (docs/guides/hardening.md).
	HTTP2Server string `key:"http2_server" one:"culvert,standard"`

	// How long calls may go on after TERM or INT, before they are ended with
	// UNAVAILABLE. Keep it below the time after which the supervisor kills
	// (Kubernetes: 30s).
	DrainTimeout time.Duration `key:"drain_timeout" flag:"drain-timeout"`

	// Answers for a supervisor.
	Health Health `key:"health"`

	// What is written to standard error.
	Log Log `key:"log"`
}

// Backend is the gRPC server behind culvert.
type Backend struct {
	// Where it is: "host:port", "dns:///host:port" or "unix:///path". All
	// addresses of a name take turns. "dns://192.0.2.53/host:port" asks that
	// name server. Needed to serve.
	Address string `key:"address" flag:"backend" is:"target"`

	// The name to call it by (the ":authority" of a call), if not that of the
	// address.
	Authority string `key:"authority" is:"host"`

	// TLS towards the backend. A CA, a certificate or a server name turns it
	// on by itself.
	TLS BackendTLS `key:"tls"`

	// How long a connection with calls on it may be quiet before an HTTP/2
	// ping checks it: 10s or more. Without an answer in 10s the connection is
	// closed and its calls end. With 0s culvert pings only a backend that it has
	// sent something to and heard nothing from for 10s, within what every gRPC
	// server tolerates. That is enough unless streams on which nothing is sent
	// must end, too, when a backend hangs. Set it only if the backend allows
	// it: an ordinary gRPC server closes connections that ping more often than
	// every 5m.
	Keepalive time.Duration `key:"keepalive"`

	// How many connections to open to each address of the backend; 0 is no
	// limit. culvert opens a second one when the first has as many calls as the
	// backend allows on a connection (MAX_CONCURRENT_STREAMS, often 100), and
	// closes it when the calls fit on fewer again.
	MaxConnections int `key:"max_connections"`

	// How long a call may wait while every connection has as many calls as the
	// backend allows. Calls are served in the order in which they came. 0s
	// refuses them at once.
	QueueTimeout time.Duration `key:"queue_timeout"`

	// How often culvert resolves the backend's name again. Without a connection
	// to the backend it resolves the name every second. If a lookup fails,
	// culvert keeps the addresses it has. 0s resolves only without a connection.
	ResolveInterval time.Duration `key:"resolve_interval" is:"seconds or 0"`

	// Go through the proxy that HTTPS_PROXY and NO_PROXY of the environment
	// name.
	UseProxy bool `key:"use_proxy"`
}

// BackendTLS is how the backend is authenticated, and culvert to it.
type BackendTLS struct {
	// Whether the backend speaks TLS.
	Enabled bool `key:"enabled" flag:"backend-tls"`

	// File with the certificates (PEM) of those who may have signed the
	// backend's. Empty: the system's. A relative path starts at the
	// directory of the file it stands in.
	CA string `key:"ca" flag:"backend-ca" is:"file"`

	// File with culvert's own certificate chain (PEM), if the backend asks
	// for one.
	Cert string `key:"cert" flag:"backend-cert" is:"file"`

	// File with the private key (PEM) of cert.
	Key string `key:"key" flag:"backend-key" is:"file"`

	// The name that the backend's certificate must have, if not that of the
	// address.
	ServerName string `key:"server_name" flag:"backend-server-name" is:"name"`
}

// Methods says which methods can be called.
type Methods struct {
	// Patterns of the only methods that can be called
	// ("shop.v1.Orders/*", "shop.v1.*/Get*"; "*" stands for any part of a
	// service's or a method's name). Empty: all but those denied. A pattern
	// here opens what is denied by default: channelz, binary logs and the
	// like, which tell about the inside of a server.
	Allow []string `key:"allow" flag:"allow-method" is:"method pattern"`

	// Patterns of methods that can't be called, whatever is allowed.
	Deny []string `key:"deny" flag:"deny-method" is:"method pattern"`

	// Refuse what these patterns refuse. With false it is only logged and
	// counted; what is denied by default stays denied.
	Enforce bool `key:"enforce"`
}

// Metadata says which of the fields that can do harm may cross.
type Metadata struct {
	// Pass a browser's cookies to the backend as metadata.
	ForwardCookies bool `key:"forward_cookies"`

	// Pass set-cookie from the backend to the browser.
	ForwardSetCookies bool `key:"forward_set_cookies"`

	// Tell the backend who a client is by its verified certificate, in
	// x-forwarded-client-cert as Envoy writes it. What a trusted proxy says
	// there passes, too; see that it doesn't come from the proxy's clients.
	ClientCertificate bool `key:"client_certificate"`

	// Further names that only a trusted proxy may set, besides those of
	// docs/reference/metadata.md: x-authenticated-user. What differs from one of them
	// only in "-" and "_" crosses from nobody.
	Vouched []string `key:"vouched" is:"metadata name"`
}

// Limits is what is bounded.
type Limits struct {
	// The largest message, each way, before and after decompression.
	MessageBytes Size `key:"message_bytes"`

	// The most metadata of one call, each way, counted as HTTP/2 does: name,
	// value and 32 bytes a field.
	HeaderBytes Size `key:"header_bytes"`

	// The most memory for messages under way, of all calls together. Unless it
	// is set, it is at most half of what memory leaves for clients. When it is
	// used up, messages wait: requests, replies that culvert expands, and replies
	// of more than three eighths of it for at most 10s. Meanwhile calls end at the
	// client address that holds most and more than its share, and calls that hold
	// memory and have moved nothing for 5s.
	BufferedBytes Size `key:"buffered_bytes"`

	// Calls at one time on one HTTP/2 connection, or in one tunnel (h2ts).
	CallsPerConnection int `key:"calls_per_connection" is:"count"`

	// Connections at one time; 0 is as many as the limit of open files
	// leaves room for.
	Connections int `key:"connections"`

	// Calls at one time, of all connections together; 0 is no limit.
	Calls int `key:"calls"`

	// Calls that begin in a second; 0 is no limit.
	CallsPerSecond int `key:"calls_per_second"`

	// WebSockets opened in a second and, counted apart from them, TLS
	// handshakes; 0 is no limit.
	HandshakesPerSecond int `key:"handshakes_per_second"`

	// Bytes that compressed requests expand to in a second; 0 is no limit,
	// "auto" is 32MiB for each CPU that culvert may use at its start
	// (GOMAXPROCS).
	DecompressedBytesPerSecond Size `key:"decompressed_bytes_per_second" is:"size, 0 or auto"`

	// The memory that culvert may use. 20MiB of it are for culvert itself;
	// clients may hold 65 % of the rest. When that is used up, calls, and
	// connections without a call, end at the address that holds most and more
	// than its share, and new calls and connections of such addresses are refused. Go's garbage collector
	// keeps below it, too (GOMEMLIMIT of the environment wins there). 0 is nine
	// tenths of the container's limit, and no limit where there is none.
	// docs/how-it-works/memory.md lists what isn't counted.
	Memory Size `key:"memory" is:"size or 0"`

	// What one client address may use. Sizes and calls_per_connection bound one
	// message, call or connection: for an address they are its listener's.
	Address AddressLimits `key:"address"`

	// What the calls of some methods may use, all of them together. The first
	// whose pattern matches counts.
	Methods []MethodLimits `key:"methods"`

	// Whether calls, handshakes and connections that are over a limit are
	// refused. false tries limits out: they are logged and counted, and pass.
	// connections, memory, sizes and times hold all the same, since they keep
	// culvert alive.
	Enforce bool `key:"enforce"`

	// How long a client may take nothing of what waits for it, before its
	// call is cut; 0s is no limit. A client that stops reading for less
	// than this goes on where it was.
	SlowConsumerTimeout time.Duration `key:"slow_consumer_timeout"`

	// How long a call may carry no message before it is ended; 0s is no
	// limit.
	IdleTimeout time.Duration `key:"idle_timeout"`

	// How long a call may last; 0s is no limit. Each call has up to a tenth
	// less or more than this and idle_timeout say, so that they don't all end,
	// and come back, at once.
	MaxAge time.Duration `key:"max_age"`

	// How long a client may take for the next KiB of a message that has begun,
	// or for its end, before its call is ended; 0s is no limit.
	SlowSenderTimeout time.Duration `key:"slow_sender_timeout"`

	// How long a connection may be without a call before it is ended, with a
	// goodbye (give or take a tenth); 0s is no limit. While others lack memory it
	// may end sooner, and without one.
	ConnectionIdleTimeout time.Duration `key:"connection_idle_timeout"`

	// After how long a connection takes no new calls (give or take a tenth).
	// Those that run may end; then it is closed, and its client comes back:
	// to whichever instance a balancer chooses. 0s is no limit.
	ConnectionMaxAge time.Duration `key:"connection_max_age"`
}

// Health is where a supervisor asks.
type Health struct {
	// The address of /livez and /readyz; "" or "off" for none. /readyz is 200
	// while new calls are taken. A default address that is taken is left off
	// with a warning; one that was set and is taken is an error.
	Listen string `key:"listen" flag:"health-listen" is:"optional address"`
}

// Log is what is written to standard error.
type Log struct {
	// The least that is written: info has one line a call, debug one
	// connection's story.
	Level string `key:"level" flag:"log-level" one:"debug,info,warn,error"`

	// How: "text" for people, "json" for machines; "auto" is text on a
	// terminal and JSON elsewhere.
	Format string `key:"format" flag:"log-format" one:"auto,text,json"`
}

// Defaults returns the configuration of a culvert that was told nothing.
func Defaults() Config {
	tls, trustedHeader := ServerTLS{MinVersion: "1.2"}, "x-forwarded-for" // of the listener, too
	return Config{
		Listen:         []Listener{{Address: ":8080", TLS: ListenerTLS{ServerTLS: tls}, TrustedHeader: trustedHeader}},
		TLS:            TLS{ServerTLS: tls},
		EnforceOrigins: true,
		Methods:        Methods{Enforce: true},
		Errors:         "concise",
		TrustedHeader:  trustedHeader,
		HTTP2Server:    "culvert",
		Limits: Limits{
			MessageBytes:          16 << 20,
			HeaderBytes:           64 << 10,
			BufferedBytes:         256 << 20,
			CallsPerConnection:    100,
			SlowConsumerTimeout:   5 * time.Minute,
			SlowSenderTimeout:     30 * time.Second,
			ConnectionIdleTimeout: time.Minute,
			Enforce:               true,

			DecompressedBytesPerSecond: Auto,
			Address: AddressLimits{
				Connections:                20_000,
				Calls:                      20_000,
				CallsPerSecond:             20_000,
				HandshakesPerSecond:        10_000,
				DecompressedBytesPerSecond: Auto,
			},
		},
		Backend:      Backend{MaxConnections: 64, QueueTimeout: 5 * time.Second, ResolveInterval: 30 * time.Second},
		DrainTimeout: 20 * time.Second,
		Health:       Health{Listen: "127.0.0.1:9901"},
		Log:          Log{Level: "info", Format: "auto"},
	}
}
