package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
)

// Where the demo listens unless told otherwise.
const (
	defaultListen  = "127.0.0.1:8080"
	defaultBackend = "127.0.0.1:9000"
)

// drainTimeout is how long running calls may go on after the demo was told to
// end: a conversation in a browser has no end of its own.
const drainTimeout = time.Second

// Config is what the demo is told.
type Config struct {
	// NewBridge makes the culvert that stands before the service.
	NewBridge func(BridgeConfig) (Bridge, error)

	// Listen is the address of the page; of the backend, for RunBackend. If
	// empty, 127.0.0.1:8080 or 127.0.0.1:9000. A taken port is replaced by a
	// free one, but not for RunBackend, whose clients have to know it.
	Listen string

	Out     io.Writer // what a person reads
	Colour  bool      // Out shows ANSI colours
	Version string    // culvert's
}

// BridgeConfig is what the demo wants of culvert: the fields of bridge.Config
// by these names, and whom to tell what happened.
type BridgeConfig struct {
	Backend      string // address, plaintext
	AllowOrigins []string
	LoopbackOnly bool
	Fallback     http.Handler

	// Both are called concurrently.
	CallEnded func(Call)
	Refused   func(Refusal)
}

// Bridge is culvert as the demo uses it; a *bridge.Server is one.
type Bridge interface {
	Serve(ln net.Listener) error
	Shutdown(ctx context.Context) error
}

// Run serves the demo until the context ends. An error is one of listening or
// serving; the end of the context is none.
func Run(ctx context.Context, cfg Config) error {
	term := newTerminal(cfg.Out, cfg.Colour)
	tell := BridgeConfig{CallEnded: term.call, Refused: term.refused}
	return withStage(ctx, cfg, tell, NewServer(), func(ctx context.Context, s *stage) error {
		term.welcome(s)
		<-ctx.Done()
		term.goodbye()
		return nil
	})
}

// RunBackend serves the example service alone until the context ends.
func RunBackend(ctx context.Context, cfg Config) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", cmp.Or(cfg.Listen, defaultBackend))
	if err != nil {
		return fmt.Errorf("%w (choose another port with --listen)", err)
	}
	newTerminal(cfg.Out, cfg.Colour).welcomeBackend(ln.Addr())
	server := NewServer()
	defer context.AfterFunc(ctx, server.Stop)()
	return server.Serve(ln)
}

// A stage is all that the demo runs: the backend, culvert before it and the
// inspecting proxy before that.
type stage struct {
	backend   *grpc.Server
	culvert   Bridge
	inspector *inspector

	backendListener, pageListener, proxyListener net.Listener

	replaced []string // what to say about ports that were taken
}

// withStage builds the stage, serves it while use runs, and takes it down.
func withStage(ctx context.Context, cfg Config, tell BridgeConfig, backend *grpc.Server, use func(context.Context, *stage) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s, err := newStage(ctx, cfg, tell, backend)
	if err != nil {
		return err
	}
	var serving sync.WaitGroup
	var failed error
	var once sync.Once
	serve := func(what string, serve func(net.Listener) error, ln net.Listener) {
		if err := serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
			once.Do(func() { failed = fmt.Errorf("serving %s: %w", what, err) })
			cancel(err)
		}
	}
	serving.Go(func() { serve("the backend", s.backend.Serve, s.backendListener) })
	serving.Go(func() { serve("the page", s.culvert.Serve, s.pageListener) })
	serving.Go(func() { serve("the inspecting proxy", s.inspector.serve, s.proxyListener) })
	err = use(ctx, s)
	closing := s.close(context.WithoutCancel(ctx))
	serving.Wait()
	return errors.Join(err, failed, closing)
}

