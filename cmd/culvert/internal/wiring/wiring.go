// Package wiring is where the configuration meets the bridge: it converts the one to the
// other, and gives errors of the bridge their places in the configuration.
package wiring

import (
	"errors"
	"log/slog"
	"runtime"
	"time"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/internal/rules"
	"github.com/culvert-grpc/culvert/telemetry"
)

// Bridge converts the configuration to the bridge's. serve adds Logger, Observer and the parts with certificates.
func Bridge(c *config.Loaded) bridge.Config {
	return bridge.Config{
		Words:             rules.InFile,
		Backends:          backends(c),
		Routes:            routes(c),
		AllowOrigins:      c.AllowOrigins,
		Hosts:             c.Hosts,
		TryOrigins:        !c.EnforceOrigins,
		AllowMethods:      c.Methods.Allow,
		DenyMethods:       c.Methods.Deny,
		TryMethods:        !c.Methods.Enforce,
		TryAuthenticator:  !c.Auth.Enforce,
		AuthCookies:       authCookies(c),
		BearerSubprotocol: c.Auth.BearerSubprotocol,
		PathPrefix:        c.PathPrefix,
		PassConnectJSON:   c.Connect.JSON == "pass",
		ConnectGet:        c.Connect.Get,
		FallbackURL:       c.Fallback,
		VouchedHeaders:    c.Metadata.Vouched,
		ForwardCookies:    c.Metadata.ForwardCookies,
		ForwardSetCookies: c.Metadata.ForwardSetCookies,
		ForwardClientCert: c.Metadata.ClientCertificate,
		DetailedErrors:    c.Errors == "detailed",
		DrainSpread:       c.Spread(),
		Limits: bridge.Limits{
			MessageBytes:        int(c.Limits.MessageBytes),
			HeaderBytes:         int(c.Limits.HeaderBytes),
			BufferedBytes:       int64(c.Limits.BufferedBytes),
			CallsPerConnection:  c.Limits.CallsPerConnection,
			Connections:         c.Limits.Connections, // 0 is by descriptors on both sides
			Calls:               orNone(c.Limits.Calls),
			CallsPerSecond:      orNone(c.Limits.CallsPerSecond),
			HandshakesPerSecond: orNone(c.Limits.HandshakesPerSecond),
			SlowConsumerTimeout: orNone(c.Limits.SlowConsumerTimeout),
			IdleTimeout:         orNone(c.Limits.IdleTimeout),
			MaxAge:              orNone(c.Limits.MaxAge),

			SlowSenderTimeout:     orNone(c.Limits.SlowSenderTimeout),
			ConnectionIdleTimeout: orNone(c.Limits.ConnectionIdleTimeout),
			ConnectionMaxAge:      orNone(c.Limits.ConnectionMaxAge),

			WebRequests:           orNone(c.Limits.FallbackRequests),
			DecompressedPerSecond: byCPU(c.Limits.DecompressedBytesPerSecond),
			Identity:              bridge.Quota{Calls: orNone(c.Limits.Identity.Calls), CallsPerSecond: orNone(c.Limits.Identity.CallsPerSecond)},
			Address: bridge.Quota{
				Connections:           orNone(c.Limits.Address.Connections),
				Calls:                 orNone(c.Limits.Address.Calls),
				CallsPerSecond:        orNone(c.Limits.Address.CallsPerSecond),
				HandshakesPerSecond:   orNone(c.Limits.Address.HandshakesPerSecond),
				WebRequests:           orNone(c.Limits.Address.FallbackRequests),
				DecompressedPerSecond: byCPU(c.Limits.Address.DecompressedBytesPerSecond),
			},
		},
		MethodLimits: methodLimits(c.Limits.Methods),
		TryLimits:    !c.Limits.Enforce,

		StandardHTTP2: c.HTTP2Server == "standard",
		Doctor:        c.Doctor,
	}
}

// backends converts the backends to the bridge's, without their certificates.
func backends(c *config.Loaded) []bridge.NamedBackend {
	var all []bridge.NamedBackend
	for _, b := range c.BackendSections() {
		all = append(all, bridge.NamedBackend{Name: b.Name, MaxCalls: b.Limits.Calls, Backend: bridge.Backend{
			Target:      b.Address,
			Authority:   b.Authority,
			Keepalive:   b.Keepalive,
			UseEnvProxy: b.UseProxy,
			Balance:     b.Balance,
			HealthCheck: bridge.HealthCheck(b.HealthCheck),

			MaxConnections:  orNone(b.MaxConnections),
			QueueTimeout:    orNone(b.QueueTimeout),
			MaxWaiting:      orNone(b.Limits.WaitingCalls),
			ResolveInterval: orNone(b.ResolveInterval),
		}})
	}
	return all
}

// ErrNoBackend is why nobody can be served by a configuration that lacks a backend.
var ErrNoBackend = errors.New("backend.address is missing: set it to the gRPC server, with --backend host:port, CULVERT_BACKEND_ADDRESS or backend.address in the file, or list several in backends")

