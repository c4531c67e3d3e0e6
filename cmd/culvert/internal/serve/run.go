package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/keys"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
	"github.com/culvert-grpc/culvert/config"
	proxytls "github.com/culvert-grpc/culvert/tls"
)

// run serves until a signal or an error of a listener. It waits for every
// goroutine that it starts, except after a second signal and for a file system that
// doesn't answer.
func (p *program) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	defer p.closeExports() //nolint:contextcheck // no context ends it: spans and lines wait
	defer p.auth.close()   //nolint:contextcheck // it waits for fetches that it ends
	defer func() {
		p.keys.Close(patienceUntil(p.ends, keys.Patience, minPatience), p.reloads.wait, p.described.Wait, p.auth.Wait, p.token.Wait)
	}()
	p.reloads.start(ctx)
	p.described.Start(ctx)
	p.auth.Start(ctx)
	p.token.Start(ctx)
	defer cancel() // before the wait for both

	p.health.SetReady(true) // the ports are bound; the log line "listening" must not come before
	servers := p.servers()
	failed := make(chan error, len(servers)) // one place for each, so that none blocks
	for _, s := range servers {
		running.Go(func() { failed <- serveError(s.key, s.serve()) })
		defer s.end(ctx)
		p.log.Info(s.says, s.about...) //nolint:sloglint // the messages of servers are constants
	}
	running.Go(func() { p.observers.releaser.run(ctx) })
	notify(ctx, p.log.Logger, "READY=1")
	running.Go(func() { p.announcer.run(ctx) })
	if interval := watchdogInterval(); interval > 0 && os.Getenv("NOTIFY_SOCKET") != "" {
		running.Go(func() { watchdog(ctx, p.log.Logger, interval, p.look) })
	}

	for {
		select {
		case err := <-failed:
			_ = p.bridge.Close() //nolint:contextcheck // it waits for nobody; the error that counts is the one that led here
			return err
		case s := <-p.Signals:
			if s == syscall.SIGHUP {
				p.reloads.request()
				continue
			}
			return p.drain(ctx, s)
		}
	}
}

// A server answers at an address.
type server struct {
	key   string // of the address
	says  string // in the log, when it begins
	about []any
	serve func() error              // returns after end, too
	end   func(ctx context.Context) // at the end of the program
}

// servers returns those of all ports. At the end of the program, the last one ends first.
func (p *program) servers() (all []server) {
	for i, l := range p.ports.public {
		all = append(all, server{
			key:   config.Entry("listen", i),
			says:  "listening",
			about: slices.Concat([]any{"address", l.Addr().String()}, aboutBackends(p.Config), []any{"tls", l.rules.TLS != nil}, aboutListener(l.rules)),
			serve: func() error { return p.bridge.ServeListener(l.Listener, l.rules) },
			end:   func(context.Context) {}, // the bridge's
		})
	}
	if ln := p.ports.redirect; ln != nil {
		s := proxytls.RedirectServer(p.keys.AnswerCA(proxytls.RedirectHandler(p.httpsPort(), p.isServed)), p.log.Logger)
		all = append(all, server{
			key:   redirectKey,
			says:  "redirecting to HTTPS",
			about: []any{"address", ln.Addr().String()},
			serve: func() error { return s.Serve(sockets.Newest(p.bridge.LeaveDescriptors(ln), maxRedirected)) },
			end:   func(context.Context) { _ = s.Close() }, // the answers are short: no need to wait
		})
	}
	if ln := p.ports.health; ln != nil {
		var unforgeable func(host string) bool
		if sockets.IsLoopback(ln.Addr()) {
			unforgeable = bridge.Unforgeable
		}
		s := p.health.Server(p.log.Logger, unforgeable)
		all = append(all, server{
			key:   healthKey,
			says:  "answering health checks",
			about: []any{"address", ln.Addr().String()},
			serve: func() error { return s.Serve(p.bridge.LeaveDescriptors(ln)) },
			end: func(ctx context.Context) { // Watches learn of the end; other answers are short
				told, stop := context.WithTimeout(context.WithoutCancel(ctx), minPatience)
				defer stop()
				_ = s.Shutdown(told)
				_ = s.Close()
			},
		})
	}
	if ln := p.ports.admin; ln != nil {
		s := p.control().Server()
		all = append(all, server{
			key:   adminKey,
			says:  "serving the admin address",
			about: p.aboutAdmin(ln),
			serve: func() error { return s.Serve(p.adminListener(ln)) },
			end: func(context.Context) {
				_ = s.Close() // culvert ends: no need to wait for a profile
				p.draining.Stop()
			},
		})
	}
	return all
}

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

// aboutListener returns the log attributes of a listener with a name or with
// selected protocols.
func aboutListener(l bridge.Listener) (attrs []any) {
	if l.Name != "" {
		attrs = append(attrs, "listener", l.Name)
	}
	if len(l.Transports) > 0 {
		attrs = append(attrs, "transports", strings.Join(l.Transports, " "))
	}
	return attrs
}

// serveError returns an error if a server ended by itself.
func serveError(key string, err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("%s: %w", key, err)
}
