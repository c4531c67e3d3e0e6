package call

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/client/internal/cors"
	"github.com/culvert-grpc/culvert/client/internal/header"
	"github.com/culvert-grpc/culvert/client/internal/network"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/terminal"
	"github.com/culvert-grpc/culvert/internal/websocket"
)

// A Config says what to call, and how.
type Config struct {
	URL   string   // of the edge, with its path prefix; of the route, with message-json and sse
	Words []string // behind the URL: a method, "list" and a service, or "describe" and a symbol

	Via       string   // one of Vias
	Data      *string  // the requests: JSON values, "@file" or "@-"; nil: none was given
	Headers   []string // "name: value"
	ProtoSets []string // files of descriptors; none: server reflection
	Origin    string   // of the page that calls; "": no page
	MaxTime   time.Duration
	Verbose   bool
	JSON      bool // print JSON lines

	Proxy            string      // a URL; "none"; "": that of the environment
	ConnectTo        string      // "host:port" in place of the URL's
	TLS              *tls.Config // nil: the system's CAs
	Subprotocol      string      // of a WebSocket for bare messages
	FirstMessage     string      // of such a WebSocket, which becomes metadata; "": none
	HalfClose        string      // the text that says so in such a WebSocket
	Version          string      // of culvert
	Stdin            io.Reader
	Stdout, Stderr   io.Writer
	StdinIsTerminal  bool
	StderrIsTerminal bool
}

// A Misuse is an error of the command line or of the input.
type Misuse struct{ Err error }

func (e *Misuse) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Misuse) Unwrap() error { return e.Err }

func misuse(format string, args ...any) error { return &Misuse{fmt.Errorf(format, args...)} }

// A StatusError reports that the call ended with another status than OK. It has been printed.
type StatusError struct{ Status *status.Status }

func (e *StatusError) Error() string {
	return "the call ended with " + codec.StatusName(e.Status.Code())
}

// A caller makes one call, or asks for descriptors.
type caller struct {
	cfg      Config
	via      string
	target   network.Target
	net      network.Network
	metadata metadata.MD
	page     *page  // nil: a program calls
	trace    *trace // nil: nobody wants to know
	watch    *watch
	out      *printer
}

// Run does what the words say. An error is a *Misuse, a *StatusError, the context's cause, or
// says why the call failed.
func Run(ctx context.Context, cfg Config) error {
	c, err := newCaller(cfg)
	if err != nil {
		return err
	}
	c.watch = newWatch(c)
	defer c.watch.end()
	if cfg.MaxTime > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, cfg.MaxTime, errMaxTime)
		defer cancel()
	}
	words := cfg.Words
	switch {
	case len(words) > 0 && (words[0] == "list" || words[0] == "describe"):
		err = c.explore(ctx, words)
	case len(words) > 1:
		err = misuse("%q is one word too many: write URL package.Service/Method", words[1])
	case len(words) == 0 && !bare(c.via):
		err = misuse("write the method behind the URL: package.Service/Method; or list, or describe")
	default:
		err = c.call(ctx, words)
	}
	c.out.end(err)
	return err
}

var errMaxTime = errors.New("--max-time is over")

func newCaller(cfg Config) (*caller, error) {
	cfg.Stderr = &shared{w: cfg.Stderr}
	c := &caller{cfg: cfg, via: cmp.Or(cfg.Via, viaAuto), out: &printer{cfg: cfg}}
	if cfg.Verbose {
		c.trace = newTrace(cfg.Stderr)
	}
	if !slices.Contains(Vias(), c.via) {
		return nil, misuse("--via: %q is none of %s", c.via, strings.Join(Vias(), ", "))
	}
	for _, to := range []string{cfg.URL, cfg.ConnectTo} {
		if path, ok := strings.CutPrefix(to, "unix:"); ok {
			return nil, misuse("call doesn't connect to unix sockets: call the edge itself, or use grpcurl -plaintext -unix %s", terminal.Text(path))
		}
	}
	var err error
	if c.target, err = network.ParseTarget(cfg.URL); err != nil {
		return nil, &Misuse{err}
	}
	fields, err := header.Parse(cfg.Headers)
	if err == nil {
		c.metadata, err = codec.DecodeMetadata(fields)
	}
	if err != nil {
		return nil, misuse("-H: %w", err)
	}
	if cfg.Origin != "" {
		if c.via == viaGRPC {
			return nil, misuse("--origin: a page can't speak native gRPC: use --via grpc-web, or another one")
		}
		of, err := cors.New(cfg.Origin, c.target, len(c.metadata["cookie"]) > 0)
		if err != nil {
			return nil, &Misuse{err}
		}
		c.page = &page{Page: of}
	}
	if cfg.MaxTime < 0 {
		return nil, misuse("--max-time: %s is negative", cfg.MaxTime)
	}
	c.net = network.Network{ConnectTo: cfg.ConnectTo, TLS: cmp.Or(cfg.TLS, &tls.Config{MinVersion: tls.VersionTLS12})}
	if c.net.Proxy, err = network.Through(cfg.Proxy); err != nil {
		return nil, misuse("--proxy: %w", err)
	}
	if err := c.net.CheckConnectTo(); err != nil {
		return nil, misuse("--connect: %w", err)
	}
	if where := c.credentials(); where != "" {
		c.net.Secrets = true
		if err := c.net.MayCarrySecrets(c.target); err != nil {
			return nil, misuse("%s: %w", where, err)
		}
	}
	return c, nil
}

