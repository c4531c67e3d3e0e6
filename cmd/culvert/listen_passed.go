package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/culvert-grpc/culvert/config"
)

// A passedSocket is a listening socket that a supervisor, such as systemd, passed
// to culvert at the start and keeps open. So connections wait in its queue until
// the next culvert accepts them.
//
// The type hides *net.TCPListener from bridge: at the end of a listener of its
// own, bridge makes the kernel drop new connections, and here they belong to
// the next process.
type passedSocket struct {
	net.Listener
	fd   int
	name string // in LISTEN_FDNAMES; may be empty
}

// String returns name, address and descriptor, for errors.
func (s *passedSocket) String() string {
	return fmt.Sprintf("%q at %s (descriptor %d)", s.name, addressOf(s.Addr()), s.fd)
}

// addressOf returns an address in the form of listen.
func addressOf(addr net.Addr) string {
	if addr.Network() == "unix" {
		return "unix:" + addr.String()
	}
	return addr.String()
}

// firstPassed is the first descriptor that a supervisor passes.
const firstPassed = 3

var errListenFDs = errors.New("not a number of sockets: the supervisor must set it to the number of sockets that it passes")

// passedSockets returns the sockets that the supervisor passed, and removes the
// variables, so that no child process takes the sockets for its own. If it returns
// an error, some of the sockets remain open, because culvert ends.
//
// https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html.
// The package of coreos/go-systemd takes a malformed variable for no sockets, and
// drops a socket that doesn't listen. Here both are errors.
func passedSockets(log *slog.Logger) ([]*passedSocket, error) {
	pid, fds, fdNames := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name) // the name is valid
	}
	if fds == "" {
		return nil, nil
	}
	if pid != strconv.Itoa(os.Getpid()) {
		log.Warn("culvert ignores LISTEN_FDS, because LISTEN_PID names another process", "listen_pid", pid, "pid", os.Getpid(),
			"hint", "let the supervisor start culvert itself, or end its script with exec culvert")
		return nil, nil
	}
	count, names, err := parsePassed(fds, fdNames)
	if err != nil {
		return nil, err
	}
	var sockets []*passedSocket
	for i := range count {
		s := &passedSocket{fd: firstPassed + i}
		if len(names) > 0 {
			s.name = names[i]
		}
		if s.Listener, err = openPassed(s.fd); err != nil {
			return nil, fmt.Errorf("LISTEN_FDS: the socket %q (descriptor %d) %w", s.name, s.fd, err)
		}
		sockets = append(sockets, s)
	}
	return sockets, nil
}

// parsePassed reads LISTEN_FDS and LISTEN_FDNAMES. There are as many names as
// sockets, or none.
func parsePassed(fds, fdNames string) (count int, names []string, err error) {
	count, err = strconv.Atoi(fds)
	if err != nil || count < 0 {
		return 0, nil, fmt.Errorf("LISTEN_FDS: %q: %w", fds, errListenFDs)
	}
	if fdNames == "" {
		return count, nil, nil
	}
	names = strings.Split(fdNames, ":")
	if len(names) != count {
		return 0, nil, fmt.Errorf("LISTEN_FDNAMES: %d names for %d sockets: the supervisor must set a name for each", len(names), count)
	}
	return count, names, nil
}

// An endpoint is an address of the configuration that culvert listens on.
type endpoint struct {
	key     string // of the address
	name    string // of its socket in LISTEN_FDNAMES; may be empty
	address string
}

// endpoints returns all addresses that the program listens on.
func (p *program) endpoints() []endpoint {
	var all []endpoint
	for i, l := range p.config.Listen {
		all = append(all, endpoint{listenKey(i), l.Name, l.Address})
	}
	all = append(all, endpoint{healthKey, "health", p.config.Health.Listen}, endpoint{redirectKey, "http", p.config.TLS.HTTPListen}, endpoint{adminKey, "admin", p.config.Admin.Listen})
	return slices.DeleteFunc(all, func(e endpoint) bool { return e.address == "" })
}

// Keys of single addresses.
const (
	healthKey   = "health.listen"
	redirectKey = "tls.http_listen"
	adminKey    = "admin.listen"
)

