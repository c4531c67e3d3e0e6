package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/client"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
)

const (
	// connectTimeout is how long a call waits for a way to the edge.
	connectTimeout = 10 * time.Second

	// A connection with calls is pinged when nothing has come for pingAfter, and lost when
	// nothing answers: boxes drop connections without a word. pingTimeout is over half of package
	// client's, which tells by that why a connection ended.
	pingAfter   = 8 * time.Second
	pingTimeout = 2500 * time.Millisecond

	// drainTimeout is how long calls may go on after a signal.
	drainTimeout = 5 * time.Second

	// manyCalls is how many calls a local connection may have at once. A program that may open
	// one connection may open many.
	manyCalls = 100_000
)

// Options are what Run needs.
type Options struct {
	Edge    string          // its address
	Client  []client.Option // ways, proxies, CAs
	Listen  string          // "localhost:9000", or "unix:" and an absolute path
	Anybody bool            // listen on an address that other machines reach

	// Token returns the token that is added to calls without authorization. If nil, none is.
	// With it, Listen must be a unix socket, which only this user may open.
	Token func(context.Context) (string, error)

	Command []string // a program to run, with the port's address in CULVERT_DIAL; empty: none
	Out     io.Writer

	// Width returns the columns of the terminal that Out is. One line shows the state there.
	// nil: Out is none.
	Width func() int
}

// A Misuse is the error of wrong options: the same options will never work.
type Misuse struct{ Err error }

func (e *Misuse) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *Misuse) Unwrap() error { return e.Err }

// Run serves until the context ends, or the command does. Then its error is that of the command:
// an *exec.ExitError.
func Run(ctx context.Context, o Options) error {
	return serve(ctx, o, listen)
}

// serve is Run with another way to open the port.
func serve(ctx context.Context, o Options, listen func(context.Context, *Options) (net.Listener, error)) error {
	state := newStateLine(o.Out, o.Edge, o.Width)
	defer state.end()
	opts := slices.Concat(o.Client, []client.Option{client.WithOnChange(state.show)})
	if o.Token != nil {
		opts = append(opts, client.WithToken(o.Token))
	}
	dialer, err := client.NewDialer(o.Edge, opts...)
	if err != nil {
		return &Misuse{err}
	}
	defer dialer.Close()
	ln, err := listen(ctx, &o)
	if err != nil {
		return err
	}
	defer ln.Close()
	address := sockets.AddressOf(ln.Addr())
	// The first line, before those of the state: the bridge begins to connect at once.
	state.announce("gRPC clients on this machine reach %s at %s, in plaintext", o.Edge, address)
	if dialer.Exposed() {
		state.announce("calls cross the network without TLS: others can read them, with their tokens")
	}
	b, err := newBridge(dialer, o.Token != nil)
	if err != nil {
		return err
	}
	defer b.Close() //nolint:contextcheck // it ends whatever runs
	var serving sync.WaitGroup
	defer serving.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of the command
	failed := make(chan error, 1)
	serving.Go(func() {
		failed <- b.ServeListener(ln, bridge.Listener{LoopbackOnly: !o.Anybody, Transports: []string{"grpc"}})
	})
	_ = sockets.Notify(ctx, "READY=1") // it serves without systemd, too
	ended := make(chan error, 1)
	if len(o.Command) > 0 {
		serving.Go(func() { ended <- run(ctx, o.Command, address) })
	}
	select {
	case err = <-failed:
	case err = <-ended:
	case <-ctx.Done():
		if len(o.Command) > 0 {
			err = <-ended
		}
	}
	drain, cancelDrain := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancelDrain()
	state.end()
	_ = sockets.Notify(drain, "STOPPING=1") // as above
	_ = b.Shutdown(drain)                   // it returns nil
	return err
}

// newBridge returns the bridge whose backend is the edge.
func newBridge(d *client.Dialer, token bool) (*bridge.Server, error) {
	backend := bridge.Backend{
		Target: "passthrough:///edge", Authority: d.Authority(), PathPrefix: d.PathPrefix(),
		Dial:           func(ctx context.Context, _ string) (net.Conn, error) { return d.DialWanted(ctx) },
		Waiting:        d.Want,
		ConnectTimeout: connectTimeout, QueueTimeout: connectTimeout,
		Keepalive: pingAfter, PingTimeout: pingTimeout,
	}
	if d.Secure() {
		backend.TLS = &tls.Config{MinVersion: tls.VersionTLS12} // the Dialer's connections have it already; this makes :scheme https
	}
	cfg := bridge.Config{Backend: backend, Words: noWords, DetailedErrors: true, PassPath: true, Limits: bridge.Limits{
		CallsPerConnection: manyCalls, MessageBytes: 1<<31 - 1,
		Address: bridge.Quota{Connections: -1, Calls: -1, CallsPerSecond: -1, HandshakesPerSecond: -1, DecompressedPerSecond: -1},
	}}
	if token {
		cfg.Authenticator = tokens{d}
	}
	return bridge.New(cfg)
}

// noWords leaves the bridge's settings out of its texts: dial has none of them.
func noWords(_, _ string, _ bool) string { return "" }

// tokens adds the dialer's token to calls that have none.
type tokens struct{ *client.Dialer }

func (t tokens) Authenticate(ctx context.Context, r *bridge.AuthRequest) (*bridge.Identity, error) {
	if len(r.Metadata["authorization"]) > 0 {
		return nil, nil
	}
	authorization, err := t.Authorization(ctx)
	if err != nil {
		return nil, err
	}
	r.Set("authorization", authorization)
	return nil, nil
}

func listen(ctx context.Context, o *Options) (net.Listener, error) {
	if path, ok := strings.CutPrefix(o.Listen, "unix:"); ok {
		if path == "" {
			return nil, &Misuse{errors.New("--listen unix: has no path: write it as in --listen unix:/run/user/1000/edge.sock")}
		}
		path, err := filepath.Abs(path) // CULVERT_DIAL is also for programs in other directories
		if err != nil {
			return nil, err
		}
		return sockets.ListenUnix(ctx, path, 0o600)
	}
	if o.Token != nil {
		return nil, &Misuse{errors.New("with a token, every user of this machine could call with it: listen on a unix socket, as in --listen unix:/run/user/1000/edge.sock")}
	}
	ln, err := sockets.Listen(ctx, o.Listen)
	if err != nil {
		_, malformed := errors.AsType[*net.AddrError](err)
		err = fmt.Errorf("%w: %s", err, sockets.Remedy(err, "--listen"))
		if malformed {
			err = &Misuse{err}
		}
		return nil, err
	}
	if !o.Anybody && !sockets.IsLoopback(ln.Addr()) {
		_ = ln.Close() // nobody knows of it
		return nil, &Misuse{fmt.Errorf("%s: other machines reach this address, and calls on it have no TLS: use localhost, or --allow-remote if a firewall keeps others away", o.Listen)}
	}
	return ln, nil
}
