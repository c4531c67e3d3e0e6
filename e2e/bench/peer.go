package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A peer is one of the programs that are compared.
type peer struct {
	name     string
	address  string
	proc     *process    // nil: no proxy at all
	behind   *peer       // the proxy that it passes on to; nil: the backend
	beyond   *peer       // the same, and not measured; nil: none
	tls      *tls.Config // how clients reach it; nil: in plaintext
	counters string      // where it tells its counters; empty: nowhere
	health   string      // where it tells its metrics; empty: nowhere
	scraper  *scraper    // reads its metrics; nil: nobody does
}

// counters are what a Go program knows of itself.
type counters struct {
	Mallocs    uint64
	TotalAlloc uint64
	NumGC      uint64
	Goroutines int
}

// programs says where the executables are.
type programs struct{ source, culvert, culvertCounting, older, olderCounting, grpcwebproxy, vanguard, nginx string }

// An arena is a folder for the processes and a backend.
type arena struct {
	dir     string
	bins    programs
	backend *process
	pair    *pair // of the programs that end TLS

	credentials issued // made by issue
}

func openArena(ctx context.Context, bins programs) (*arena, error) {
	dir, err := os.MkdirTemp("", "culvert-bench-")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	a := &arena{dir: dir, bins: bins}
	if a.pair, err = makePair(dir); err != nil {
		a.close()
		return nil, err
	}
	if a.backend, err = start(ctx, dir, nil, self, true, "-serve-backend"); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *arena) close() {
	if a.credentials.stop != nil {
		a.credentials.stop()
	}
	if a.backend != nil {
		a.backend.stop()
	}
	_ = os.RemoveAll(a.dir) // a temporary folder that is left is no failure
}

// direct is the backend itself.
func (a *arena) direct() *peer { return &peer{name: "direct", address: a.backend.line} }

// culvertOne is culvert with GOMAXPROCS=1, as a sidecar with a small CPU share
// runs it. It is judged by CPU time. The peer "culvert" runs with Go's default and
// is judged by everything else.
const culvertOne = "culvert, GOMAXPROCS=1"

var oneThread = []string{"GOMAXPROCS=1"}

// peerStarts is how each program is started; a table so that a cell can name them.
var peerStarts = map[string]func(context.Context, *arena) (*peer, error){
	"culvert": func(ctx context.Context, a *arena) (*peer, error) { return a.culvert(ctx, &peer{name: "culvert"}, nil) },
	culvertOne: func(ctx context.Context, a *arena) (*peer, error) {
		return a.culvert(ctx, &peer{name: culvertOne}, oneThread)
	},
	culvertMetrics:       func(ctx context.Context, a *arena) (*peer, error) { return a.culvertMetrics(ctx) },
	routes1:              func(ctx context.Context, a *arena) (*peer, error) { return a.culvertRoutes(ctx, routes1) },
	routes100:            func(ctx context.Context, a *arena) (*peer, error) { return a.culvertRoutes(ctx, routes100) },
	routes10000:          func(ctx context.Context, a *arena) (*peer, error) { return a.culvertRoutes(ctx, routes10000) },
	routes1 + rarely:     func(ctx context.Context, a *arena) (*peer, error) { return a.culvertRoutes(ctx, routes1+rarely) },
	routes10000 + rarely: func(ctx context.Context, a *arena) (*peer, error) { return a.culvertRoutes(ctx, routes10000+rarely) },
	authTokens:           func(ctx context.Context, a *arena) (*peer, error) { return a.culvertAuth(ctx, authTokens) },
	authAPIKeys:          func(ctx context.Context, a *arena) (*peer, error) { return a.culvertAuth(ctx, authAPIKeys) },
	authCached:           func(ctx context.Context, a *arena) (*peer, error) { return a.culvertAuth(ctx, authCached) },
	authAsked:            func(ctx context.Context, a *arena) (*peer, error) { return a.culvertAuth(ctx, authAsked) },
	culvertMessages:      func(ctx context.Context, a *arena) (*peer, error) { return a.culvertMessages(ctx) },
	agents:               func(ctx context.Context, a *arena) (*peer, error) { return a.culvertAgents(ctx, agents) },
	agentsByUnary:        func(ctx context.Context, a *arena) (*peer, error) { return a.culvertAgents(ctx, agentsByUnary) },
	dialNative:           func(ctx context.Context, a *arena) (*peer, error) { return a.culvertDial(ctx, dialNative, "grpc") },
	dialWebSocket: func(ctx context.Context, a *arena) (*peer, error) {
		return a.culvertDial(ctx, dialWebSocket, "websocket")
	},
	dialWeb:             func(ctx context.Context, a *arena) (*peer, error) { return a.culvertDial(ctx, dialWeb, "grpc-web") },
	culvertTLS:          func(ctx context.Context, a *arena) (*peer, error) { return a.culvertTLS(ctx) },
	nginxTLS:            func(ctx context.Context, a *arena) (*peer, error) { return a.nginxTLS(ctx) },
	nginxBefore:         func(ctx context.Context, a *arena) (*peer, error) { return a.nginxBefore(ctx) },
	"grpcwebproxy":      func(ctx context.Context, a *arena) (*peer, error) { return a.grpcwebproxy(ctx) },
	"vanguard":          func(ctx context.Context, a *arena) (*peer, error) { return a.vanguard(ctx) },
	vanguardDescriptors: func(ctx context.Context, a *arena) (*peer, error) { return a.vanguard(ctx, "-descriptors") },
	"nginx":             func(ctx context.Context, a *arena) (*peer, error) { return a.nginx(ctx) },
	older1:              func(ctx context.Context, a *arena) (*peer, error) { return a.sinceOlder(ctx, 1) },
	older2:              func(ctx context.Context, a *arena) (*peer, error) { return a.sinceOlder(ctx, 2) },
	today1:              func(ctx context.Context, a *arena) (*peer, error) { return a.sinceToday(ctx, 1) },
	today2:              func(ctx context.Context, a *arena) (*peer, error) { return a.sinceToday(ctx, 2) },
	"direct":            func(_ context.Context, a *arena) (*peer, error) { return a.direct(), nil },
}

