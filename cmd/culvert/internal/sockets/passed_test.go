//go:build unix

package sockets

import (
	"bytes"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// duplicate returns a descriptor that the test must give away or close.
func duplicate(t *testing.T, of interface{ File() (*os.File, error) }) int {
	t.Helper()
	f, err := of.File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // the duplicate stays
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// pass returns a socket as if a supervisor, which listens on the address, had passed
// it. Both end with the test.
func pass(t *testing.T, name, network, address string) *Socket {
	t.Helper()
	held, err := new(net.ListenConfig).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = held.Close() }) // the test is over
	s := &Socket{Name: name, fd: duplicate(t, held.(interface{ File() (*os.File, error) }))}
	if s.Listener, err = openPassed(s.fd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the test is over
	return s
}

// TestEndOfAPassedSocketLeavesItToTheSupervisor closes culvert's listener; clients must
// still be able to connect, and the file of a unix socket must stay.
func TestEndOfAPassedSocketLeavesItToTheSupervisor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, at := range [][2]string{{"tcp", "127.0.0.1:0"}, {"unix", path}} {
		s := pass(t, "", at[0], at[1])
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		c, err := new(net.Dialer).DialContext(t.Context(), at[0], s.Addr().String())
		if err != nil {
			t.Errorf("%s: after the end of the listener: %v", at[0], err)
			continue
		}
		_ = c.Close() // it waits in the queue
	}
}

func TestChildrenInheritNoPassedSocket(t *testing.T) {
	s := pass(t, "", "tcp", "127.0.0.1:0")
	if _, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("the descriptor that was passed is still open (%v)", err)
	}
	raw, err := s.Listener.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("the flags of the descriptor are %#x (%v), want FD_CLOEXEC", flags, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// TestWrongDescriptorsAreRefused passes what isn't a listening stream socket.
func TestWrongDescriptorsAreRefused(t *testing.T) {
	udp, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }() // the test is over
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }() // the test is over
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // the test is over
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // the test is over
	for want, fd := range map[error]int{
		errNotStream: duplicate(t, udp.(*net.UDPConn)),
		errNoListen:  duplicate(t, conn.(*net.TCPConn)),
		errNotSocket: int(file.Fd()),
		errNotOpen:   1 << 19,
	} {
		if _, err := openPassed(fd); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if errors.Is(want, errNotStream) || errors.Is(want, errNoListen) {
			if err := unix.Close(fd); err != nil {
				t.Errorf("a descriptor that was refused: %v: want it untouched", err)
			}
		}
	}
}

func TestVariablesOfPassedSockets(t *testing.T) {
	for _, c := range []struct {
		fds, names string
		count      int
		want       string // the error; "": none
	}{
		{"0", "", 0, ""},
		{"2", "", 2, ""},
		{"2", "public:health", 2, ""},
		{"2", ":", 2, ""},
		{"2", "public", 0, "LISTEN_FDNAMES: 1 names for 2 sockets"},
		{"two", "", 0, `LISTEN_FDS: "two": not a number`},
		{"-1", "", 0, `LISTEN_FDS: "-1": not a number`},
		{"99999999999999999999", "", 0, "not a number"},
	} {
		count, names, err := parsePassed(c.fds, c.names)
		switch {
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%q %q: %v, want %s", c.fds, c.names, err, c.want)
		case c.want == "" && (err != nil || count != c.count || (c.names != "") != (len(names) > 0)):
			t.Errorf("%q %q: %d sockets, names %q, %v", c.fds, c.names, count, names, err)
		}
	}
}

// TestVariablesAreTakenOnce: children must not see them, even if they were meant for
// another process.
func TestVariablesAreTakenOnce(t *testing.T) {
	for _, pid := range []string{"1", ""} {
		t.Setenv("LISTEN_PID", pid)
		t.Setenv("LISTEN_FDS", "1")
		t.Setenv("LISTEN_FDNAMES", "public")
		var told bytes.Buffer
		sockets, err := passedSockets(slog.New(slog.NewTextHandler(&told, nil)))
		if len(sockets) > 0 || err != nil || !strings.Contains(told.String(), "ignores LISTEN_FDS") {
			t.Errorf("LISTEN_PID=%q: %v, %v, log %q: want a warning", pid, sockets, err, told.String())
		}
		for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
			if v, found := os.LookupEnv(name); found {
				t.Errorf("%s is still set, to %q", name, v)
			}
		}
	}
}

