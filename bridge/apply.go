package bridge

import (
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A RestartError lists what a Server can't change while it runs.
type RestartError struct {
	Keys []string // of the configuration file, sorted
}

func (e *RestartError) Error() string {
	return "a change of " + strings.Join(e.Keys, ", ") + " needs a restart"
}

// Apply has the requests that arrive from now on judged by cfg: its origins,
// hosts, methods, sizes, limits of calls, and what it says of headers, cookies and
// errors. Connections that are accepted from now on take its limits of connections
// and handshakes. Calls and connections under way end on what they began with. What
// they count goes on counting, but where there was no limit before.
//
// If Apply returns an error, nothing has changed. It is a *RestartError if cfg
// differs in something else that a configuration file says. Apply doesn't look
// at what only a program can set: Logger, Observer, Authenticator, Fallback,
// MemorySpent, MemoryGone, and the TLS, CurrentTLS and Dial of the Backend.
//
// Apply may be called at any time, and by several goroutines.
func (s *Server) Apply(cfg Config) error {
	if keys := restartKeys(&s.cfg, &cfg); len(keys) > 0 {
		return &RestartError{keys}
	}
	s.applying.Lock()
	defer s.applying.Unlock()
	p, err := s.newPolicy(&cfg, s.policy.Load())
	if err != nil {
		return err
	}
	s.policy.Store(p)
	return nil
}

// restartKeys returns the keys of what differs and can't change.
func restartKeys(a, b *Config) []string {
	var keys []string
	differs := func(key string, yes bool) {
		if yes {
			keys = append(keys, key)
		}
	}
	was, is := &a.Backend, &b.Backend
	differs("backend.address", was.Target != is.Target)
	differs("backend.authority", was.Authority != is.Authority)
	differs("backend.keepalive", was.Keepalive != is.Keepalive)
	differs(report.KeyMaxConnections, was.MaxConnections != is.MaxConnections)
	differs(report.KeyQueueTimeout, was.QueueTimeout != is.QueueTimeout)
	differs("backend.resolve_interval", was.ResolveInterval != is.ResolveInterval)
	differs("backend.use_proxy", was.UseEnvProxy != is.UseEnvProxy)
	differs("http2_server", a.StandardHTTP2 != b.StandardHTTP2)
	differs("listen", a.LoopbackOnly != b.LoopbackOnly)
	differs(report.KeyTrustedProxies, !slices.Equal(a.TrustedProxies, b.TrustedProxies))

	// What is set up with a listener, or shared by all calls.
	old, now := a.Limits.withDefaults(), b.Limits.withDefaults()
	differs(report.KeyHeaderBytes, old.HeaderBytes != now.HeaderBytes)
	differs(report.KeyBufferedBytes, old.BufferedBytes != now.BufferedBytes)
	differs("limits.calls_per_connection", old.CallsPerConnection != now.CallsPerConnection)
	differs(report.KeySlowConsumer, old.SlowConsumerTimeout != now.SlowConsumerTimeout)
	differs("limits.connection_idle_timeout", old.ConnectionIdleTimeout != now.ConnectionIdleTimeout)
	differs("limits.connection_max_age", old.ConnectionMaxAge != now.ConnectionMaxAge)
	slices.Sort(keys)
	return keys
}
