package bridge

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/h2"
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/opamp"
	"github.com/culvert-grpc/culvert/bridge/internal/path"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/internal/tasks"
	"github.com/culvert-grpc/culvert/bridge/internal/tunnel"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Server bridges clients to backends. It is an http.Handler. ServeListener and Serve
// run it on listeners, and ConfigureHTTP prepares an http.Server for it.
type Server struct {
	cfg    Config
	log    *slog.Logger
	obs    report.Observer
	policy atomic.Pointer[policy] // judges requests

	applying  sync.Mutex          // held while the policy is replaced
	listeners []*edge.Listening   // that ServeListener serves
	awaited   map[string]Listener // rules from Apply for listeners that aren't served yet
	backends  map[string]Backend  // that the upstreams were made of
	methods   methodCounts        // shared by all policies
	routes    routeCounts         // shared by all policies

	upstreams     *upstream.Set
	account       *memory.Account
	registry      *registry
	panics        *report.Panics
	timerPanicked func(v any) // notes a panic of a WebSocket's timer

	droppedValues atomic.Int64 // of metadata
	refusals      *report.Refusals
	edge          *edge.Edge // its clients' connections

	refusing       atomic.Bool             // no call begins any more
	draining       atomic.Bool             // nor any connection
	closing        atomic.Bool             // and nobody is waited for any more
	leaving        leaving                 // sends the goodbyes of HTTP/2
	goodbyeArrived func() <-chan time.Time // when such a goodbye has reached most clients; a test's own
	random         func() float64          // from 0 to less than 1; a test's own
	quotas         *quota.Limiter          // its counts are those of all policies

	tunnels *tunnel.Listener // the listener of the HTTP/2 inside of WebSockets
	loop    string           // tells that a request for the web server has come back
	polls   *opamp.Table     // the agents that poll
	sockets tasks.Group      // calls and tunnels on WebSockets, and of polls' sessions, which outlive their HTTP handlers; and heart-beats
	workers sync.WaitGroup   // that serves the tunnels
	path    *path.Service    // that culvert answers itself
}

// New returns a Server. The backends needn't be up yet: until one is, its calls end
// UNAVAILABLE. Close or Shutdown ends what New started.
func New(cfg Config) (*Server, error) {
	limits := withDefaults(cfg.Limits)
	s := &Server{cfg: cfg, goodbyeArrived: afterGoodbye, random: rand.Float64}
	log, obs := cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)), cmp.Or(cfg.Observer, report.Discard())
	s.panics = report.NewPanics(log)
	s.timerPanicked = func(v any) { _ = s.panics.Note("a WebSocket's timer", v) }
	s.cfg.Words = s.panics.GuardWords(cfg.Words)
	s.log, s.obs = s.cfg.Words.Log(s.panics.GuardLog(log)), s.panics.Guard(obs)
	s.upstreams = upstream.NewSet()
	s.refusals = report.NewRefusals(s.log, s.obs)
	s.methods, s.routes = make(methodCounts), make(routeCounts)
	s.quotas = quota.New(quota.Shared(&limits), limits.Address, cfg.TryLimits, s.refusals)
	p, err := s.newPolicy(&cfg, nil)
	if err != nil {
		return nil, err
	}
	s.policy.Store(p)
	s.cfg.Routes = nil // the policy has them
	s.cfg.Limits = limits
	s.account = memory.New(limits.BufferedBytes, cfg.Memory)
	s.edge = s.newEdge()
	change, err := s.changeBackends(&cfg, &p.limits)
	if err != nil {
		return nil, err
	}
	s.backends = change.to
	s.path = path.New(path.Options{Log: s.log, Panics: s.panics, Words: s.cfg.Words, Account: s.account, HeaderBytes: limits.HeaderBytes})
	s.loop = newID()
	s.registry = newRegistry(s.account, s.panics, s.edge.Idle)
	s.registry.blocked.configured = func(k routeKey) bool { return s.policy.Load().has(k) }
	s.serveTunnels()
	s.polls = opamp.NewTable(opamp.DefaultOptions(s.panics, func() int { return s.policy.Load().limits.Connections }, report.KeyConnections))
	return s, nil
}

