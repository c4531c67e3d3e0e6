package config

import (
	"strings"
	"time"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// NamedBackend is one of several backends.
type NamedBackend struct {
	// The name in routes, health.depends_on and the log.
	Name string `key:"name" is:"backend name" needed:"true"`

	Backend `same:"backend"`
}

// DefaultBackend is the name of the backend that the section backend configures.
const DefaultBackend = rules.DefaultBackend

// Backend configures the connection to the gRPC server behind culvert.
type Backend struct {
	// The address:
	//
	//   - "host:port" or "dns:///host:port": all addresses of the name in turn.
	//   - "dns://192.0.2.53/host:port": the same, from that name server.
	//   - "unix:///path": a unix socket.
	Address string `key:"address" flag:"backend" is:"target" needed:"true"`

	// The ":authority" of calls to the backend. Default: from backend.address.
	Authority string `key:"authority" is:"host"`

	// TLS to the backend. ca, cert, key and server_name each turn it on.
	TLS BackendTLS `key:"tls"`

	// The silence of a connection with calls after which culvert sends an HTTP/2
	// ping: 8s or more. Without an answer within 10s, the connection and its calls
	// end. With 0s, culvert pings only if it has sent something and heard nothing
	// for 10s: quiet streams outlast a hanging backend. An ordinary gRPC server
	// closes connections that ping more often than every 5m (GOAWAY with
	// ENHANCE_YOUR_CALM).
	Keepalive time.Duration `key:"keepalive"`

	// How culvert distributes calls over the addresses of the backend:
	//
	//   - round_robin: to each address in turn.
	//   - least_request: to the one of two random addresses with fewer open
	//     calls, for long or unequal calls.
	//   - pick_first: to the first address that works, in numerical order, IPv4
	//     first. Calls wait if it is full.
	Balance string `key:"balance" words:"balances"`

	// Health checks of the backend's addresses.
	HealthCheck HealthCheck `key:"health_check"`

	// Connections to each address of the backend; 0 is no limit. culvert opens
	// another one when all have as many calls as the backend allows
	// (MAX_CONCURRENT_STREAMS, often 100).
	MaxConnections int `key:"max_connections"`

	// How long a call may wait while every connection is full. 0s refuses it at
	// once.
	QueueTimeout time.Duration `key:"queue_timeout"`

	// Limits of this backend.
	Limits BackendLimits `key:"limits"`

	// How often culvert resolves the backend's name again, every second without a
	// connection; 0s: never. If a lookup fails, the addresses stay.
	ResolveInterval time.Duration `key:"resolve_interval" is:"seconds or 0"`

	// Connect through the proxy in HTTPS_PROXY and NO_PROXY of the environment.
	UseProxy bool `key:"use_proxy"`

	// Descriptors of the backend's methods, for messages in JSON
	// (docs/reference/connect.md#json). Empty: by server reflection.
	Descriptors string `key:"descriptors" flag:"backend-descriptors" is:"file"`
}

// BackendLimits are the limits of one backend.
type BackendLimits struct {
	// Concurrent calls; 0 is no limit. A further call ends at once with
	// UNAVAILABLE (OVERLOADED), unless its route splits calls and another backend
	// has room. limits.enforce doesn't apply.
	Calls int `key:"calls"`

	// How many calls may wait for a connection or a place on one; 0 is no limit.
	// A further call ends at once with UNAVAILABLE (OVERLOADED).
	WaitingCalls int `key:"waiting_calls"`
}

// HealthCheck configures the health checks of a backend.
type HealthCheck struct {
	// Ask the backend for its health on each connection (Watch of grpc.health.v1).
	// An address that isn't SERVING, or doesn't answer within 5s, gets no new calls
	// until it has been SERVING for 1s. A backend without this service counts as
	// healthy. The check is a stream, so keepalive also pings connections without
	// calls.
	Enabled bool `key:"enabled"`

	// The name of the service to ask for. Default: the server as a whole.
	Service string `key:"service" is:"word"`
}

// BackendTLS configures how culvert verifies the backend, and the backend
// culvert.
type BackendTLS struct {
	// Use TLS to the backend.
	Enabled bool `key:"enabled" flag:"backend-tls"`

	// CA certificates (PEM) for verifying the backend. Default: the system's CAs.
	CA string `key:"ca" flag:"backend-ca" is:"file"`

	// culvert's own certificate chain (PEM), for a backend that verifies clients.
	Cert string `key:"cert" flag:"backend-cert" is:"file"`

	// The private key (PEM) of cert.
	Key string `key:"key" flag:"backend-key" is:"file"`

	// The name in the backend's certificate. Default: from backend.address.
	ServerName string `key:"server_name" flag:"backend-server-name" is:"name"`
}

// A BackendSection is a section that configures a backend.
type BackendSection struct {
	Section string // for IsSet and Errorf: "backend", "backends[1]"
	Name    string
	*Backend
}

// BackendSections returns the sections of all backends: the entries of backends, or
// backend.
func (c *Config) BackendSections() []BackendSection {
	if len(c.Backends) == 0 {
		return []BackendSection{{"backend", DefaultBackend, &c.Backend}}
	}
	all := make([]BackendSection, len(c.Backends))
	for i := range c.Backends {
		b := &c.Backends[i]
		all[i] = BackendSection{Entry("backends", i), b.Name, &b.Backend}
	}
	return all
}

// inEntry writes the path of a key as it stands in an entry: "tls: {ca: …}".
func inEntry(path string) string {
	section, rest, nested := strings.Cut(path, ".")
	if nested {
		return section + ": {" + inEntry(rest) + "}"
	}
	return path + ": …"
}
