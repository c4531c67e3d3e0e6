package report

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc/codes"
)

// A Backend describes where calls go.
type Backend struct {
	// Target is "host:port", "dns:///host:port", "unix:///path", or any other
	// target that grpc-go resolves.
	Target string

	// TLS is the configuration for connections to the backend. If nil, they are
	// plaintext.
	TLS *tls.Config

	// TLSSource replaces TLS if it isn't nil: it is asked for each connection, so that
	// certificates can change while other connections last.
	TLSSource TLSSource

	// Authority replaces the :authority that the backend sees. If empty, it
	// is the target's.
	Authority string

	// PathPrefix stands before the path of each method: "/grpc". If empty, nothing does.
	PathPrefix string

	// Keepalive is how long a connection with calls on it may be quiet before culvert
	// sends an HTTP/2 ping; less than 10 s counts as 10 s. A grpc server whose
	// settings don't allow these pings answers with GOAWAY. If zero, culvert pings a
	// backend only if something was sent to it and nothing came for 10 s, as rarely
	// as every server allows.
	Keepalive time.Duration

	// PingTimeout is how long the backend may take to answer a ping. If zero, 10 s.
	PingTimeout time.Duration

	// Balance is how calls are distributed over the backend's addresses, named like
	// grpc-go's policies:
	//
	//   - "round_robin", or empty: to each address in turn.
	//   - "least_request": to the one of two random addresses with fewer open calls.
	//   - "pick_first": to the first address that works. The addresses of a name are in
	//     numerical order, IPv4 first.
	Balance string

	// HealthCheck asks each connection whether the backend serves. If it is zero, every
	// connection counts as healthy.
	HealthCheck HealthCheck

	// MaxConnections bounds the connections to each address of the backend. A
	// second one is opened when the first has as many calls as the backend
	// allows on a connection. If zero, 64; if negative, there is no bound.
	MaxConnections int

	// QueueTimeout is how long a call may wait while every connection has as many
	// calls as the backend allows. If zero, 5 s; if negative, it doesn't wait.
	QueueTimeout time.Duration

	// ConnectTimeout is how long a call waits for a connection, also while attempts to
	// connect fail, and the least that an attempt may take. If zero, it is 5 s, and the
	// first failure ends the wait.
	ConnectTimeout time.Duration

	// MaxWaiting bounds the calls that wait for a connection or for a place on one. A
	// further call ends at once. If zero, 10,000; if negative, there is no bound.
	MaxWaiting int

	// ResolveInterval is how often a name is resolved again. If zero, 30 s; if
	// negative, only when there is no connection. It isn't used with Dial or
	// UseEnvProxy and for targets other than names.
	ResolveInterval time.Duration

	// UseEnvProxy honours HTTPS_PROXY and NO_PROXY.
	UseEnvProxy bool

	// Descriptors has the descriptors of the backend's methods. If nil, culvert asks
	// the backend by server reflection when a call needs them.
	Descriptors DescriptorSource

	// Logger logs the health of addresses. If nil, nothing is logged.
	Logger *slog.Logger

	// Dial opens a connection. If nil it is TCP or a unix socket, with TCP
	// keep-alive and a bound on unacknowledged bytes. A connection that has the
	// ConnectionState method of a tls.Conn is secure already: culvert begins no TLS on it. If
	// it has a method Pings() bool that returns false, Keepalive doesn't apply to it. If it has
	// a method Companion() func(context.Context, grpc.ClientConnInterface) that doesn't return
	// nil, culvert calls that function when the connection takes calls. It can make calls on
	// this connection alone, and must return when the context ends: no further call can
	// begin then. One place of several is kept free for it.
	Dial func(ctx context.Context, address string) (net.Conn, error)

	// Waiting is called when a call begins to wait for a connection, or for a place on one. It
	// must not wait. It may be nil.
	Waiting func()
}

// A HealthCheck says whether culvert asks the backend's connections for their health,
// by grpc.health.v1's Watch. A connection that isn't SERVING gets no new calls.
// https://github.com/grpc/grpc/blob/master/doc/health-checking.md
type HealthCheck struct {
	Enabled bool
	Service string // the name to ask for; empty: the server as a whole
}

// A TLSSource has the configuration for the next connection to a backend. Its methods
// are called concurrently.
type TLSSource interface{ Config() *tls.Config }

// A Retry says when a call is sent again: after one of the codes, as long as no header
// and no message of an answer has arrived. gRFC A6.
type Retry struct {
	Attempts   int           // in all
	Codes      []codes.Code  // of a status in the backend's trailers, or of culvert's own about the connection
	Backoff    time.Duration // before the second attempt, ±20 %; it doubles with each further one. If zero, 100 ms
	MaxBackoff time.Duration // the longest backoff. If zero, 1 s
}

// A DescriptorSource has the descriptors of a backend's methods. It is asked for each
// call that needs them, so that a file can change while the backend stays.
type DescriptorSource interface{ Descriptors() Descriptors }

// Descriptors are those of methods, as bridge.ParseDescriptors returns them. Of other
// implementations culvert takes none.
type Descriptors interface {
	Services() []string // full names
}