// explain writes where the goroutines of the peer's process stand.
func (p *peer) explain() {
	if p.proc != nil {
		p.proc.explain()
	}
}

// stop ends the peer's processes, if it has any.
func (p *peer) stop() {
	p.scraper.stop()
	if p.proc != nil {
		p.proc.stop()
	}
	for _, further := range []*peer{p.behind, p.beyond} {
		if further != nil {
			further.stop()
		}
	}
}

// cpu is the time that the peer's processes have run.
func (p *peer) cpu() (time.Duration, error) {
	if p.proc == nil {
		return 0, nil
	}
	own, err := p.proc.cpu()
	err = errors.Join(err, p.scraper.failed())
	if p.behind == nil || err != nil {
		return own, err
	}
	further, err := p.behind.cpu()
	return own + further, err
}

// resident is the memory of the peer's processes in bytes.
func (p *peer) resident() (int64, error) {
	own, err := p.proc.resident()
	if p.behind == nil || err != nil {
		return own, err
	}
	further, err := p.behind.resident()
	return own + further, err
}

// unreached lets one address have all: the limits are counted as ever, and no
// machine is so fast that it meets them.
var unreached = []string{
	"CULVERT_LIMITS_ADDRESS_CONNECTIONS=1000000000", "CULVERT_LIMITS_ADDRESS_CALLS=1000000000",
	"CULVERT_LIMITS_ADDRESS_CALLS_PER_SECOND=1000000000", "CULVERT_LIMITS_ADDRESS_HANDSHAKES_PER_SECOND=1000000000",
}

// culvert starts culvert, or culvertCounting as a peer that has counters.
func (a *arena) culvert(ctx context.Context, p *peer, env []string, args ...string) (*peer, error) {
	bin := a.bins.culvert
	if p.counters != "" {
		bin, env = a.bins.culvertCounting, append(env, countersVariable+p.counters)
	}
	return a.serve(ctx, p, env, []string{bin}, append(args, "--admin", "off")...)
}

// culvertWith starts culvert with a configuration.
func (a *arena) culvertWith(ctx context.Context, p *peer, env []string, config string) (*peer, error) {
	file, err := a.config(config)
	if err != nil {
		return nil, err
	}
	return a.culvert(ctx, p, env, "--config", file)
}

