package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// Time-outs of both servers. The API server gives a webhook 5 s by our
// configuration, and 30 s at most.
const (
	headerTimeout  = 5 * time.Second
	requestTimeout = 10 * time.Second
	answerTimeout  = 30 * time.Second
	// The API server closes an idle connection after 90 s. A longer time-out here
	// means that it never writes to a connection that is just being closed.
	idleTimeout = 3 * time.Minute
	// lastRequests is for requests that are under way when the listener has closed.
	lastRequests   = 10 * time.Second
	maxHeaderBytes = 32 << 10
	// Requests that wait for memory may fill their buffers. With less for the connection,
	// they would keep bodies from arriving for which there is memory.
	maxStreams  = 100
	streamBytes = 64 << 10 // HTTP/2 has no less at the beginning
)

// Options are the options of a [Server].
type Options struct {
	Listen       string // the address for the API server (HTTPS)
	HealthListen string // the address for kubelet and Prometheus (HTTP)

	Config *inject.Config

	// Certificate returns the serving certificate, with its Leaf. It is called for
	// each handshake, concurrently. An error means that there is none yet: the
	// handshake fails and the server isn't ready.
	Certificate func() (*tls.Certificate, error)

	// ClientCA returns the CA certificates for verifying the API server, which must
	// then present a certificate. Nil: every client is served.
	ClientCA func() (*x509.CertPool, error)

	// DrainDelay is how long the server still serves after it has become unready.
	// Endpoints and API servers need that time to go elsewhere.
	DrainDelay time.Duration

	Log     *slog.Logger
	Version string // for the metrics
}

// A Server is the webhook's HTTPS server, and the listener for its health.
type Server struct {
	options  Options
	metrics  *metrics
	draining atomic.Bool
	main     part
	health   part
}

// A part is one of the two servers.
type part struct {
	server      http.Server
	listener    net.Listener
	connections connections
}

// Listen opens both addresses.
func Listen(ctx context.Context, o Options) (*Server, error) {
	s := &Server{options: o, metrics: newMetrics(o.Version, o.Certificate)}
	h := newHandler(o.Config, o.Log, s.metrics)
	s.main.server.Handler = h.paths()
	s.health.server.Handler = s.healthPaths()
	for _, p := range []*part{&s.main, &s.health} {
		p.server.ReadHeaderTimeout = headerTimeout
		p.server.ReadTimeout = requestTimeout
		p.server.WriteTimeout = answerTimeout
		p.server.IdleTimeout = idleTimeout
		p.server.MaxHeaderBytes = maxHeaderBytes
		p.connections.waiting = map[net.Conn]time.Time{}
		p.server.ConnState = p.connections.changed
		p.server.ErrorLog = slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn)
	}
	var err error
	var config net.ListenConfig
	if s.main.listener, err = config.Listen(ctx, "tcp", o.Listen); err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	if s.health.listener, err = config.Listen(ctx, "tcp", o.HealthListen); err != nil {
		_ = s.main.listener.Close() // nothing has come over it
		return nil, fmt.Errorf("--health-listen: %w", err)
	}
	s.main.server.TLSConfig = s.tlsConfig()
	s.main.server.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams:          maxStreams,
		MaxReceiveBufferPerStream:     streamBytes,
		MaxReceiveBufferPerConnection: maxStreams * streamBytes,
	}
	return s, nil
}

// tlsConfig returns a configuration that asks for certificates at each handshake.
func (s *Server) tlsConfig() *tls.Config {
	shared := tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		// A resumed session would keep the certificates of its beginning.
		SessionTicketsDisabled: true,
	}
	all := shared.Clone()
	all.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		certificate, err := s.options.Certificate()
		if err != nil {
			return nil, err
		}
		c := shared.Clone()
		c.Certificates = []tls.Certificate{*certificate}
		if s.options.ClientCA != nil {
			if c.ClientCAs, err = s.options.ClientCA(); err != nil {
				return nil, fmt.Errorf("no CA certificates for clients: %w", err)
			}
			c.ClientAuth = tls.RequireAndVerifyClientCert
		}
		return c, nil
	}
	return all
}

// Addr returns the address for the API server.
func (s *Server) Addr() net.Addr { return s.main.listener.Addr() }

// HealthAddr returns the address for kubelet and Prometheus.
func (s *Server) HealthAddr() net.Addr { return s.health.listener.Addr() }

// Run serves until the context ends. Then it becomes unready, serves for the drain
// delay, waits for the requests under way, and returns nil. It returns earlier with
// an error if a listener fails.
func (s *Server) Run(ctx context.Context) error {
	failed := make(chan error, 2) // one for each listener, so that none has to wait
	var running sync.WaitGroup
	running.Go(func() { failed <- s.main.server.ServeTLS(s.main.listener, "", "") })
	running.Go(func() { failed <- s.health.server.Serve(s.health.listener) })
	s.options.Log.Info("serving", slog.String("address", s.Addr().String()), slog.String("health", s.HealthAddr().String()))

	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		err = s.drain(context.WithoutCancel(ctx), failed)
	}
	_ = s.main.server.Close() // what Shutdown has left
	_ = s.health.server.Close()
	running.Wait()
	return err
}

// drain ends the server without a refused connection.
func (s *Server) drain(ctx context.Context, failed <-chan error) error {
	s.draining.Store(true)
	s.options.Log.Info("draining", slog.String("delay", s.options.DrainDelay.String()))
	delay := time.NewTimer(s.options.DrainDelay)
	defer delay.Stop()
	select {
	case err := <-failed:
		return err
	case <-delay.C:
	}
	ctx, cancel := context.WithTimeout(ctx, lastRequests)
	defer cancel()
	// HTTP/2 clients are told to open a new connection, which goes to another replica.
	if err := s.main.server.Shutdown(ctx); err != nil {
		return fmt.Errorf("requests were still running when the injector ended: %w", err)
	}
	s.options.Log.Info("ended")
	return nil
}
