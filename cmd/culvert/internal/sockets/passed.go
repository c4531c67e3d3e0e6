package sockets

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A Socket is a listening socket that a supervisor, such as systemd, passed
// to culvert at the start and keeps open. So connections wait in its queue until
// the next culvert accepts them.
//
// The type hides *net.TCPListener from bridge: at the end of a listener of its
// own, bridge makes the kernel drop new connections, and here they belong to
// the next process.
type Socket struct {
	net.Listener
	Name string // in LISTEN_FDNAMES; may be empty
	fd   int
}

// Passed are the sockets of a supervisor, by the keys of their endpoints.
type Passed map[string]*Socket

// Listen returns the supervisor's socket for the key, or listens on the address, which is in
// the form of listen. A unix socket gets the mode.
func (p Passed) Listen(ctx context.Context, key, address string, mode fs.FileMode) (net.Listener, error) {
	if s := p[key]; s != nil {
		return s, nil
	}
	if path, ok := unixPath(address); ok {
		return ListenUnix(ctx, path, mode)
	}
	return Listen(ctx, address)
}

// String returns name, address and descriptor, for errors.
func (s *Socket) String() string {
	return fmt.Sprintf("%q at %s (descriptor %d)", s.Name, AddressOf(s.Addr()), s.fd)
}

// firstPassed is the first descriptor that a supervisor passes.
const firstPassed = 3

// passedSockets returns the sockets that the supervisor passed, and removes the
// variables, so that no child process takes the sockets for its own. If it returns
// an error, some of the sockets remain open, because culvert ends.
//
// https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html.
// The package of coreos/go-systemd takes a malformed variable for no sockets, and
// drops a socket that doesn't listen. Here both are errors.
func passedSockets(log *slog.Logger) ([]*Socket, error) {
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
	var sockets []*Socket
	for i := range count {
		s := &Socket{fd: firstPassed + i}
		if len(names) > 0 {
			s.Name = names[i]
		}
		if s.Listener, err = openPassed(s.fd); err != nil {
			return nil, fmt.Errorf("LISTEN_FDS: the socket %q (descriptor %d) %w", s.Name, s.fd, err)
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
		return 0, nil, fmt.Errorf("LISTEN_FDS: %q: not a number of sockets: the supervisor must set it to the number of sockets that it passes", fds)
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

// An Endpoint is an address of the configuration that culvert listens on.
type Endpoint struct {
	Key     string // of the address
	Name    string // of its socket in LISTEN_FDNAMES; may be empty
	Address string
}

// Take takes the sockets that the supervisor passed, and assigns them to the endpoints.
func Take(ctx context.Context, log *slog.Logger, endpoints []Endpoint) (Passed, error) {
	sockets, err := passedSockets(log)
	if err != nil {
		return nil, err
	}
	passed, err := Assign(ctx, sockets, endpoints)
	if err != nil {
		return nil, err
	}
	for _, e := range endpoints {
		s := passed[e.Key]
		if s == nil {
			continue
		}
		log.Info("the supervisor passed the socket", "key", e.Key, "name", s.Name, "address", AddressOf(s.Addr()))
		if _, port, _ := net.SplitHostPort(e.Address); port != "0" && !s.isAt(ctx, e.Address) {
			log.Warn("the address in the configuration has no effect: the supervisor's socket has another one", "key", e.Key,
				"configured", e.Address, "address", AddressOf(s.Addr()), "hint", "give both the same address")
		}
	}
	return passed, nil
}

// Assign returns the socket of each endpoint that has one, by key. Names come
// before addresses, because the supervisor gave a name on purpose. A socket
// of no endpoint is an error: its clients would wait forever.
func Assign(ctx context.Context, sockets []*Socket, endpoints []Endpoint) (Passed, error) {
	assigned := make(Passed)
	take := func(e Endpoint, fits func(*Socket) bool) {
		if i := slices.IndexFunc(sockets, fits); i >= 0 && assigned[e.Key] == nil {
			assigned[e.Key] = sockets[i]
			sockets = slices.Delete(slices.Clone(sockets), i, i+1)
		}
	}
	// One socket unit of systemd gives all its sockets the same name. Then only
	// the address tells them apart.
	shared := make(map[string]int)
	for _, s := range sockets {
		shared[s.Name]++
	}
	for _, e := range endpoints {
		take(e, func(s *Socket) bool { return s.Name == e.Name && e.Name != "" && shared[e.Name] == 1 })
	}
	for _, e := range endpoints {
		take(e, func(s *Socket) bool { return s.isAt(ctx, e.Address) })
	}
	if len(sockets) == 0 {
		return assigned, nil
	}
	var unknown, known []string
	for _, s := range sockets {
		unknown = append(unknown, s.String())
	}
	for _, e := range endpoints {
		if assigned[e.Key] == nil {
			known = append(known, strings.TrimSpace(e.Name+" "+e.Address))
		}
	}
	return nil, fmt.Errorf("LISTEN_FDS: no listener has the name or the address of the socket %s: listeners without a socket: %s: "+
		"give the socket the name of one (FileDescriptorName=) or its address (ListenStream=), or remove the socket",
		strings.Join(unknown, ", "), strings.Join(known, ", "))
}

// isAt reports whether the socket has an address of the configuration.
func (s *Socket) isAt(ctx context.Context, address string) bool {
	tcp, ok := s.Addr().(*net.TCPAddr)
	if !ok {
		return AddressOf(s.Addr()) == address
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

// IsShared reports whether other users can connect to a unix socket: by its mode, or
// because one of them owns it. A socket without a file, in the abstract namespace, has
// no mode.
func (s *Socket) IsShared() bool {
	if s.Addr().Network() != "unix" {
		return false
	}
	info, err := os.Lstat(s.Addr().String())
	return err != nil || info.Mode().Perm()&0o077 != 0 || !ownedByUs(info)
}