// MethodAllowed reports whether calls of the method ("/package.Service/Method")
// cross.
func (s *Server) MethodAllowed(method string) bool {
	rt := &s.policy.Load().router
	return rt.policy.Allows(method) || rt.tries(method)
}

// ConfigureHTTP sets what an http.Server needs to serve this handler: the protocols,
// windows that let no call stop another on its connection, pings, and bounds on
// headers. It sets Handler only if that is nil: a caller's mux stays, and may mount the
// Server below a path with http.StripPrefix. It wraps ConnContext and ConnState if they
// are set. ReadTimeout and WriteTimeout stay unchanged and apply to the caller's own
// handlers: calls and WebSockets outlive them.
//
// HTTP/2 connections take their limits from the Server, whatever hs says, so new ones
// get those of Apply. HTTP/1.1 keeps the idle time that hs gets here.
func (s *Server) ConfigureHTTP(hs *http.Server) {
	if leave := s.configureHTTP(hs, s.edge.Own()).Leave; leave != nil {
		s.leaving.mu.Lock()
		defer s.leaving.mu.Unlock()
		s.leaving.all = append(s.leaving.all, leave)
	}
}

func (s *Server) configureHTTP(hs *http.Server, l *edge.Listening) *edge.Server {
	hs.Protocols = new(http.Protocols)
	hs.Protocols.SetHTTP1(true)
	hs.Protocols.SetHTTP2(true)
	hs.Protocols.SetUnencryptedHTTP2(true)
	bound := s.boundHTTP(hs, l, pingInterval)
	hs.HTTP2.WriteByteTimeout = s.policy.Load().limits.SlowConsumerTimeout // bridge/internal/h2 has a hook
	return bound
}

// A Listener has the rules of one address that a Server listens on.
type Listener = report.Listener

// ListenConfig returns a configuration with which an accepted connection costs few
// system calls.
func ListenConfig() *net.ListenConfig { return edge.ListenConfig() }

// newEdge returns the connections of the server's clients.
func (s *Server) newEdge() *edge.Edge {
	return edge.New(edge.Options{
		Log: s.log, Observer: s.obs, Refusals: s.refusals, Panics: s.panics, Words: s.cfg.Words,
		Own: Listener{TrustedProxies: s.cfg.TrustedProxies, LoopbackOnly: s.cfg.LoopbackOnly},
		Bounds: func(l *edge.Listening) edge.Bounds {
			p := s.policy.Load()
			return edge.Bounds{
				Quotas: p.quotas, Connections: p.limits.Connections, Listener: p.listening(l),
				Idle: p.limits.ConnectionIdleTimeout, MaxAge: p.limits.ConnectionMaxAge, SlowConsumerTimeout: p.limits.SlowConsumerTimeout,
			}
		},
		Memory:        s.account,
		Leaving:       func() bool { return s.refusing.Load() || s.draining.Load() },
		Draining:      s.draining.Load,
		StandardHTTP2: s.cfg.StandardHTTP2,
	})
}

// Serve is ServeListener with Config's settings of trust and loopback. For TLS, the
// listener may be one of crypto/tls whose configuration offers "h2" and "http/1.1".
func (s *Server) Serve(ln net.Listener) error { return s.serve(ln, s.edge.Own()) }

// ServeListener accepts connections until Shutdown or Close, then returns
// http.ErrServerClosed. It may run for several listeners at once.
//
// Apply needn't wait until ServeListener has begun: Apply keeps the rules of a name that
// isn't served yet, and they replace those of the next l with the name. If TLS differs,
// ServeListener closes ln and returns a *RestartError. The connections of a listener that
// has ended keep its last rules.
func (s *Server) ServeListener(ln net.Listener, l Listener) error {
	listening := edge.NewListening(l)
	if err := s.beginListener(listening); err != nil {
		_ = ln.Close() // nobody will serve it
		return err
	}
	defer s.endListener(listening)
	return s.serve(ln, listening)
}

