package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/files"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/keys"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/logs"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/telemetry"
)

var errNoBackend = errors.New("backend.address is missing: set it to the gRPC server, with --backend host:port, CULVERT_BACKEND_ADDRESS or backend.address in the file, or list several in backends")

// documents is the address of culvert's documentation.
const documents = "https://github.com/culvert-grpc/culvert/tree/main/docs"

func newServeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve --backend host:port",
		Short: "Serve clients in front of a gRPC server",
		Long: `serve takes gRPC, gRPC-Web, Connect and gRPC over WebSocket on one port and sends
each call to the backend. The backend may start after culvert.

On SIGTERM or SIGINT, culvert drains, and ends within the time in
--drain-timeout. Running calls may continue meanwhile. A second signal ends culvert at once; the same signal
within a second of the first doesn't count. culvert reloads its configuration
file and certificates when they change, and on SIGHUP. On SIGHUP, it also retries
failed ACME orders.

A supervisor such as systemd can pass listening sockets (LISTEN_FDS). culvert then
listens on these sockets, and clients can connect while culvert restarts.

Keys of the configuration have variables: backend.address is
CULVERT_BACKEND_ADDRESS. A flag wins over a variable, and a variable over the
file. CULVERT_CONFIG names the file. "culvert config defaults" prints all keys.

By default, the number of CPUs (GOMAXPROCS) limits how many bytes culvert
decompresses in a second. culvert logs the limit when it starts.

Documentation: ` + documents,
		Example: `  culvert serve --backend localhost:9000
  culvert serve --backend localhost:9000 --listen 127.0.0.1:8080 --allow-origin https://app.example.com
  culvert serve --backend orders.example.com:443 --backend-tls --deny-method 'admin.v1.*/*'
  culvert serve --config proxy.yaml`,
		Args: noArguments,
	}
	s := addSettings(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		// First, so that Go's own handling gets no signal.
		signals := make(chan os.Signal, 8) // room for a few signals while culvert handles one
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		defer signal.Stop(signals)
		// The end of the process that reads the log must not end culvert.
		signal.Ignore(syscall.SIGPIPE)
		loaded, err := s.load()
		if err != nil {
			return err
		}
		if lacksBackend(loaded) {
			return &misuse{errNoBackend}
		}
		block, stopCollector := setCollector()
		defer stopCollector()
		log := logs.Open(cmd.ErrOrStderr(), loaded.Log)
		p := &program{config: loaded, again: s.loadAgain, log: log.Logger, calls: log.Calls, logs: log, out: cmd.OutOrStdout(), memory: newMemoryLimit(block)}
		defer func() { err = p.closeLog(err) }()
		defer p.memory.remove()
		for _, w := range loaded.Warnings {
			log.Warn("configuration", "warning", w)
		}
		p.memory.set(p.log, p.memory.find(loaded.Limits.Memory))
		opened, err := p.unlessEnded(signals, func() error { return p.open(cmd.Context()) })
		if !opened {
			return err
		}
		return p.run(cmd.Context(), signals)
	}
	return cmd
}

// lacksBackend reports whether there is no backend. An entry of backends has an address.
func lacksBackend(c *config.Loaded) bool { return len(c.Backends) == 0 && c.Backend.Address == "" }

// A program is a running serve.
type program struct {
	config *config.Loaded                 // at the start, compact when open returns; reloads has the current one
	again  func() (*config.Loaded, error) // loads it again
	log    *slog.Logger
	calls  *slog.Logger // for the lines of single calls
	out    io.Writer    // for people
	logs   *logs.Log    // of log and calls: their level, the dropped lines, the end
	memory memoryLimit
	ends   time.Time // by when culvert must have ended; zero: it doesn't drain

	told         *telemetry.Log // writes the lines of calls
	reloads      *reloader
	announcer    *announcer
	releaser     *releaser
	keys         *keys.Ring
	described    *files.Descriptors
	bridge       *bridge.Server
	passed       sockets.Passed      // sockets of the supervisor, by the key of their address
	listeners    []net.Listener      // of each of listen, in its order
	policies     []bridge.Listener   // of each of listeners
	certificates []*keys.ListenerTLS // of each of listeners; nil: plaintext

	redirectListener net.Listener // nil: off

	metrics        *telemetry.Metrics // nil: off
	health         admin.Health
	healthListener net.Listener // nil: off
	adminListener  net.Listener // nil: off
	draining       admin.Drain  // on request of an operator
}