// credentials returns which flag has some; "": none.
func (c *caller) credentials() string {
	for name, values := range c.metadata {
		if hasAny(name, credentialWords) || slices.ContainsFunc(values, hasSecretScheme) {
			return "-H: " + name
		}
	}
	switch p := c.cfg.Subprotocol; {
	case c.cfg.FirstMessage != "":
		return "--first-message"
	case websocket.WithoutBearer(p) != strings.TrimSpace(p):
		return "--subprotocol"
	}
	return ""
}

// agent returns the User-Agent.
func (c *caller) agent() string {
	if v := c.cfg.Version; v != "" && !strings.ContainsAny(v, "() /") { // "(devel)" would be a comment. RFC 9110 §10.1.5
		return "culvert-call/" + v
	}
	return "culvert-call"
}

// dial opens a connection for one of the protocols of ALPN, and tells of it.
func (c *caller) dial(ctx context.Context, protocols ...string) (net.Conn, error) {
	conn, err := c.net.Dial(ctx, c.target, protocols...)
	if err != nil {
		return nil, because(ctx, err)
	}
	c.tellConn(conn)
	return conn, nil
}

func (c *caller) dialHTTP2(ctx context.Context) (net.Conn, error) {
	conn, err := c.dial(ctx, "h2", "http/1.1")
	if err != nil {
		return nil, err
	}
	if !network.MayBeHTTP2(conn) {
		_ = conn.Close() // nothing has crossed it
		return nil, &http2Error{c.target.Address(), "TLS agreed on HTTP/1.1 (ALPN)"}
	}
	return conn, nil
}

func (c *caller) tellConn(conn net.Conn) {
	c.watch.heard()
	if c.trace == nil {
		return
	}
	via := c.net.Via(c.target)
	if via != "" {
		via = " through the proxy " + via
	}
	c.trace.say(note, "connected to %s%s (%s)", c.target.Address(), via, conn.RemoteAddr())
	state := network.TLSState(conn)
	if state == nil {
		return
	}
	c.trace.say(note, "%s, ALPN %s, %s", tls.VersionName(state.Version), cmp.Or(state.NegotiatedProtocol, "none"), tls.CipherSuiteName(state.CipherSuite))
	if certs := state.PeerCertificates; len(certs) > 0 {
		verified := ""
		if c.net.TLS.InsecureSkipVerify {
			verified = ", not verified"
		}
		c.trace.say(note, "certificate of %s, issued by %s, until %s%s", certs[0].Subject, certs[0].Issuer, certs[0].NotAfter.UTC().Format(time.DateOnly), verified)
	}
}

// because returns the cause of a context that has ended, in place of its consequence.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// routePath returns the path of a route for messages, in which {service} and {method} stand for
// those of a method.
func (c *caller) routePath(method string) (string, error) {
	prefix, err := url.PathUnescape(c.target.Prefix)
	if err != nil {
		return "", misuse("the path of the URL is malformed")
	}
	if !strings.Contains(prefix, "{service}") && !strings.Contains(prefix, "{method}") {
		if prefix == "" {
			return "", misuse("--via %s takes the URL of the route, such as https://edge.example.com/events/{service}/{method}", c.via)
		}
		return prefix, nil
	}
	if method == "" {
		return "", misuse("the URL has {service} or {method}: write the method behind it")
	}
	service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	return strings.NewReplacer("{service}", service, "{method}", name).Replace(prefix), nil
}