func newStage(ctx context.Context, cfg Config, culvert BridgeConfig, backend *grpc.Server) (_ *stage, err error) {
	s := &stage{backend: backend}
	defer func() {
		if err != nil {
			s.closeListeners()
			if s.inspector != nil {
				s.inspector.close()
			}
		}
	}()
	listen := func(what, address string) net.Listener {
		if err != nil {
			return nil
		}
		var ln net.Listener
		ln, err = s.listenNear(ctx, what, address)
		return ln
	}
	s.pageListener = listen("page", cmp.Or(cfg.Listen, defaultListen))
	s.proxyListener = listen("proxy", nextPort(s.pageListener))
	s.backendListener = listen("backend", backendAddress(cfg.Listen))
	if err != nil {
		return nil, err
	}
	s.inspector = newInspector(ctx, dialable(s.pageListener.Addr()))
	pageAddr, proxyAddr := tcpAddr(s.pageListener), tcpAddr(s.proxyListener)
	culvert.Backend = s.backendListener.Addr().String()
	culvert.AllowOrigins = origins(pageAddr.IP, pageAddr.Port, proxyAddr.Port)
	culvert.LoopbackOnly = pageAddr.IP.IsLoopback()
	if culvert.Fallback, err = newPage(s, cfg.Version); err != nil {
		return nil, err
	}
	s.culvert, err = cfg.NewBridge(culvert)
	return s, err
}

// listenNear listens on the address or, where its port is taken, on a free one.
func (s *stage) listenNear(ctx context.Context, what, address string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", address)
	if !portTaken(err) {
		return ln, err
	}
	host, _, splitErr := net.SplitHostPort(address)
	if splitErr != nil {
		return nil, err
	}
	ln, err = lc.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err == nil {
		s.replaced = append(s.replaced, fmt.Sprintf("%s is taken: the %s is on %s instead", address, what, ln.Addr()))
	}
	return ln, err
}

// portTaken holds for a port that somebody else has, also where the system
// keeps it for itself: Windows answers "forbidden" then.
func portTaken(err error) bool {
	const wsaeaccess, wsaeaddrinuse = syscall.Errno(10013), syscall.Errno(10048)
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, wsaeaccess) || errors.Is(err, wsaeaddrinuse)
}

// nextPort is the address beside a listener's: the proxy is best remembered so.
func nextPort(ln net.Listener) string {
	if ln == nil {
		return ""
	}
	addr := tcpAddr(ln)
	port := addr.Port + 1
	if port > 65535 {
		port = 0
	}
	return net.JoinHostPort(addr.IP.String(), strconv.Itoa(port))
}

// backendAddress is the backend's: nobody but culvert has to reach it. Where
// the page is on any free port, so is the backend.
func backendAddress(page string) string {
	if _, port, err := net.SplitHostPort(page); err == nil && port == "0" {
		return "127.0.0.1:0"
	}
	return defaultBackend
}

// close drains culvert, then ends what is around it.
func (s *stage) close(ctx context.Context) error {
	draining, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	err := s.culvert.Shutdown(draining)
	s.inspector.close()
	s.backend.Stop()
	s.closeListeners() // Stop and the like close only what has begun to serve
	return err
}

func (s *stage) closeListeners() {
	for _, ln := range []net.Listener{s.pageListener, s.proxyListener, s.backendListener} {
		if ln != nil {
			_ = ln.Close() // closed already, as a rule
		}
	}
}

func tcpAddr(ln net.Listener) *net.TCPAddr {
	addr, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		panic(fmt.Sprintf("BUG: a listener of tcp has the address %v", ln.Addr()))
	}
	return addr
}

// dialable is the address to reach a listener at from this machine.
func dialable(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); err == nil && ip.IsUnspecified() {
		return net.JoinHostPort("localhost", port)
	}
	return addr.String()
}

// origins are the pages that may call: the demo's own, from culvert's port and
// from the proxy's, by each name this machine may be called by there.
func origins(ip net.IP, ports ...int) []string {
	hosts := []string{"localhost", ip.String()}
	if ip.IsUnspecified() {
		addrs, _ := net.InterfaceAddrs() // none: localhost is left
		for _, addr := range addrs {
			if n, ok := addr.(*net.IPNet); ok {
				hosts = append(hosts, n.IP.String())
			}
		}
	}
	var all []string
	for _, host := range hosts {
		for _, port := range ports {
			all = append(all, "http://"+net.JoinHostPort(host, strconv.Itoa(port)))
		}
	}
	return all
}
