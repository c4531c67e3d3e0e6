package edge

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// TestUserTimeoutIsForClosedConnections: it would cut a client that takes
// nothing for a while and answers TCP's probes.
func TestUserTimeoutIsForClosedConnections(t *testing.T) {
	e := testEdge(t, Options{Bounds: func(*Listening) Bounds { return Bounds{SlowConsumerTimeout: time.Minute} }})
	for name, c := range map[string]struct {
		unread int // bytes that the client has not taken
		ended  string
		want   time.Duration
	}{
		"all is taken":                 {0, report.EndedOrderly, userTimeout},
		"the client is slow":           {8 << 20, report.EndedOrderly, time.Minute},
		"the client has been too slow": {8 << 20, report.EndedSlow, userTimeout},
	} {
		server, _ := tcpPair(t)
		socket.Probe(tls.Server(server, &tls.Config{}), probes, false)
		if got := parts.UserTimeout(t, server); got != 0 {
			t.Errorf("%s: an accepted connection has the user time-out %v, want none", name, got)
		}
		_ = server.SetWriteDeadline(time.Now().Add(time.Second)) // it is open
		_, _ = server.Write(make([]byte, c.unread))              // as much as the kernel takes
		conn := e.newClient(server, e.own, e.o.Bounds(e.own))
		conn.life.end(c.ended)
		conn.boundRest()
		if got := parts.UserTimeout(t, server); got != c.want {
			t.Errorf("%s: the user time-out is %v, want %v", name, got, c.want)
		}
	}
}

// TestAcceptedConnectionsAreProbed, the first and the later ones of a listener, whose
// sockets begin so or not.
func TestAcceptedConnectionsAreProbed(t *testing.T) {
	for name, c := range map[string]struct {
		config *net.ListenConfig
		hide   bool // the listener's type
		begin  bool
		known  bool // from the first connection
	}{
		"with ListenConfig":       {ListenConfig(), false, true, true},
		"in a listener of others": {ListenConfig(), true, true, false},
		"with Go's":               {new(net.ListenConfig), false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := c.config.Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			if c.hide {
				ln = struct{ net.Listener }{ln}
			}
			e := testEdge(t, Options{})
			bound := e.bound(ln, e.own)
			for range 2 {
				client, err := net.Dial("tcp", ln.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				accepted, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				tcp := accepted.(*net.TCPConn)
				if got := socket.BeganProbing(tcp, probes); got != c.begin {
					t.Errorf("it began so: %v, want %v", got, c.begin)
				}
				conn := bound.begin(tcp)
				defer conn.Close()
				if bound.probing != c.known {
					t.Errorf("later connections begin so: %v, want %v", bound.probing, c.known)
				}
				isProbed(t, tcp)
			}
		})
	}
}

func isProbed(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if got := parts.UserTimeout(t, c); got != 0 {
		t.Errorf("user time-out %v, want none", got)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) {
		for o, want := range map[[2]int]int{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE}:   1,
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}:  int(probes.Idle.Seconds()),
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}: int(probes.Interval.Seconds()),
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT}:   probes.Count,
		} {
			if got, err := unix.GetsockoptInt(int(fd), o[0], o[1]); got != want || err != nil {
				t.Errorf("option %v is %d (%v), want %d", o, got, err, want)
			}
		}
	}); cerr != nil {
		t.Error(cerr)
	}
}