// config writes a configuration of one peer, and returns the file's name.
func (a *arena) config(content string) (string, error) {
	file, err := os.CreateTemp(a.dir, "culvert-*.yaml")
	if err != nil {
		return "", err
	}
	_, err = file.WriteString(content)
	return file.Name(), errors.Join(err, file.Close())
}

// serve starts a culvert by a command, which may be valgrind and its arguments.
func (a *arena) serve(ctx context.Context, p *peer, env, command []string, args ...string) (*peer, error) {
	p.address = freeAddress()
	args = slices.Concat(command[1:], []string{"serve", "--backend", a.backend.line, "--listen", p.address, "--health-listen", cmp.Or(p.health, "off")}, args)
	return a.launch(ctx, p, append(env, unreached...), command[0], args...)
}

// launch starts the program of a peer, and returns the peer once it takes connections.
func (a *arena) launch(ctx context.Context, p *peer, env []string, bin string, args ...string) (_ *peer, err error) {
	if p.proc, err = start(ctx, a.dir, env, bin, false, args...); err != nil {
		return nil, err
	}
	for _, address := range []string{p.address, p.health} {
		if address == "" {
			continue
		}
		if err := p.await(ctx, address); err != nil {
			p.stop()
			return nil, err
		}
	}
	return p, nil
}

// newCounting is culvert built with a file more, which tells its counters.
func newCounting() *peer { return &peer{name: "culvert-counting", counters: freeAddress()} }

func (a *arena) grpcwebproxy(ctx context.Context) (*peer, error) {
	address := freeAddress()
	host, port, _ := net.SplitHostPort(address)
	return a.launch(ctx, &peer{name: "grpcwebproxy", address: address}, nil, a.bins.grpcwebproxy,
		"--backend_addr="+a.backend.line, "--run_tls_server=false", "--allow_all_origins",
		"--server_bind_address="+host, "--server_http_debug_port="+port,
		"--use_websockets", "--websocket_read_limit=1048576", "--websocket_ping_interval=20s",
		// Its defaults end streams after 10 s.
		"--server_http_max_write_timeout=1h", "--server_http_max_read_timeout=1h")
}

func (a *arena) vanguard(ctx context.Context, args ...string) (*peer, error) {
	address := freeAddress()
	return a.launch(ctx, &peer{name: "vanguard", address: address}, nil, a.bins.vanguard, append(args, "-backend", a.backend.line, "-listen", address)...)
}

const nginxConfig = `
daemon off; worker_processes auto; pid %[1]s/nginx.pid; error_log %[1]s/nginx-error.log;
events { worker_connections 16384; }
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	upstream backend { server %[2]s; keepalive 256; keepalive_requests 1000000000; }
	server {
		listen %[3]s http2;
		http2_max_concurrent_streams 1024;
		keepalive_requests 1000000000;
		client_max_body_size 0;
		grpc_read_timeout 1h; grpc_send_timeout 1h; client_body_timeout 1h;
		location / { grpc_pass grpc://backend; }
	}
}
`

func (a *arena) nginx(ctx context.Context) (*peer, error) {
	address := freeAddress()
	file := filepath.Join(a.dir, "nginx.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, nginxConfig, a.dir, a.backend.line, address), 0o600); err != nil {
		return nil, err
	}
	return a.startNginx(ctx, "nginx", address, file, nil)
}

// startNginx starts it with a configuration, which listens on the address.
func (a *arena) startNginx(ctx context.Context, name, address, file string, tls *tls.Config) (*peer, error) {
	return a.launch(ctx, &peer{name: name, address: address, tls: tls}, nil, a.bins.nginx, "-c", file, "-p", a.dir, "-e", filepath.Join(a.dir, "nginx-error.log"))
}

// freeAddress is an address of loopback that nobody listens on.
func freeAddress() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic("BUG: loopback has no free port: " + err.Error())
	}
	defer ln.Close()
	return ln.Addr().String()
}

// await waits until the peer takes connections at an address. It dials from another address
// of loopback: a socket that dials a free port from that same port reaches itself, and the
// peer then can't listen there.
func (p *peer) await(ctx context.Context, address string) error {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s doesn't listen on %s (see %s)", p.name, address, p.proc.logs), err)
		}
	}
}