// LacksBackend reports whether there is no backend. An entry of backends has an address.
func LacksBackend(c *config.Loaded) bool { return len(c.Backends) == 0 && c.Backend.Address == "" }

// New creates the bridge, and adds the source of a key to its errors.
func New(cfg bridge.Config, c *config.Loaded) (*bridge.Server, error) {
	s, err := bridge.New(cfg)
	return s, Placed(err, c, c)
}

// Placed adds the source of the key to an error of the bridge about its value, or about
// a change from the configuration of the start that needs a restart. Usually
// config.NeedsRestart has found those before.
func Placed(err error, start, c *config.Loaded) error {
	var restart *bridge.RestartError
	var about *report.OriginError
	var route *report.RouteMistake
	switch {
	case errors.As(err, &restart):
		return needRestart(start, c, restart.Keys)
	case errors.As(err, &route):
		return routeErrors(err, c)
	case errors.As(err, &about):
		return c.Errorf("allow_origins", "%w", err)
	}
	return err
}

// Listener converts listen[i] to the bridge's. serve adds LoopbackOnly,
// because it knows the bound address.
func Listener(c *config.Loaded, i int) bridge.Listener {
	l := c.Listen[i]
	return bridge.Listener{
		Name:           c.ListenerNames()[i],
		TrustedProxies: l.TrustedProxies,
		Transports:     l.Transports,
		Forwarded:      l.TrustedHeader == "forwarded",
		ProxyProtocol:  l.ProxyProtocol,
		Limits: bridge.Quota{
			Connections:         l.Limits.Connections,
			Calls:               l.Limits.Calls,
			CallsPerSecond:      l.Limits.CallsPerSecond,
			HandshakesPerSecond: l.Limits.HandshakesPerSecond,

			DecompressedPerSecond: int(l.Limits.DecompressedBytesPerSecond),
		},
		MessageBytes:       int(l.Limits.MessageBytes),
		HeaderBytes:        int(l.Limits.HeaderBytes),
		CallsPerConnection: l.Limits.CallsPerConnection,
	}
}

func methodLimits(list []config.MethodLimits) []bridge.MethodQuota {
	var quotas []bridge.MethodQuota
	for _, m := range list {
		quotas = append(quotas, bridge.MethodQuota{
			Pattern:        m.Pattern,
			MessageBytes:   int(m.MessageBytes),
			HeaderBytes:    int(m.HeaderBytes),
			Calls:          m.Calls,
			CallsPerSecond: m.CallsPerSecond,

			DecompressedPerSecond: int(m.DecompressedBytesPerSecond),
		})
	}
	return quotas
}

// Samples returns the rules for the lines of calls.
func Samples(c config.Log) []telemetry.Sample {
	var samples []telemetry.Sample
	for _, s := range c.Sample {
		samples = append(samples, telemetry.Sample{Pattern: s.Pattern, OneIn: s.OneIn})
	}
	return samples
}

// LogFields returns the fields for the lines of calls.
func LogFields(c config.Log) telemetry.Fields {
	fields, err := telemetry.ParseFields(c.Fields)
	if err != nil {
		panic("BUG: the configuration accepted " + err.Error())
	}
	return fields
}

// MeasuredRoutes returns the routes whose calls have metrics of their own.
func MeasuredRoutes(c *config.Loaded) []telemetry.Route {
	var all []string
	for _, b := range c.BackendSections() {
		all = append(all, b.Name)
	}
	routes := make([]telemetry.Route, 1, 1+len(c.Routes)) // the first: calls without a route
	if len(c.Routes) == 0 {
		routes[0].Backends = all
	}
	for i := range c.Routes {
		r := telemetry.Route{Name: c.Routes[i].Name}
		if name := c.Routes[i].Backend; name != "" {
			r.Backends = append(r.Backends, name)
		}
		for _, t := range c.Routes[i].Split {
			r.Backends = append(r.Backends, t.Backend)
		}
		routes = append(routes, r)
	}
	return routes
}

// byCPU is orNone for a rate whose default the bridge derives from the number
// of CPUs.
func byCPU(rate config.Size) int {
	if rate == config.Auto {
		return 0
	}
	return orNone(int(rate))
}

// LogLimits logs the rates that the bridge derived, because no file has
// their values.
func LogLimits(log *slog.Logger, l bridge.Limits) {
	byDefault := bridge.DefaultLimits()
	for _, rate := range []struct {
		key            string
		set, byDefault int
	}{
		{"limits.decompressed_bytes_per_second", l.DecompressedPerSecond, byDefault.DecompressedPerSecond},
		{"limits.address.decompressed_bytes_per_second", l.Address.DecompressedPerSecond, byDefault.Address.DecompressedPerSecond},
	} {
		if rate.set == 0 {
			log.Info("decompression is limited by the number of CPUs", slog.String("key", rate.key), slog.String("limit", config.Size(rate.byDefault).String()), slog.Int("cpus", runtime.GOMAXPROCS(0)))
		}
	}
}

// orNone converts "no limit": 0 in the file is negative in the bridge, where
// zero is the default.
func orNone[T int | time.Duration](v T) T {
	if v == 0 {
		return -1
	}
	return v
}