func listenKey(i int) string { return config.Entry("listen", i) + ".address" }

// takePassed assigns the sockets of the supervisor to the addresses of the
// configuration.
func (p *program) takePassed(ctx context.Context) error {
	sockets, err := passedSockets(p.log)
	if err != nil {
		return err
	}
	p.passed, err = assign(ctx, sockets, p.endpoints())
	if err != nil {
		return err
	}
	for _, e := range p.endpoints() {
		s := p.passed[e.key]
		if s == nil {
			continue
		}
		p.log.Info("the supervisor passed the socket", "key", e.key, "name", s.name, "address", addressOf(s.Addr()))
		if _, port, _ := net.SplitHostPort(e.address); port != "0" && !s.isAt(ctx, e.address) {
			p.log.Warn("the address in the configuration has no effect: the supervisor's socket has another one", "key", e.key,
				"configured", e.address, "address", addressOf(s.Addr()), "hint", "give both the same address")
		}
	}
	return nil
}

// assign returns the socket of each endpoint that has one, by key. Names come
// before addresses, because the supervisor gave a name on purpose. A socket
// of no endpoint is an error: its clients would wait forever.
func assign(ctx context.Context, sockets []*passedSocket, endpoints []endpoint) (map[string]*passedSocket, error) {
	assigned := make(map[string]*passedSocket)
	take := func(e endpoint, fits func(*passedSocket) bool) {
		if i := slices.IndexFunc(sockets, fits); i >= 0 && assigned[e.key] == nil {
			assigned[e.key] = sockets[i]
			sockets = slices.Delete(slices.Clone(sockets), i, i+1)
		}
	}
	// One socket unit of systemd gives all its sockets the same name. Then only
	// the address tells them apart.
	shared := make(map[string]int)
	for _, s := range sockets {
		shared[s.name]++
	}
	for _, e := range endpoints {
		take(e, func(s *passedSocket) bool { return s.name == e.name && e.name != "" && shared[e.name] == 1 })
	}
	for _, e := range endpoints {
		take(e, func(s *passedSocket) bool { return s.isAt(ctx, e.address) })
	}
	if len(sockets) == 0 {
		return assigned, nil
	}
	var unknown, known []string
	for _, s := range sockets {
		unknown = append(unknown, s.String())
	}
	for _, e := range endpoints {
		if assigned[e.key] == nil {
			known = append(known, strings.TrimSpace(e.name+" "+e.address))
		}
	}
	return nil, fmt.Errorf("LISTEN_FDS: no listener has the name or the address of the socket %s: listeners without a socket: %s: "+
		"give the socket the name of one (FileDescriptorName=) or its address (ListenStream=), or remove the socket",
		strings.Join(unknown, ", "), strings.Join(known, ", "))
}

// isAt reports whether the socket has an address of the configuration.
func (s *passedSocket) isAt(ctx context.Context, address string) bool {
	tcp, ok := s.Addr().(*net.TCPAddr)
	if !ok {
		return addressOf(s.Addr()) == address
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || port != strconv.Itoa(tcp.Port) {
		return false
	}
	at := tcp.AddrPort().Addr().Unmap()
	if host == "" {
		return at.IsUnspecified()
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap() == at
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	return err == nil && slices.ContainsFunc(ips, func(ip netip.Addr) bool { return ip.Unmap() == at })
}

var errSharedSocket = errors.New("other users of this host can connect to the supervisor's socket: set its mode to 0600 (SocketMode=) and its owner to root or culvert's user (SocketUser=)")

// isShared reports whether other users can connect to a unix socket: by its mode, or
// because one of them owns it. A socket without a file, in the abstract namespace, has
// no mode.
func (s *passedSocket) isShared() bool {
	if s.Addr().Network() != "unix" {
		return false
	}
	info, err := os.Lstat(s.Addr().String())
	return err != nil || info.Mode().Perm()&0o077 != 0 || !ownedByUs(info)
}

// listenAt returns the supervisor's socket for the key, or listens on the address.
func (p *program) listenAt(ctx context.Context, key, address string) (net.Listener, error) {
	if s := p.passed[key]; s != nil {
		return s, nil
	}
	return listen(ctx, address)
}