// beginListener notes for Apply that a listener is being served. The listener takes the
// rules that Apply has kept for it.
func (s *Server) beginListener(l *edge.Listening) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	if rules, ok := s.awaited[l.Name]; ok {
		if rules.TLS != l.TLS {
			return &RestartError{[]string{keyListenTLS}}
		}
		l.CallsPerConnection = rules.CallsPerConnection // it hasn't begun: see fixedOfListener, which compares with it
		delete(s.awaited, l.Name)
		p := *s.policy.Load()
		p.listenings = maps.Clone(p.listenings)
		p.listenings[l] = l.With(rules)
		s.policy.Store(&p)
	}
	s.listeners = append(s.listeners, l)
	return nil
}

// endListener notes for Apply that a listener is no longer served.
func (s *Server) endListener(l *edge.Listening) {
	s.applying.Lock()
	defer s.applying.Unlock()
	s.listeners = slices.DeleteFunc(s.listeners, func(other *edge.Listening) bool { return other == l })
}

func (s *Server) serve(ln net.Listener, l *edge.Listening) error {
	return s.edge.Serve(ln, l, s.configureHTTP(&http.Server{}, l)) //nolint:gosec // it sets the time-outs
}

// LeaveDescriptors wraps a listener of the program's own, such as one for health
// checks. It may use half of the file descriptors that clients' connections leave;
// beyond that it closes new connections.
func (s *Server) LeaveDescriptors(ln net.Listener) net.Listener { return s.edge.LeaveDescriptors(ln) }

// Problems returns the current problems, a line each, that don't keep the server from
// serving its clients.
func (s *Server) Problems() []string { return s.edge.Problems() }

// connReceiveWindow is HTTP/2's receive window of one stream.
const connReceiveWindow = 64 << 10

// boundHTTP sets the bounds that the public server and the one inside tunnels share, and
// watches the server. An http.Server can't change while it serves. So Apply refuses what
// would have to change here and not in the hooks of connections (fixed).
func (s *Server) boundHTTP(hs *http.Server, l *edge.Listening, pingAfter time.Duration) *edge.Server {
	if hs.Handler == nil {
		hs.Handler = s
	}
	rules := s.policy.Load().connRules(l)
	hs.ReadHeaderTimeout = edge.HandshakeTimeout
	hs.IdleTimeout = cmp.Or(rules.Idle, rules.Age) // an HTTP/1.1 connection has no goodbye that an idle client would see
	hs.MaxHeaderBytes = looseHeaderBytes(s.cfg.Limits.HeaderBytes)
	hs.DisableGeneralOptionsHandler = true
	hs.ErrorLog = newHTTPLog(s)
	hs.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams:          rules.Streams,
		MaxReceiveBufferPerStream:     connReceiveWindow,
		MaxReceiveBufferPerConnection: rules.Window,
		SendPingTimeout:               pingAfter,
		PingTimeout:                   pingTimeout,
	}
	var leave func()
	if !s.cfg.StandardHTTP2 { // that has no hooks and no goodbyes: docs/guides/http2-server.md lists what is lost
		leave = h2.Configure(hs, s.h2Hooks())
	}
	watched := s.edge.Watch(hs, l)
	watched.Leave = leave
	return watched
}

// Close ends everything at once: calls, client connections and backend connections. It
// waits until all have ended.
func (s *Server) Close() error {
	s.refusing.Store(true)
	s.draining.Store(true)
	s.closing.Store(true)
	s.registry.cancelAll(errDraining)
	for _, hs := range s.edge.TakeServers() {
		_ = hs.Close() // only listeners' errors, of no use now
	}
	s.tunnels.CloseConns()
	s.polls.Close(errDraining)
	s.sockets.Stop()
	s.edge.CutLingering()
	s.registry.stopRelief()
	_ = s.registry.wait(context.Background()) // no error without a deadline
	s.workers.Wait()
	if p := s.policy.Load(); p.fallback != nil {
		p.fallback.Close()
	}
	s.upstreams.Close()
	s.path.Close()
	return nil
}