// openingPatience limits how long culvert waits at its end for an open that
// still runs. Without the wait, a unix socket could remain.
const openingPatience = time.Second

// unlessEnded handles signals while open runs, because a name server or a
// file system that doesn't respond must not keep culvert from ending. opened is
// false if there is nothing to run.
func (p *program) unlessEnded(signals <-chan os.Signal, open func() error) (opened bool, err error) {
	opening := make(chan error, 1)    // so that open never waits for the receiver
	go func() { opening <- open() }() // received below, or the process ends
	for {
		select {
		case err := <-opening:
			return err == nil, err
		case s := <-signals:
			if s == syscall.SIGHUP { // open reads everything anyway
				continue
			}
			p.log.Info("stopped before culvert served clients", "signal", s.String())
			select {
			case err := <-opening:
				if err == nil {
					p.close()
				}
			case <-time.After(openingPatience): // the end of the process closes the rest
			}
			return false, nil
		}
	}
}

// open binds the addresses and reads the certificates, so that all errors
// occur before culvert reports that it is ready.
func (p *program) open(ctx context.Context) error {
	cfg := wiring.Bridge(p.config)
	cfg.Logger = p.log
	p.told = telemetry.NewLog(p.calls)
	p.told.SetSamples(wiring.Samples(p.config.Log))
	p.releaser = newReleaser(func() int64 { return usedByClients(p.bridge) }, mappedMemory, releaseMemory, p.log)
	cfg.Observer = connWatcher{p.told, p.releaser}
	later := laterWarnings(p.config) // here, because a file system may hang
	for _, w := range later {
		p.log.Warn("configuration", "warning", w)
	}
	err := p.openKeys(&cfg, p.openMetrics(&cfg, p.told)) //nolint:contextcheck // no context ends the reading of files
	if err != nil {
		return err
	}
	if err := p.bind(ctx); err != nil {
		return err
	}
	for i, ln := range p.listeners {
		l := &p.policies[i]
		l.LoopbackOnly = sockets.IsLoopback(ln.Addr())
		if l.TLS != nil || !l.LoopbackOnly { // else only the names in hosts count, which wiring.Warnings knows
			l.Serves = p.keys.Serves
		}
	}
	boundMemory(&cfg, p.memory.bytes, p.config)
	p.memory.warn(p.log, &cfg)
	wiring.LogLimits(p.log, cfg.Limits)
	p.bridge, err = wiring.New(cfg, p.config)
	if err == nil {
		err = p.openHealth(ctx)
	}
	if err == nil {
		err = p.openRedirect(ctx)
	}
	if err == nil {
		err = p.openAdmin(ctx) // after all others, because a taken default is no error here
	}
	if err != nil {
		p.close() //nolint:contextcheck // nothing runs yet that a context could end
		return err
	}
	p.keys.StartFetching(ctx)
	p.announcer = newAnnouncer(p.config, p.bridge.Services, p.log)
	p.openReloads(ctx)
	p.reloads.later = later
	p.watchMetrics()
	p.config = p.config.Compact() // a running program keeps no other
	return nil
}

// openKeys reads the certificates and descriptors, and sets the policy of each listener.
func (p *program) openKeys(cfg *bridge.Config, obs keys.Observer) (err error) {
	if p.described, err = files.OpenDescriptors(p.config, p.log); err != nil {
		return err
	}
	p.described.Describe(cfg.Backends, p.config)
	if p.keys, err = keys.Open(p.config, p.log, obs, p.out); err != nil {
		return err
	}
	p.health.SetDetail(func() []string {
		return slices.Concat(p.reloads.problems(), p.keys.Problems(), p.described.Problems(), p.bridge.Problems())
	})
	p.health.SetBackends(p.backends)
	p.keys.Secure(cfg.Backends)
	for i := range p.config.Listen {
		certificates, err := p.keys.Listener(p.config, i)
		if err != nil {
			p.keys.Close(keys.Patience)
			return err
		}
		policy := wiring.Listener(p.config, i)
		if certificates != nil {
			policy.TLS, policy.SamePolicy = certificates.Config, certificates.SamePolicy
		}
		p.certificates = append(p.certificates, certificates)
		p.policies = append(p.policies, policy)
	}
	return nil
}