// TestPassedSocketsFindTheirListeners by name, or else by address.
func TestPassedSocketsFindTheirListeners(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	one, two, all := pass(t, "", "tcp", "127.0.0.1:0"), pass(t, "", "tcp", "127.0.0.1:0"), pass(t, "", "tcp", ":0")
	six, socket := pass(t, "", "tcp6", "[::1]:0"), pass(t, "", "unix", path)
	at := func(s *Socket) string { return s.Addr().String() }
	port := func(s *Socket) string { _, p, _ := net.SplitHostPort(at(s)); return ":" + p }
	named := func(s *Socket, name string) *Socket {
		return &Socket{Listener: s.Listener, Name: name}
	}
	type sockets = []*Socket
	for name, c := range map[string]struct {
		sockets   sockets
		endpoints []Endpoint
		want      map[string]*Socket // nil: an error
	}{
		"none":             {nil, []Endpoint{{"a", "a", ":1"}}, map[string]*Socket{}},
		"by address":       {sockets{one, two}, []Endpoint{{"a", "", at(two)}, {"b", "", at(one)}}, map[string]*Socket{"a": two, "b": one}},
		"on all addresses": {sockets{all}, []Endpoint{{"a", "", port(all)}}, map[string]*Socket{"a": all}},
		"one of all":       {sockets{all}, []Endpoint{{"a", "", "127.0.0.1" + port(all)}}, nil},
		"all for one":      {sockets{one}, []Endpoint{{"a", "", port(one)}}, nil},
		"localhost":        {sockets{one}, []Endpoint{{"a", "", "localhost" + port(one)}}, map[string]*Socket{"a": one}},
		"IPv6":             {sockets{six}, []Endpoint{{"a", "", at(six)}}, map[string]*Socket{"a": six}},
		"a unix socket":    {sockets{socket}, []Endpoint{{"a", "", "unix:" + path}}, map[string]*Socket{"a": socket}},
		"another path":     {sockets{socket}, []Endpoint{{"a", "", "unix:" + path + "2"}}, nil},
		"a free port":      {sockets{one}, []Endpoint{{"a", "", "127.0.0.1:0"}}, nil},
		"one unit's name":  {sockets{named(one, "u"), named(two, "u")}, []Endpoint{{"a", "u", at(one)}, {"b", "", at(two)}}, map[string]*Socket{"a": one, "b": two}},
		"an unknown one":   {sockets{one, two}, []Endpoint{{"a", "", at(one)}}, nil},
		"nowhere else":     {sockets{one}, []Endpoint{{"a", "", at(one)}, {"b", "", ":1"}}, map[string]*Socket{"a": one}},
		"names first":      {sockets{named(one, "b")}, []Endpoint{{"a", "", at(one)}, {"b", "b", ":1"}}, map[string]*Socket{"b": one}},
		"no name":          {sockets{one}, []Endpoint{{"a", "", ":1"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Assign(t.Context(), c.sockets, c.endpoints)
			if (err != nil) != (c.want == nil) || len(got) != len(c.want) {
				t.Fatalf("got %v, %v, want %v", got, err, c.want)
			}
			for key, want := range c.want {
				if got[key] == nil || got[key].Listener != want.Listener {
					t.Errorf("%s has %v, want %v", key, got[key], want)
				}
			}
		})
	}
	_, err := Assign(t.Context(), sockets{named(one, "web"), two}, []Endpoint{{"listen[0].address", "", at(two)}, {"health.listen", "health", ":9901"}})
	if want := `the socket "web" at ` + at(one) + ` (descriptor 0): listeners without a socket: health :9901:`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// ownedFile is a file of a user.
type ownedFile struct {
	os.FileInfo
	user uint32
}

func (f ownedFile) Sys() any { return &syscall.Stat_t{Uid: f.user} }

// TestOwnersOfSockets: the owner of a socket can open it to others.
func TestOwnersOfSockets(t *testing.T) {
	self := uint32(os.Geteuid())
	for user, want := range map[uint32]bool{0: true, self: true, self + 1: false} {
		if got := ownedByUs(ownedFile{user: user}); got != want {
			t.Errorf("a socket of user %d, read by %d: %v, want %v", user, self, got, want)
		}
	}
}

// TestSocketsWithoutAFileAreShared: nothing says who can connect to one in the abstract
// namespace.
func TestSocketsWithoutAFileAreShared(t *testing.T) {
	abstract := pass(t, "admin", "unix", "@culvert-"+rand.Text())
	if !abstract.IsShared() {
		t.Error("a socket in the abstract namespace is taken for a private one")
	}
}

// FuzzParsePassed: a supervisor's variables name each socket or none, or are an error.
func FuzzParsePassed(f *testing.F) {
	for _, seed := range [][2]string{{"2", "public:health"}, {"1", ""}, {"0", ""}, {"3", "a:a:"}, {"1", "a:b"}, {"-1", ""}, {"two", "a"}, {"99999999999999999999", ""}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, fds, fdNames string) {
		count, names, err := parsePassed(fds, fdNames)
		switch {
		case err != nil:
			if !strings.HasPrefix(err.Error(), "LISTEN_FD") || count != 0 || names != nil {
				t.Errorf("%q, %q: %d sockets, names %q, error %v", fds, fdNames, count, names, err)
			}
		case count < 0 || len(names) != 0 && len(names) != count || strings.Join(names, ":") != fdNames:
			t.Errorf("%q, %q: %d sockets with the names %q", fds, fdNames, count, names)
		}
	})
}
