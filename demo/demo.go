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

	"github.com/culvert-grpc/culvert/demo/demopb"
)

// The default addresses.
const (
	defaultListen  = "127.0.0.1:8080"
	defaultBackend = "127.0.0.1:9000"
)

// drainTimeout is how long running calls may continue after the demo is told to
// stop: a conversation in a browser has no end of its own.
const drainTimeout = time.Second

// Config configures the demo.
type Config struct {
	// NewBridge makes the culvert in front of the service.
	NewBridge func(BridgeConfig) (Bridge, error)

	// Listen is the address of the page, and the backend's for RunBackend. The
	// defaults are 127.0.0.1:8080 and 127.0.0.1:9000. The demo replaces a taken
	// port by a free one. RunBackend doesn't, because its clients must know it.
	Listen string

	Out     io.Writer // the terminal
	Colour  bool      // Out shows ANSI colours
	Version string    // culvert's
}

// BridgeConfig configures the demo's culvert: fields of bridge.Config by the
// same names, and two callbacks.
type BridgeConfig struct {
	Backend      string // address, plaintext
	AllowOrigins []string
	LoopbackOnly bool
	Fallback     http.Handler

	// Both are called concurrently.
	CallEnded func(Call)
	Refused   func(Refusal)
}

// Bridge is culvert as the demo uses it. A *bridge.Server implements it.
type Bridge interface {
	Serve(ln net.Listener) error
	Shutdown(ctx context.Context) error
}

// Run serves the demo until the context ends. It returns errors of listening
// and serving, and nil after the end of the context.
func Run(ctx context.Context, cfg Config) error {
	term := newTerminal(cfg.Out, cfg.Colour)
	tell := BridgeConfig{CallEnded: term.call, Refused: term.refused}
	return withStage(ctx, cfg, tell, NewServer(), func(ctx context.Context, s *stage) error {
		term.welcome(s)
		<-ctx.Done()
		term.out.Println("\n  stopping")
		return nil
	})
}

// RunBackend serves only the example service until the context ends.
func RunBackend(ctx context.Context, cfg Config) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", cmp.Or(cfg.Listen, defaultBackend))
	if err != nil {
		return fmt.Errorf("%w (choose another port with --listen)", err)
	}
	newTerminal(cfg.Out, cfg.Colour).out.Printf("the example service %s listens on %s", demopb.Demo_ServiceDesc.ServiceName, ln.Addr())
	server := NewServer()
	defer context.AfterFunc(ctx, server.Stop)()
	return serveGRPC(server, ln)
}

// serveGRPC serves until the server stops. It returns nil if the server was stopped before.
func serveGRPC(server *grpc.Server, ln net.Listener) error {
	if err := server.Serve(ln); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// A stage is all that the demo runs: the backend, culvert in front of it, and an
// inspecting proxy in front of each of the two.
type stage struct {
	backend          *grpc.Server
	culvert          Bridge
	inspector        *inspector // in front of culvert
	backendInspector *inspector // in front of the backend: the path without culvert

	backendListener, pageListener       net.Listener
	proxyListener, backendProxyListener net.Listener

	replaced []string // messages about taken ports
}

// withStage builds the stage, serves it while use runs, and closes it.
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
	serving.Go(func() {
		serve("the backend", func(ln net.Listener) error { return serveGRPC(s.backend, ln) }, s.backendListener)
	})
	serving.Go(func() { serve("the page", s.culvert.Serve, s.pageListener) })
	serving.Go(func() { serve("the inspecting proxy", s.inspector.serve, s.proxyListener) })
	serving.Go(func() {
		serve("the backend's inspecting proxy", s.backendInspector.serve, s.backendProxyListener)
	})
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
			s.closeInspectors()
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
	s.backendProxyListener = listen("backend's proxy", onLoopback(nextPort(s.proxyListener)))
	s.backendListener = listen("backend", backendAddress(cfg.Listen))
	if err != nil {
		return nil, err
	}
	s.inspector = newInspector(ctx, dialable(s.pageListener.Addr()))
	s.backendInspector = newInspector(ctx, s.backendListener.Addr().String())
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

// listenNear listens on the address, or on a free port if the port is taken.
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

// portTaken reports whether the error means that the port is in use or, on
// Windows, reserved by the system.
func portTaken(err error) bool {
	const wsaeaccess, wsaeaddrinuse = syscall.Errno(10013), syscall.Errno(10048)
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, wsaeaccess) || errors.Is(err, wsaeaddrinuse)
}

// nextPort returns the listener's address with the next port, which is easy to
// remember.
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

// onLoopback returns a loopback address with the address's port. The page may
// listen on all addresses. The backend and its proxy never do.
func onLoopback(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return net.JoinHostPort("127.0.0.1", port)
}

// backendAddress returns the backend's address: a fixed port, or any free one if
// the page is on any free port.
func backendAddress(page string) string {
	if _, port, err := net.SplitHostPort(page); err == nil && port == "0" {
		return "127.0.0.1:0"
	}
	return defaultBackend
}

// close drains culvert, then closes the proxies and the backend.
func (s *stage) close(ctx context.Context) error {
	draining, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	err := s.culvert.Shutdown(draining)
	s.closeInspectors()
	s.backend.Stop()
	s.closeListeners() // a server closes only a listener that it serves
	return err
}

func (s *stage) closeInspectors() {
	for _, p := range []*inspector{s.inspector, s.backendInspector} {
		if p != nil {
			p.close()
		}
	}
}

func (s *stage) closeListeners() {
	for _, ln := range []net.Listener{s.pageListener, s.proxyListener, s.backendProxyListener, s.backendListener} {
		if ln != nil {
			_ = ln.Close() // usually closed already
		}
	}
}

func tcpAddr(ln net.Listener) *net.TCPAddr {
	addr, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		panic(fmt.Sprintf("BUG: a TCP listener has the address %v", ln.Addr()))
	}
	return addr
}

// dialable returns the address to dial for a listener on this machine.
func dialable(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); err == nil && ip.IsUnspecified() {
		return net.JoinHostPort("localhost", port)
	}
	return addr.String()
}

// origins returns the allowed origins: the demo's page on each of the ports, by
// each of this machine's names and addresses.
func origins(ip net.IP, ports ...int) []string {
	hosts := []string{"localhost", ip.String()}
	if ip.IsUnspecified() {
		addrs, _ := net.InterfaceAddrs() // after an error, localhost remains
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