// openHealth ignores a default address that is taken, so that a second culvert
// can run on a machine. An address that the operator set must be free.
func (p *program) openHealth(ctx context.Context) error {
	address := p.config.Health.Listen
	if address == "" {
		return nil
	}
	var err error
	p.healthListener, err = p.passed.Listen(ctx, healthKey, address)
	switch {
	case err == nil:
		return nil
	case p.config.IsSet("health.listen"):
		return p.config.Errorf("health.listen", "%w: %s, or turn it off with --health-listen off", err, sockets.Remedy(err, "--health-listen"))
	}
	p.log.Warn("no health checks: the default address is taken", "address", address, "hint", "set --health-listen (health.listen)")
	return nil
}

// close releases the resources of open if run isn't called.
func (p *program) close() {
	p.keys.Close(keys.Patience)
	for _, ln := range append(p.listeners, p.healthListener, p.redirectListener, p.adminListener) {
		if ln != nil {
			_ = ln.Close() // the error that counts is the one that led here
		}
	}
	if p.bridge != nil {
		_ = p.bridge.Close()
	}
}

// run serves until a signal or an error of a listener. It waits for every
// goroutine that it starts, except after a second signal and for a file system that
// doesn't answer.
func (p *program) run(ctx context.Context, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	defer func() {
		p.keys.Close(patienceUntil(p.ends, keys.Patience, minPatience), p.reloads.wait, p.described.Wait)
	}()
	p.reloads.start(ctx)
	p.described.Start(ctx)
	defer cancel() // before the wait for both

	p.health.SetReady(true)                        // the ports are bound; the log line "listening" must not come before
	failed := make(chan error, len(p.listeners)+3) // one place for each server, so that none blocks
	for i, ln := range p.listeners {
		l := p.policies[i]
		running.Go(func() { failed <- serveError(config.Entry("listen", i), p.bridge.ServeListener(ln, l)) })
		p.log.Info("listening", slices.Concat([]any{"address", ln.Addr().String()}, aboutBackends(p.config), []any{"tls", l.TLS != nil}, aboutListener(l))...)
	}
	if p.redirectListener != nil {
		server := p.redirectServer()
		running.Go(func() { failed <- serveError("tls.http_listen", server.Serve(p.redirectListener)) })
		defer func() { _ = server.Close() }() // the answers are short: no need to wait
		p.log.Info("redirecting to HTTPS", "address", p.redirectListener.Addr().String())
	}
	if p.healthListener != nil {
		var unforgeable func(host string) bool
		if sockets.IsLoopback(p.healthListener.Addr()) {
			unforgeable = bridge.Unforgeable
		}
		server := p.health.Server(p.log, unforgeable)
		running.Go(func() {
			failed <- serveError("health.listen", server.Serve(p.bridge.LeaveDescriptors(p.healthListener)))
		})
		defer func() { // Watches learn of the end; other answers are short
			told, stop := context.WithTimeout(context.WithoutCancel(ctx), minPatience)
			defer stop()
			_ = server.Shutdown(told)
			_ = server.Close()
		}()
		p.log.Info("answering health checks", "address", p.healthListener.Addr().String())
	}
	if p.adminListener != nil {
		server := p.control().Server()
		running.Go(func() {
			failed <- serveError("admin.listen", server.Serve(p.bridge.LeaveDescriptors(p.adminListener)))
		})
		defer p.draining.Stop()
		defer func() { _ = server.Close() }() // culvert ends: no need to wait for a profile
		p.log.Info("serving the admin address", "address", sockets.AddressOf(p.adminListener.Addr()))
	}
	running.Go(func() { p.releaser.run(ctx) })
	p.notify(ctx, "READY=1")
	running.Go(func() { p.announcer.run(ctx) })
	if interval := watchdogInterval(); interval > 0 && os.Getenv("NOTIFY_SOCKET") != "" {
		running.Go(func() { p.watchdog(ctx, interval) })
	}

	for {
		select {
		case err := <-failed:
			_ = p.bridge.Close() //nolint:contextcheck // it waits for nobody; the error that counts is the one that led here
			return err
		case s := <-signals:
			if s == syscall.SIGHUP {
				p.reloads.request()
				continue
			}
			return p.drain(ctx, s, signals)
		}
	}
}

// aboutBackends returns what the log tells of the backends.
func aboutBackends(c *config.Loaded) []any {
	if len(c.Backends) == 0 {
		return []any{"backend", c.Backend.Address, "tls_to_backend", c.Backend.TLS.Enabled}
	}
	names := make([]string, len(c.Backends))
	for i, b := range c.Backends {
		names[i] = b.Name
	}
	return []any{"backends", strings.Join(names, " ")}
}

// serveError returns an error if a server ended by itself.
func serveError(key string, err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("%s: %w", key, err)
}

// echoTime is the time in which the signal that began the drain may come again
// without ending culvert: timeout(1) and terminals signal the process and its
// group.
const echoTime = time.Second

// exitTime is the part of drain_timeout that is left when the bridge has ended, or less.
// culvert then waits for clients that watch its health, for files, and for the log: up to
// minPatience for each, if it doesn't respond.
const (
	exitTime    = 3 * minPatience
	minPatience = 100 * time.Millisecond
)

// lastLog is how long the end of culvert waits for the log, unless a drain leaves less.
const lastLog = time.Second

// patienceUntil returns how long to wait for something that may never happen: at most
// longest, and no longer than until end, if it isn't zero, with what is left for others. It
// is at least minPatience.
func patienceUntil(end time.Time, longest, others time.Duration) time.Duration {
	if end.IsZero() {
		return longest
	}
	return max(min(longest, time.Until(end)-others), minPatience).Round(time.Millisecond)
}

// closeLog waits for a short time until the log is written, and returns err. If that is
// the reason of the end, it writes it after the lines of the log, because main would block
// if nothing reads the log.
func (p *program) closeLog(err error) error {
	var m *misuse
	if err != nil && !errors.As(err, &m) {
		p.logs.Last(errorText(err))
		err = &reported{err}
	}
	p.logs.Close(patienceUntil(p.ends, lastLog, 0))
	return err
}

// drain lets running calls end. A second signal cuts them without goodbyes.
func (p *program) drain(ctx context.Context, first os.Signal, signals <-chan os.Signal) error {
	p.health.SetReady(false)
	for key, ln := range map[string]net.Listener{healthKey: p.healthListener, adminKey: p.adminListener, redirectKey: p.redirectListener} {
		if p.passed[key] != nil {
			_ = ln.Close() // the next culvert answers, as on the other sockets
		}
	}
	p.notify(ctx, "STOPPING=1")
	timeout := p.reloads.current().DrainTimeout
	p.log.Info("draining: culvert asks clients to connect elsewhere", "signal", first.String(), "drain_timeout", timeout.String())
	began := time.Now()
	limit, cancel := context.WithDeadline(ctx, began.Add(timeout-min(exitTime, timeout/2)))
	defer cancel()
	p.ends = began.Add(timeout)
	done := make(chan error)
	go func() { done <- p.bridge.Shutdown(limit) }() // received below, or the process ends
	for {
		select {
		case err := <-done:
			p.log.Info("stopped")
			return err
		case s := <-signals:
			if s == syscall.SIGHUP || s == first && time.Since(began) < echoTime {
				continue
			}
			p.logCut(s)
			_ = p.closeLog(nil)
			os.Exit(exitFailed)
		}
	}
}

// logCut logs how many calls a second signal cuts.
func (p *program) logCut(second os.Signal) {
	if n := p.bridge.RunningCalls(); n > 0 {
		p.log.Warn("stopped at once: culvert cut running calls", "signal", second.String(), "calls", n)
		return
	}
	p.log.Info("stopped at once", "signal", second.String())
}

func (p *program) notify(ctx context.Context, state string) {
	if err := notify(ctx, state); err != nil {
		p.log.Warn("can't notify systemd", "state", state, "cause", err.Error())
	}
}
